"""Evaluate a checkpoint: accuracy of DEM, Recall@K of metric learning, mAP and CMC of re-identification."""
from src.set_parser import parse_args, run
from src.systems import load_system
from src.training.distributed import set_up
from src.training.fit import write_result


def main(argv=None):
    """Print the published line of figures; returns them as a dict."""
    args = parse_args('eval', argv)
    place = set_up(args.device_target, args.device_id)
    result = load_system(args, place).evaluate()
    if args.result_file:
        write_result(result, args.result_file)
    return result


if __name__ == '__main__':
    run(main)
