"""Export the network of a checkpoint as MINDIR, ONNX or AIR, and check that the file gives the network's output."""
from src.exported import export_network
from src.set_parser import parse_args, run
from src.systems import load_network
from src.training.distributed import set_up


def main(argv=None):
    """Returns the path of the exported model."""
    args = parse_args('export', argv)
    place = set_up(args.device_target, args.device_id)
    network, inputs = load_network(args)
    return export_network(network, inputs, file_name=args.file_name, file_format=args.file_format,
                          batch_size=args.batch_size, target=place.target)


if __name__ == '__main__':
    run(main)
