"""Train DEM, metric_learn, PaddleCV's metric learning or CTL: the dataset chooses the system."""
from src.common.run import run


def main(argv=None):
    """Train by the recipe that the flags choose; returns the summary, which is written as result.json."""
    from src.recipes.command_line import parse_args
    from src.recipes.recipe import describe
    command = parse_args('train', argv)
    recipe, options = command.make_recipe(), command.options
    print(command.why())
    if options.show_recipe:
        print(describe(recipe))
        return recipe
    # MindSpore takes a second to import, so not before it is needed.
    from src.common.device import set_up
    from src.systems import create_system
    from src.training.loop import fit
    from src.training.modelarts import copies, with_data
    from src.training.states import find_training
    folder, resume = options.save_ckpt, options.resume
    if options.checkpoint:
        folder, resume = find_training(options.checkpoint, folder if 'save_ckpt' in command.given else None,
                                       options.distribute)
    process = set_up(options.device_target, options.device_id, options.distribute, options.device_num, options.use_gpu)
    with copies(options.data_url, options.train_url, folder, process) as data:
        return fit(create_system(with_data(recipe, data), process), folder, resume, options.profile)


if __name__ == '__main__':
    run(main)
