"""The contract that every system keeps: what training, evaluation and export ask of it."""
from abc import ABC, abstractmethod
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mindspore import Tensor, nn

from src.common.device import Process
from src.recipes.config import Recipe


class System(ABC):
    """Data, network, loss and accuracy that belong together.

    For training prepare() is called first, and then what it has set is used. For evaluation a loader sets `found` and
    `network`, both of a checkpoint, and calls evaluate() alone.

    Args:
        recipe: what to do.
        process: which share of the batches is this process's, and its device.

    Attributes:
        measure: what validate() returns, for the log.
        found: what was found in the data and the weights (widths, classes, conventions); JSON-able, saved beside the
            recipe. With the recipe it determines the network.
        network, loss: Cells; the loss is called with what the network returns and the columns of a batch after the first
            `network_columns`, which are the network's.
        steps_per_epoch: of this process, the same on all.
    """

    measure = 'accuracy'
    found: Dict[str, Any]
    network: nn.Cell
    loss: nn.Cell
    network_columns: int = 1
    steps_per_epoch: int

    def __init__(self, recipe: Recipe, process: Process):
        self.recipe = recipe
        self.process = process

    @abstractmethod
    def prepare(self, found: Optional[Dict[str, Any]] = None) -> None:
        """Open the training data and set the attributes.

        Args:
            found: what a training that goes on had found, so that what was chosen then is not chosen again.

        Raises:
            InputError: the data is missing or bad.
        """

    @classmethod
    @abstractmethod
    def build_network(cls, recipe: Recipe, found: Dict[str, Any]) -> nn.Cell:
        """The network of a recipe and of what was found, with initial weights."""

    @classmethod
    @abstractmethod
    def input_shapes(cls, network: nn.Cell, size: Optional[Tuple[int, int]]) -> List[Tuple[int, ...]]:
        """Shapes of the network's inputs without the batch; size: height and width of images."""

    @classmethod
    def found_in_weights(cls, recipe: Recipe, weights) -> Dict[str, Any]:
        """`found` for weights of another project, which bring none."""
        return {}

    @abstractmethod
    def batches(self, epoch: int, skip: int) -> Iterator[Tuple[Tensor, ...]]:
        """The batches of one epoch, counted from 0, without its first `skip` steps.

        Raises:
            InputError: an image cannot be read; it is named.
        """

    def before_measuring(self, hurried: bool = False) -> None:  # noqa: B027 - most need nothing
        """What a network needs after steps of training and before it is measured or kept; hurried: a signal ends the
        training, so that only what takes no time is done."""

    @abstractmethod
    def validate(self) -> float:
        """The measure on what the recipe holds out, 0..1."""

    @abstractmethod
    def evaluate(self, checkpoint: str) -> Dict[str, Any]:
        """Measure on the test data, print the published lines (which name the checkpoint), return the figures.

        Raises:
            InputError: the data is missing or bad.
        """
