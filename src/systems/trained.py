"""Load a checkpoint with its recipe and network, for evaluation, export and inference."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import mindspore as ms
from mindspore import nn

from src.checkpoints.checkpoint import find_checkpoint
from src.checkpoints.exported import Card, network_identity
from src.checkpoints.weights import load_weights, read_weights
from src.common.device import Process
from src.common.errors import InputError
from src.common.imagenet import DEVIATION, MEAN
from src.common.records import as_table, read_record
from src.common.values import height_width
from src.recipes.recipe import Changes, Recipe, read_recipe, use_recipe
from src.recipes.systems import SYSTEMS
from src.retrieval.embedding import EmbeddingOptions, embedding_identity
from src.retrieval.thresholds import read_threshold, threshold_path
from src.systems import create_system, system_class
from src.training.system import System

# (recipe of the training, None for weights of another origin; that origin; entries known from it) -> recipe to use the
# weights with.
RecipeFor = Callable[[Optional[Recipe], str, Mapping[str, Any]], Recipe]


@dataclass(frozen=True)
class Trained:
    """A trained network, the recipe to use it with, the `found` of its training, and its file."""
    network: nn.Cell
    recipe: Recipe
    found: Any
    path: str

    @property
    def name(self) -> str:
        """Name for files of this network."""
        system = self.recipe.system
        return str(self.recipe.get('network') or self.recipe.get('backbone', system) + '_reid' * (system == 'reid'))

    @property
    def takes_images(self) -> bool:
        """Whether the network takes images, rather than arrays."""
        return SYSTEMS[self.recipe.system].images

    @property
    def options(self) -> EmbeddingOptions:
        """Preprocessing and test-time augmentation. Raises InputError if the network takes no images."""
        if not self.takes_images:
            raise InputError(f'{self.path}: a network of {SYSTEMS[self.recipe.system].title}, which takes no images; use '
                             'eval.py')
        return EmbeddingOptions.of_recipe(self.recipe)

    @property
    def identity(self) -> str:
        """Identity of its embeddings, for galleries."""
        return embedding_identity(network_identity(self.network), self.options)

    def card(self, size: Optional[Tuple[int, int]] = None) -> Card:
        """Card of the exported network: the facts needed to use it without the checkpoint.

        Args:
            size: height and width of the exported network's images, None for the recipe's.

        Raises:
            InputError: the threshold beside the checkpoint is of another network, or images to be turned are not square.
        """
        recipe = Recipe({**self.recipe, 'image_size': list(size)}) if size else self.recipe
        known = dict(recipe)
        if self.takes_images:
            options = EmbeddingOptions.of_recipe(recipe)
            known = {**vars(options), **known, 'mean': None, 'deviation': None}
            if (options.mean, options.deviation) != (MEAN, DEVIATION):
                known.update(mean=list(options.mean), deviation=list(options.deviation))
        path, kept = threshold_path(self.path), None
        if Path(path).is_file():
            kept = read_threshold(path)
            kept.check(path, network_identity(self.network))
        return Card(**{name: known[name] for name in Card.__dataclass_fields__ if name in known},
                    threshold=as_table(kept) if kept else None)

    def input_shapes(self, height: Optional[int] = None, width: Optional[int] = None) -> List[Tuple[int, ...]]:
        """Shapes of the network's inputs without the batch axis; images have the recipe's size unless another is given.

        Raises:
            InputError: a size for a network that takes no images.
        """
        size = None
        if self.takes_images:
            own = height_width(self.recipe.image_size)
            size = height or own[0], width or own[1]
        elif height or width:
            raise InputError(f'--height, --width: {self.path} is a network of {SYSTEMS[self.recipe.system].title}, which takes '
                             'no images; leave them out')
        return system_class(self.recipe.system).input_shapes(self.network, size)


def load_trained(path: Union[str, Path, None], changes: Changes = (), recipe_for: Optional[RecipeFor] = None) -> Trained:
    """Load the trained network of a checkpoint, in evaluation mode; reads no data.

    Args:
        path: a checkpoint or weight file, or the folder of a training.
        changes: changes of its recipe, see src.recipes.recipe.make_recipe.
        recipe_for: used instead of `changes`, and for weights without a recipe.

    Raises:
        InputError: no such file, a file of another network, or weights without a recipe if recipe_for is not given.
    """
    weights = read_weights(find_checkpoint(path))
    recorded = weights.recorded
    saved = read_recipe(recorded.recipe, weights.path) if recorded and recorded.recipe else None
    if recipe_for:
        recipe = recipe_for(saved, weights.source, {})
    elif saved:
        recipe = use_recipe(saved, changes)
    else:
        raise InputError(f'{weights.path}: holds no recipe of this project; give the recipe to use it with '
                         "(recipe_for=lambda *_: make_recipe('SOP', 'softmax'))")
    system = system_class(recipe.system)
    found = (read_record(system.Found, recorded.found, f'{weights.path}: found') if recorded
             else system.found_in_weights(recipe, weights))
    recipe = system.restored(recipe, found)
    network = system.build_network(recipe, found)
    report = load_weights(network, weights)
    if (report.dropped or report.prefix) and not recorded:
        print(f'{weights.path}: {report}')
    network.set_train(False)
    return Trained(network, recipe, found, str(weights.path))


def system_for(trained: Trained, process: Optional[Process] = None) -> System:
    """System of a trained network, ready to evaluate; process: None for a single process on MindSpore's device."""
    process = process or Process(ms.get_context('device_target'), 0, 0, 1)
    system: System = create_system(trained.recipe, process)
    system.found, system.network = trained.found, trained.network
    return system


def evaluate(trained: Trained, process: Optional[Process] = None, name: Optional[str] = None) -> Dict[str, Any]:
    """Measure a trained network on the test data of its recipe; prints the published lines and returns the results.

    Args:
        trained: from load_trained. process: see system_for. name: name of the checkpoint in the lines, None for its path.

    Raises:
        InputError: the data is missing or bad.
    """
    return system_for(trained, process).evaluate(name or trained.path)
