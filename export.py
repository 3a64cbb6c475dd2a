"""Export the network of a checkpoint as MINDIR, ONNX or AIR, and check that the file gives the network's output."""
from dataclasses import replace

from src.recipes.set_parser import parse_args, run


def main(argv=None):
    """Returns the path of the exported model."""
    command = parse_args('export', argv)
    # MindSpore takes a second to import: not before there is something to compute.
    from src.checkpoints.exported import export_network, network_identity
    from src.common.device import set_up
    from src.retrieval.embedding import check_turned
    from src.retrieval.naming import export_classes
    from src.systems.trained import load_trained
    options = command.options
    # MINDIR and ONNX are the same whatever device writes them, and compared to 1e-5 on a CPU alone.
    target = options.device_target if options.file_format == 'AIR' else 'CPU'
    process = set_up(target, options.device_id, use_gpu=options.use_gpu)
    trained = load_trained(command)
    shapes, card = trained.input_shapes(options.height, options.width), trained.card
    if options.height or options.width:
        card = replace(card, image_size=list(shapes[0][1:]))
        check_turned(card.image_size, bool(card.turned))
    path = export_network(trained.network, shapes, file_name=options.file_name or trained.name,
                          file_format=options.file_format, batch_size=options.batch_size, target=process.target, card=card)
    if trained.recipe.system == 'generalised':
        export_classes(trained.path, network_identity(trained.network), path)
    return path


if __name__ == '__main__':
    run(main)
