"""The contract that every system keeps: what training, evaluation and export ask of it."""
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

    For training prepare() is called first, and then what it has set is used. For evaluation a loader sets `found` and
    `network`, both of a checkpoint, and calls evaluate() alone.

    Args:
        recipe: what to do.
        process: this process among those that train together, and its device.

    Attributes:
        Found: dataclass of what is found in the data and the weights (widths, number of classes, conventions). With the recipe
            it determines the network; both are stored with a checkpoint.
        measure: what validate() returns, for the log.
        recipe: after prepare() that of the training, with what was chosen on held-out classes.
        found: a Found.
        network, loss: Cells; the loss is called with what the network returns and the columns of a batch after the first
            `network_columns`, which are the network's.
        steps_per_epoch: of this process, equal on all.
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
            found: what a resumed training had found, so that what was chosen then is not chosen again.

        Raises:
            InputError: the data is missing or bad.
        """

    @classmethod
    @abstractmethod
    def build_network(cls, recipe: Recipe, found: Any) -> nn.Cell:
        """The network of a recipe and of what was found, with initial weights."""

    @classmethod
    @abstractmethod
    def input_shapes(cls, network: nn.Cell, size: tuple[int, int] | None) -> list[tuple[int, ...]]:
        """Shapes of the network's inputs without the batch; size: height and width of images."""

    @classmethod
    def found_in_weights(cls, recipe: Recipe, weights: Weights) -> Any:
        """`found` for weights that were trained elsewhere and bring none."""
        return cls.Found()

    @classmethod
    def restored(cls, recipe: Recipe, found: Any) -> Recipe:
        """The recipe of a training, from the one that was asked for and what it had found and chosen."""
        return recipe

    @abstractmethod
    def batches(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, ...]]:
        """The batches of one epoch, counted from 0, without its first `skip` steps.

        Raises:
            InputError: an image cannot be read; it is named.
        """

    def before_measuring(self, hurried: bool = False) -> None:  # noqa: B027 - most need nothing
        """Finish a network after steps of training, before it is measured or kept. hurried: a signal ends the training, so
        only what takes no time is done."""

    def run_on_test(self) -> None:
        """Run the network on the inputs of the test data, in the order of evaluate().

        Raises:
            InputError: as evaluate(), or the system cannot be measured on an Ascend 310.
        """
        raise InputError(f'{self.recipe.dataset}: cannot be measured on an Ascend 310; use eval.py')

    @classmethod  # noqa: B027 - most need nothing
    def export_beside(cls, network: nn.Cell, checkpoint: str, path: str) -> None:
        """Write what belongs beside the exported model `path` of a checkpoint's network."""

    @abstractmethod
    def validate(self) -> float:
        """The measure on what the recipe holds out, 0..1."""

    @abstractmethod
    def evaluate(self, checkpoint: str) -> dict[str, Any]:
        """Measure on the test data, print the published lines (which name the checkpoint), return the figures.

        Raises:
            InputError: the data is missing or bad.
        """

