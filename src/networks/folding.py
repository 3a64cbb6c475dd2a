"""BatchNorm folded into the convolutions before it, for a network that only embeds."""
import copy
from typing import Any

import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray


class Shift(nn.Cell):
    """Remainder of a folded BatchNorm: one number added to each channel.

    Args:
        shift: (C,) float32 array.

    Inputs and outputs: (N, C, H, W).
    """

    def __init__(self, shift: NDArray[Any]) -> None:
        super().__init__()
        self.shift = Parameter(Tensor(shift), name='shift', requires_grad=False)
        self.add = ops.BiasAdd()

    def construct(self, x: Tensor) -> Tensor:
        return self.add(x, self.shift)


def fold_batch_norm(network: nn.Cell) -> nn.Cell:
    """Copy a network for evaluation with every BatchNorm2d folded into the convolution before it.

    A cell's BatchNorm2d counts as following its convolution if it is the next child of the cell, as in src.networks.resnet. The
    outputs are equal but for rounding (1e-5); its parameters differ, so the copy must be neither trained nor saved.

    Args:
        network: in any mode; it is not changed.

    Returns:
        Cell in evaluation mode with the inputs and outputs of `network`.
    """
    folded = copy.deepcopy(network)
    for _, cell in list(folded.cells_and_names()):
        children = list(cell.name_cells().items())
        for (_, conv), (name, norm) in zip(children, children[1:]):
            if not (isinstance(conv, nn.Conv2d) and not conv.has_bias and isinstance(norm, nn.BatchNorm2d)):
                continue
            gamma, beta, mean, variance = (p.asnumpy().astype(np.float64)
                                           for p in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance))
            scale = gamma / np.sqrt(variance + norm.eps)
            weight = conv.weight.asnumpy() * scale[:, None, None, None]
            conv.weight.set_data(Tensor(weight.astype(np.float32)))
            shift = Shift((beta - mean * scale).astype(np.float32))
            if isinstance(cell, nn.SequentialCell):
                cell[children.index((name, norm))] = shift
            else:
                setattr(cell, name, shift)
            # The assignment renames it to 'bn1.shift' in every block, and two parameters may not share a name.
            shift.shift.name = norm.beta.name
    return folded.set_train(False)
