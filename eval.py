"""Evaluate a checkpoint: accuracy of DEM, Recall@K of metric learning, mAP and CMC of re-identification."""
from src.common.errors import InputError
from src.common.run import run


def main(argv=None):
    """Print the results in the published format; returns them as a dict."""
    from src.recipes.command_line import parse_args
    command = parse_args('eval', argv)
    # MindSpore takes a second to import, so not before it is needed.
    from src.common.device import set_up
    from src.common.files import check_replaceable
    from src.common.records import write_json
    from src.systems.trained import evaluate, load_trained
    options = command.options
    if options.result_file:
        check_replaceable(options.result_file, [b'"accuracy"'], '--result_file')
    process = set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
    trained = load_trained(options.save_ckpt, recipe_for=command.recipe_for)
    try:
        result = evaluate(trained, process, str(options.save_ckpt))
    except InputError as error:
        if options.result_file and error.figures:
            write_json(options.result_file, error.figures)
        raise
    if options.result_file:
        write_json(options.result_file, result)
    return result


if __name__ == '__main__':
    run(main)
