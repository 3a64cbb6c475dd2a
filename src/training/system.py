"""The interface of systems that training, evaluation and export use."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from mindspore import Tensor, nn

from src.checkpoints.weights import Weights
from src.common.device import Process
from src.common.errors import InputError
from src.recipes.recipe import Recipe


class System(ABC):
    """Data, network, loss and accuracy that belong together.

    For training, prepare() is called first and sets the attributes. For evaluation, a loader sets `found` and `network`
    from a checkpoint and calls only evaluate().

    Args:
        recipe: hyper-parameters and data.
        process: this process among those that train together, and its device.

    Attributes:
        Found: dataclass of facts found in the data and the weights (widths, number of classes, conventions). With the recipe
            it determines the network; both are stored with a checkpoint.
        measure: name of the value of validate(), for the log.
        recipe: after prepare() the recipe of the training, including choices made on held-out classes.
        found: a Found.
        network, loss: Cells; the network is called with the first `network_columns` columns of a batch, the loss with the
            network's outputs and the other columns.
        steps_per_epoch: steps of an epoch, the same in all processes.
    """

    Found: type
    measure = 'accuracy'
    found: Any
    network: nn.Cell
    loss: nn.Cell
    network_columns: int = 1
    steps_per_epoch: int

    def __init__(self, recipe: Recipe, process: Process):
        self.recipe = recipe
        self.process = process

    @abstractmethod
    def prepare(self, found: Any = None) -> None:
        """Open the training data and set the attributes.

        Args:
            found: `found` of the training to resume, so that its choices are not made again.

        Raises:
            InputError: the data is missing or bad.
        """

    @classmethod
    @abstractmethod
    def build_network(cls, recipe: Recipe, found: Any) -> nn.Cell:
        """Build the network of the recipe and `found`, with initial weights."""

    @classmethod
    @abstractmethod
    def input_shapes(cls, network: nn.Cell, size: tuple[int, int] | None) -> list[tuple[int, ...]]:
        """Shapes of the network's inputs without the batch axis; size: height and width of images."""

    @classmethod
    def found_in_weights(cls, recipe: Recipe, weights: Weights) -> Any:
        """Make `found` for weights trained elsewhere, which have none."""
        return cls.Found()

    @classmethod
    def restored(cls, recipe: Recipe, found: Any) -> Recipe:
        """Recipe of a training, from the requested recipe and what was found and chosen."""
        return recipe

    @abstractmethod
    def batches(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, ...]]:
        """Batches of one epoch, counted from 0, without its first `skip` steps.

        Raises:
            InputError: an image cannot be read; names it.
        """

    def before_measuring(self, hurried: bool = False) -> None:  # noqa: B027 - most need nothing
        """Finish the trained network before it is measured or saved. hurried: a signal ends the training, so only
        instant work is done."""

    def run_on_test(self) -> None:
        """Run the network on the inputs of the test data, in the order of evaluate().

        Raises:
            InputError: as evaluate(), or the system cannot be measured on an Ascend 310.
        """
        raise InputError(f'{self.recipe.dataset}: cannot be measured on an Ascend 310; use eval.py')

    @classmethod  # noqa: B027 - most need nothing
    def export_beside(cls, network: nn.Cell, checkpoint: str, path: str) -> None:
        """Write the files that belong beside the exported model `path` of a checkpoint's network."""

    @abstractmethod
    def validate(self) -> float:
        """Value of the measure on the validation set, 0..1."""

    @abstractmethod
    def evaluate(self, checkpoint: str) -> dict[str, Any]:
        """Measure on the test data, print the published lines (which name the checkpoint) and return the results.

        Raises:
            InputError: the data is missing or bad.
        """

