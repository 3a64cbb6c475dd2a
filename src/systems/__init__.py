"""The published systems: for each, which data, network, loss and accuracy belong together.

A system has, for training: network and loss (Cells), inputs (how many columns of a batch are the network's, the others
are the loss's), steps_per_epoch, train_dataset(epoch, skip) -> the batches of one epoch from step `skip` on, reading(),
a context for the loop over them, validate() -> float; for evaluation: evaluate() -> dict of figures, printed as
published. input_shapes(network, args) are those of the network's inputs, for export.
"""
from pathlib import Path

from src.config import create_recipe
from src.errors import InputError
from src.networks import create_network
from src.networks.weights import load_weights
from src.systems.image_system import conventions
from src.systems.metric_learning import MetricLearning
from src.systems.reid import Reid
from src.systems.zero_shot import ZeroShot
from src.training.checkpoint import LAST, saved_recipe

SYSTEMS = {
    'zero_shot': ZeroShot,
    'metric_learning': MetricLearning,
    'reid': Reid,
}


def create_system(recipe, place):
    """The system a recipe belongs to, with its data loaded.

    Args:
        recipe (EasyDict): of src.config.create_recipe; gets the sizes that were read from the data.
        place (Place): of src.training.distributed.

    Raises:
        InputError: the data is missing or bad.
    """
    return SYSTEMS[recipe.system](recipe, place)


def find_checkpoint(path):
    """The checkpoint a flag names: a file, or the last one of a training's folder.

    Raises:
        InputError: there is none.
    """
    if not path:
        raise InputError('which checkpoint? Give --save_ckpt')
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / LAST).is_file():
        return path / LAST
    # A dot begins what a killed training left unfinished.
    states = sorted(path.glob('[!.]*.ckpt'), key=lambda p: p.stat().st_mtime)
    if not states:
        raise InputError(f'{path}: no checkpoint in this folder; give one, or a folder that a training has written')
    return states[-1]


def recipe_of(path, args):
    """The recipe to use a checkpoint by: the one it was trained by, else, as in a published one, what the flags say.

    Raises:
        InputError: the file cannot be read, or see create_recipe.
    """
    saved = saved_recipe(path)
    recipe = create_recipe(args, saved)
    if not saved and recipe.system != 'zero_shot' and Path(path).suffix != '.ckpt':
        recipe.network_options.update(conventions(path, saved))
    return recipe


def load_system(args, place):
    """The system of a checkpoint, with its data and its trained network, for evaluation.

    Args:
        args (Namespace): flags of eval.py.
        place (Place): of src.training.distributed.

    Raises:
        InputError: no such checkpoint, one of another network, or bad data.
    """
    path = find_checkpoint(args.save_ckpt)
    recipe = recipe_of(path, args)
    recipe.checkpoint = str(args.save_ckpt)
    system = SYSTEMS[recipe.system](recipe, place, training=False)
    load_weights(system.network, path)
    system.network.set_train(False)
    return system


def load_network(args):
    """The trained network of a checkpoint, without any data.

    Args:
        args (Namespace): flags of export.py; file_name, height and width are filled in where they were not given.

    Returns:
        (Cell, list of the shapes of its inputs without the batch).

    Raises:
        InputError: no such checkpoint, or one of another network.
    """
    path = find_checkpoint(args.save_ckpt)
    recipe = recipe_of(path, args)
    network = create_network(recipe.network, **recipe.network_options)
    load_weights(network, path)
    args.file_name = args.file_name or recipe.network
    size = recipe.get('image_size')
    height, width = size if isinstance(size, list) else (size, size)
    args.height, args.width = args.height or height, args.width or width
    return network, SYSTEMS[recipe.system].input_shapes(network, args)
