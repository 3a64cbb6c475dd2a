"""Several semantic networks and a kernel ridge regression, combined into one network."""
from typing import Any, Optional, Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, mint, ops
from mindspore.common.initializer import Normal, initializer
from numpy.typing import NDArray

from src.networks.demnet import SemanticNetwork, check_layers, dense
from src.networks.heads import unit_length


def _fixed(shape: Sequence[int], name: str) -> Parameter:
    return Parameter(initializer('zeros', shape, ms.float32), name=name, requires_grad=False)


class EnsembleNetwork(SemanticNetwork):
    """`members` networks of Dense, ReLU, Dense, trained together, and a kernel ridge regression.

    The members' part of a prototype is the mean of their outputs, each at unit length, in the space of the features. The
    regression's part lies in the space of features times `whitening`. Both parts are scaled to unit length, then by
    sqrt(1 - share) and sqrt(share). For features treated alike the cosine is therefore the weighted mean
    (1 - share) * members' cosine + share * regression's cosine.
    The regression's parameters are not trained: src.systems.generalised computes them (src.accuracy.kernel_ridge).

    Args:
        attribute_dim, hidden_dim, visual_dim: widths.
        members: number of networks.
        classes: number of seen classes.
        width: of the kernel exp(-width * |a - b|^2 / A), A the attribute_dim; 0 for the linear kernel a.b / A.
        share: weight of the regression, 0..1.
        sigmas: deviation of the Normal initial weights of both layers.

    Inputs: semantics (C, attribute_dim) float32; in training optionally keep (C, members * hidden_dim), a dropout mask
    for the hidden layers.
    Outputs: (C, 2 * visual_dim) float32; in training (members, C, visual_dim), of the members alone.
    """

    # The regression is a sum of large terms that cancel: rounding in float32 shows (1.2e-5 measured on CUB).
    tolerance = 1e-4

    def __init__(self, attribute_dim: int, hidden_dim: int = 700, visual_dim: int = 1024, members: int = 3,
                 classes: int = 1, width: float = 0.3, share: float = 0.5, sigmas: Sequence[float] = (0.01, 0.001)):
        super().__init__()
        check_layers((attribute_dim, hidden_dim, visual_dim, members), sigmas, 2)
        self.fc1 = dense(attribute_dim, members * hidden_dim, sigmas[0])
        self.fc2 = Parameter(initializer(Normal(sigmas[1]), (members, hidden_dim, visual_dim), ms.float32), name='fc2.weight')
        self.fc2_bias = Parameter(initializer('zeros', (members, 1, visual_dim), ms.float32), name='fc2.bias')
        self.centres = _fixed((classes, attribute_dim), 'kernel.centres')
        self.weights = _fixed((classes, visual_dim), 'kernel.weights')
        self.whitening = _fixed((visual_dim, visual_dim), 'kernel.whitening')
        self.shape = (-1, members, hidden_dim)
        self.width, self.share = width, share
        self.input_widths = (attribute_dim,)
        self.hidden_width = members * hidden_dim

    def construct(self, semantics: Tensor, keep: Optional[Tensor] = None) -> Tensor:
        x = mint.nn.functional.relu(self.fc1(semantics))
        if keep is not None:
            x = x * keep
        members = ops.bmm(x.reshape(self.shape).swapaxes(0, 1), self.fc2) + self.fc2_bias
        if self.training:
            return members
        mean = unit_length(unit_length(members, -1).mean(0), -1)
        regression = unit_length(mint.matmul(self._kernel(semantics), self.weights), -1)
        return mint.cat(((1 - self.share) ** 0.5 * mean, self.share ** 0.5 * regression), 1)

    def _kernel(self, semantics: Tensor) -> Tensor:
        product = mint.matmul(semantics, self.centres.T)
        if self.width:
            squares = (semantics * semantics).sum(1, keepdims=True) + (self.centres * self.centres).sum(1) - 2 * product
            return mint.exp(-self.width / self.input_widths[0] * squares)
        return product / self.input_widths[0]

    def set_regression(self, centres: NDArray[Any], weights: NDArray[Any], whitening: NDArray[Any]) -> None:
        """Set the regression: (classes, attribute_dim), (classes, visual_dim) and (visual_dim, visual_dim), float32."""
        for parameter, value in ((self.centres, centres), (self.weights, weights), (self.whitening, whitening)):
            parameter.set_data(Tensor(value, ms.float32))
