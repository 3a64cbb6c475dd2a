"""DEM's networks: class semantics mapped into the space of visual features (arXiv 1611.05088, section 3.2)."""
from typing import Optional, Sequence, Tuple

import mindspore.nn as nn
from mindspore import Tensor, mint
from mindspore.common.initializer import Normal

from src.common.errors import InputError


class SemanticNetwork(nn.Cell):
    """Base type: class semantics, one or several (C, width) float32 -> prototypes (C, V) float32.

    Attributes:
        input_widths: width of each input.
        hidden_width: width of the dropout mask `keep` that may follow the semantics; 0 if the network takes none.
        tolerance: how far two computations of the output may differ by rounding, relative to its largest value.
    """

    input_widths: Tuple[int, ...]
    hidden_width: int = 0
    tolerance: float = 0.0


def check_layers(widths: Sequence[int], sigmas: Sequence[float], layers: int) -> None:
    """Raise InputError unless all widths are positive and every layer has its sigma."""
    if min(widths) < 1 or len(sigmas) != layers:
        raise InputError(f'network_options: expected widths of at least 1 and {layers} sigmas, found widths '
                         f'{", ".join(map(str, widths))} and sigmas {list(sigmas)}')


def dense(input_dim: int, output_dim: int, sigma: float) -> nn.Dense:
    """A Dense layer with Normal initial weights of deviation sigma and biases of 0."""
    return nn.Dense(input_dim, output_dim, weight_init=Normal(sigma), bias_init='zeros')


def _scaled_tanh(x: Tensor) -> Tensor:
    # tanh(2x / 3) through sigmoid: MindSpore 2.8's tanh is off by up to 1e-4 on CPU, its sigmoid by 1e-6.
    return 1.7159 * (2 * mint.sigmoid(4 / 3 * x) - 1)


class PathNetwork(SemanticNetwork):
    """Layers fc1, fc2, ... of Dense and ReLU for one kind of class semantics.

    Args:
        dims: width of the input, of every hidden layer and of the output.
        sigmas: deviation of the Normal initial weights of every layer; biases start at 0.
        output_relu: whether ReLU follows the last layer too, as published.

    Inputs: semantics (N, dims[0]) float32; optionally keep (N, dims[-2]) float32, a dropout mask for the last hidden
    layer, which is drawn with the batch so that a resumed training draws the same.
    Outputs: (N, dims[-1]) float32.
    """

    def __init__(self, dims: Sequence[int], sigmas: Sequence[float], output_relu: bool = True):
        super().__init__()
        check_layers(dims, sigmas, len(dims) - 1)
        self.names = [f'fc{i + 1}' for i in range(len(dims) - 1)]
        for i, name in enumerate(self.names):
            setattr(self, name, dense(dims[i], dims[i + 1], sigmas[i]))
        self.output_relu = output_relu
        self.input_widths = (dims[0],)
        self.hidden_width = dims[-2] if len(dims) > 2 else 0

    def construct(self, semantics: Tensor, keep: Optional[Tensor] = None) -> Tensor:
        x = semantics
        for name in self.names[:-1]:
            x = mint.nn.functional.relu(getattr(self, name)(x))
        if keep is not None:
            x = x * keep
        x = getattr(self, self.names[-1])(x)
        return mint.nn.functional.relu(x) if self.output_relu else x


class FusionNetwork(SemanticNetwork):
    """Attributes and word vectors summed in one hidden layer: word path + 3 * attribute path.

    Both paths go through the scaled tanh 1.7159 * tanh(2x / 3) (LeCun et al., Efficient BackProp).

    Args:
        attribute_dim, word_dim, hidden_dim, visual_dim: widths.
        sigmas: deviation of the Normal initial weights of the word layer fc1, the attribute layer fc2 and fc3; biases
            start at 0.
        output_relu: whether ReLU follows fc3, as published.

    Inputs: attribute (N, attribute_dim), word (N, word_dim), float32. Outputs: (N, visual_dim) float32.
    """

    def __init__(self, attribute_dim: int, word_dim: int, hidden_dim: int, sigmas: Sequence[float],
                 visual_dim: int = 1024, output_relu: bool = True):
        super().__init__()
        check_layers((attribute_dim, word_dim, hidden_dim, visual_dim), sigmas, 3)
        self.fc1 = dense(word_dim, hidden_dim, sigmas[0])
        self.fc2 = dense(attribute_dim, hidden_dim, sigmas[1])
        self.fc3 = dense(hidden_dim, visual_dim, sigmas[2])
        self.output_relu = output_relu
        self.input_widths = (attribute_dim, word_dim)

    def construct(self, attribute: Tensor, word: Tensor) -> Tensor:
        x = self.fc3(_scaled_tanh(self.fc1(word)) + 3 * _scaled_tanh(self.fc2(attribute)))
        return mint.nn.functional.relu(x) if self.output_relu else x


def attribute_network(attribute_dim: int, hidden_dim: int, sigmas: Sequence[float], visual_dim: int = 1024,
                      output_relu: bool = True) -> PathNetwork:
    """Two layers: attributes (N, attribute_dim) -> (N, visual_dim)."""
    return PathNetwork((attribute_dim, hidden_dim, visual_dim), sigmas, output_relu)


def word_network(word_dim: int, sigmas: Sequence[float], visual_dim: int = 1024, output_relu: bool = True) -> PathNetwork:
    """One layer: word vectors (N, word_dim) -> (N, visual_dim)."""
    return PathNetwork((word_dim, visual_dim), sigmas, output_relu)
