"""Train DEM, metric_learn, PaddleCV's metric learning or CTL: the dataset or the loss chooses the system."""
import mindspore as ms

from src.config import create_recipe
from src.set_parser import parse_args, run
from src.systems import create_system
from src.training.checkpoint import find_training
from src.training.distributed import set_up
from src.training.fit import fit


def main(argv=None):
    """Train by the recipe that the flags choose; returns the summary that is written as result.json."""
    args = parse_args('train', argv)
    folder, resume = args.save_ckpt or 'output', args.resume
    if args.checkpoint:
        folder, resume = find_training(args.checkpoint, args.save_ckpt, args.distribute)
    recipe = create_recipe(args)
    place = set_up(args.device_target, args.device_id, args.distribute, args.device_num)
    ms.set_seed(recipe.seed)
    system = create_system(recipe, place)
    return fit(system, recipe, place, folder, resume)


if __name__ == '__main__':
    run(main)
