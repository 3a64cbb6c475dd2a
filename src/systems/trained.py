"""From a checkpoint to its recipe and its network: the one way that evaluation, export and inference take."""
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from mindspore import nn

from src.checkpoints.checkpoint import find_checkpoint
from src.checkpoints.exported import Card, network_identity
from src.checkpoints.weights import Weights, load_weights, read_weights
from src.common.errors import InputError
from src.recipes.config import Recipe
from src.recipes.set_parser import Command, make_recipe, use_recipe
from src.retrieval.search import read_threshold
from src.systems import create_system, system_class
from src.systems.images import EMBEDDING
from src.systems.system import System


class Trained(NamedTuple):
    """A trained network, the recipe to use it by, what was found when it was trained, and its file."""
    network: nn.Cell
    recipe: Recipe
    found: Dict[str, Any]
    path: str

    @property
    def name(self) -> str:
        """A name for files of this network."""
        return self.recipe.get('network') or f'{self.recipe.backbone}{"_reid" * (self.recipe.system == "reid")}'

    @property
    def card(self) -> Card:
        """What somebody who has the exported network alone must know to use it; InputError: a threshold of another."""
        recipe = self.recipe
        names = ('recipe', 'system', 'dataset', 'image_size', *EMBEDDING)
        threshold = read_threshold(self.path, model=network_identity(self.network))
        return Card(**{name: recipe[name] for name in names if name in recipe}, threshold=threshold)

    def input_shapes(self, height: Optional[int] = None, width: Optional[int] = None) -> List[Tuple[int, ...]]:
        """Shapes of the network's inputs without the batch; images of the recipe's size unless another is given.

        Raises:
            InputError: a size for a network that takes no images.
        """
        size = self.recipe.get('image_size')
        if size is None and (height or width):
            raise InputError(f'--height, --width: {self.path} is a network of class semantics, which has no images; leave '
                             'them out')
        trained_height, trained_width = size if isinstance(size, list) else (size, size)
        return system_class(self.recipe.system).input_shapes(
            self.network, (height or trained_height, width or trained_width))


def recipe_of(weights: Weights, command: Command) -> Recipe:
    """The recipe to use weights by: the one they were trained by, else, in published ones, what the flags say.

    Raises:
        InputError: see make_recipe and use_recipe.
    """
    if weights.recorded and weights.recorded.recipe:
        return use_recipe(command, weights.recorded.recipe)
    return make_recipe(command, 'paddle' if weights.source == 'paddle' else None)[0]


def load_trained(command: Command, weights: Optional[Weights] = None) -> Trained:
    """The trained network of the checkpoint that --save_ckpt names, without any data.

    Raises:
        InputError: no such checkpoint, or one of another network.
    """
    weights = weights or read_weights(find_checkpoint(command.options.save_ckpt))
    recipe = recipe_of(weights, command)
    system = system_class(recipe.system)
    found = weights.recorded and weights.recorded.found or system.found_in_weights(recipe, weights)
    network = system.build_network(recipe, found)
    report = load_weights(network, weights)
    if report.dropped and not weights.recorded:
        print(f'{weights.path}: {report}')
    network.set_train(False)
    return Trained(network, recipe, found, str(weights.path))


def load_system(command: Command, process) -> System:
    """The system of a checkpoint with its trained network, for evaluation. Raises InputError as load_trained."""
    trained = load_trained(command)
    system = create_system(trained.recipe, process)
    system.found, system.network = trained.found, trained.network
    return system


def no_images(recipe: Recipe, path: str) -> None:
    """Raise InputError where a network takes no images."""
    if recipe.system in ('zero_shot', 'generalised'):
        raise InputError(f'{path}: a network of class semantics (DEM), which has no images; use eval.py')
