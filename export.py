"""Export the network of a checkpoint as MINDIR, ONNX or AIR, and check that the file gives the network's output."""
from src.common.run import run


def main(argv=None):
    """Export the checkpoint that the flags name; returns the path of the exported model."""
    from src.recipes.command_line import parse_args
    command = parse_args('export', argv)
    # MindSpore takes a second to import, so not before it is needed.
    from src.checkpoints.exported import export_network
    from src.common.device import cap_instruction_set, set_up
    from src.systems import system_class
    from src.systems.trained import load_trained
    options = command.options
    # MINDIR and ONNX files do not depend on the device; their outputs are compared to 1e-5 only on a CPU.
    target = options.device_target if options.file_format == 'AIR' else 'CPU'
    if options.device_target not in (None, target):
        print(f'--device_target={options.device_target}: has no effect on {options.file_format} files')
    process = set_up(target, options.device_id, use_gpu=options.use_gpu)
    # The exported convolutions are MindSpore's.
    cap_instruction_set()
    trained = load_trained(options.save_ckpt, recipe_for=command.recipe_for)
    shapes = trained.input_shapes(options.height, options.width)
    card = trained.card(shapes[0][1:] if options.height or options.width else None)
    path = export_network(trained.network, shapes, file_name=options.file_name or trained.name,
                          file_format=options.file_format, batch_size=options.batch_size, target=process.target, card=card)
    system_class(trained.recipe.system).export_beside(trained.network, trained.path, path)
    return path


if __name__ == '__main__':
    run(main)
