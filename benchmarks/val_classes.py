"""Train a recipe of GBU without the benchmark's val classes and measure it on them: a program for compare.py.

    python benchmarks/compare.py OUT @benchmarks/gbu_ablation.txt --seeds=5 --all=--data_path=xlsa17/data/CUB

Takes the flags of train.py. The seen classes that are no val classes are trained on, and the val classes are the unseen ones;
test images are not looked at. A seed draws the initial weights, the batches and the images that play the seen test. The
recipe is trained as it is: none of its candidates is tried.

result.json has T1 as `accuracy`, and as `measures` T1 and H at the best gamma of the curve (optimistic for all recipes
alike), H at gamma 0, and T1 and H of the networks alone, without the regression that the recipe may mix with them.
"""
import tools  # noqa: F401 - puts the project on sys.path

from src.common.device import set_up
from src.common.records import write_json
from src.common.run import run
from src.datasets.gbu import open_gbu
from src.recipes.command_line import parse_args
from src.systems.generalised import Trial
from src.training.states import RESULT


def main(argv=None):
    """Train and write SAVE_CKPT/result.json; returns its contents."""
    command = parse_args('train', argv)
    recipe, options = command.make_recipe(), command.options
    process = set_up(options.device_target, options.device_id)
    bench = open_gbu(recipe.data_path, recipe.features, recipe.splits)
    data = bench.choosing(recipe.seed)
    # As many steps an image as a training on all seen classes takes.
    (_, curve), *mixed = Trial(recipe, process, {}).run(data, len(data.train_labels) / len(bench.trainval))
    alone = next((other for changes, other in mixed if changes == {'kernel_options.share': 0.0}), curve)

    def best(of):
        return of.at(of.best_gamma())['H']
    measures = {'T1': curve.unseen_alone, 'H': best(curve), 'H, gamma 0': curve.at(0.0)['H'],
                'T1, networks alone': alone.unseen_alone, 'H, networks alone': best(alone)}
    result = {'accuracy': curve.unseen_alone, 'measures': measures, 'history': [], 'recipe': recipe}
    write_json(f'{options.save_ckpt}/{RESULT}', result)
    return result


if __name__ == '__main__':
    run(main)
