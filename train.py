"""Train DEM, metric_learn, PaddleCV's metric learning or CTL: the dataset chooses the system."""
from src.recipes.config import describe
from src.recipes.set_parser import make_recipe, parse_args, run


def main(argv=None):
    """Train by the recipe that the flags choose; returns the summary that is written as result.json."""
    command = parse_args('train', argv)
    recipe, why = make_recipe(command)
    print(why)
    options = command.options
    if options.show_recipe:
        print(describe(recipe))
        return recipe
    # MindSpore takes a second to import: not before there is something to compute.
    import mindspore as ms

    from src.common.device import set_up
    from src.systems import create_system
    from src.training.loop import fit
    from src.training.states import find_training
    folder, resume = options.save_ckpt, options.resume
    if options.checkpoint:
        folder, resume = find_training(options.checkpoint, folder if 'save_ckpt' in command.given else None,
                                       options.distribute)
    process = set_up(options.device_target, options.device_id, options.distribute, options.device_num, options.use_gpu,
                     own_networks=True)
    ms.set_seed(recipe.seed)
    return fit(create_system(recipe, process), recipe, process, folder, resume)


if __name__ == '__main__':
    run(main)
