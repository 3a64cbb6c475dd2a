"""Export the network of a checkpoint as MINDIR, ONNX or AIR, and check that the file gives the network's output."""
from src.set_parser import parse_args, run


def main(argv=None):
    """Returns the path of the exported model."""
    command = parse_args('export', argv)
    # MindSpore takes a second to import: not before there is something to compute.
    from src.device import set_up
    from src.exported import export_network
    from src.systems import system_class
    from src.systems.trained import image_size, load_trained
    options = command.options
    process = set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
    trained = load_trained(command)
    size = image_size(trained.recipe, options.height, options.width)
    shapes = system_class(trained.recipe.system).input_shapes(trained.network, size)
    return export_network(trained.network, shapes, options.file_name or trained.name, options.file_format,
                          options.batch_size, process)


if __name__ == '__main__':
    run(main)
