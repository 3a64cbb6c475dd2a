"""Class semantics to prototypes through class normalisation (Skorokhodov, Elhoseiny, arXiv 2006.11328)."""
from typing import Optional

import mindspore as ms
from mindspore import Parameter, Tensor, mint, nn, ops
from mindspore.common.initializer import Uniform, initializer

from src.common.errors import InputError
from src.networks.demnet import SemanticNetwork, check_layers


class DividedByVariance(nn.Cell):
    """(x - mean) / (variance + 1e-5) of every column over the rows, without learnt scale; in evaluation by running statistics.

    As the notebook published with the paper has it: the variance (with n - 1) instead of its root, momentum 0.9.

    Inputs: (C, width) float32, C > 1 in training. Outputs: the same shape.
    """

    def __init__(self, width: int):
        super().__init__()
        self.moving_mean = Parameter(initializer('zeros', (width,), ms.float32), name='moving_mean', requires_grad=False)
        self.moving_variance = Parameter(initializer('ones', (width,), ms.float32), name='moving_variance', requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        if not self.training:
            return (x - self.moving_mean) / (self.moving_variance + 1e-5)
        mean = x.mean(axis=0)
        centred = x - mean
        variance = (centred * centred).sum(axis=0) / (x.shape[0] - 1)
        out = centred / (variance + 1e-5)
        for running, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            out = ops.depend(out, ops.assign(running, 0.9 * running + 0.1 * ops.stop_gradient(now)))
        return out


class ClassNormalisedNetwork(SemanticNetwork):
    """Dense, ReLU, Dense, CS, ReLU, CS, Dense, where CS standardises every unit over the classes of the batch.

    CS subtracts the mean and divides by the deviation, without learnt scale; in evaluation by running statistics. The
    last layer starts so that a prototype's variance does not grow with the widths: uniform in
    +-sqrt(3 / (hidden_dim * visual_dim)) (section 3.3), which assumes that its inputs come from CS.

    Args:
        attribute_dim, hidden_dim, visual_dim: widths.
        output_relu: whether ReLU follows the last layer, as published for features that are not negative.
        divisor: 'deviation', as the paper says, or 'variance', as its published notebook computes.

    Inputs: semantics (C, attribute_dim) float32, C > 1 in training; optionally keep (C, hidden_dim), a dropout mask for
    the last hidden layer. Outputs: (C, visual_dim) float32.
    """

    def __init__(self, attribute_dim: int, hidden_dim: int = 1024, visual_dim: int = 1024, output_relu: bool = True,
                 divisor: str = 'deviation'):
        super().__init__()
        if divisor not in ('deviation', 'variance'):
            raise InputError(f'network_options.divisor={divisor}: choose deviation or variance')
        check_layers((attribute_dim, hidden_dim, visual_dim), (), 0)
        self.fc1 = nn.Dense(attribute_dim, hidden_dim)
        self.fc2 = nn.Dense(hidden_dim, hidden_dim)
        bound = (3 / (hidden_dim * visual_dim)) ** 0.5
        self.fc3 = nn.Dense(hidden_dim, visual_dim, weight_init=Uniform(bound), bias_init='zeros')
        self.cs1, self.cs2 = (nn.BatchNorm1d(hidden_dim, affine=False) if divisor == 'deviation'
                              else DividedByVariance(hidden_dim) for _ in range(2))
        self.output_relu = output_relu
        self.input_widths = (attribute_dim,)
        self.hidden_width = hidden_dim

    def construct(self, semantics: Tensor, keep: Optional[Tensor] = None) -> Tensor:
        x = self.fc2(mint.nn.functional.relu(self.fc1(semantics)))
        x = self.cs2(mint.nn.functional.relu(self.cs1(x)))
        if keep is not None:
            x = x * keep
        x = self.fc3(x)
        return mint.nn.functional.relu(x) if self.output_relu else x
