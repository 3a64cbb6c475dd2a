"""Several networks of class semantics and kernel ridge regression beside them, as one network."""
import mindspore as ms
from mindspore import Parameter, Tensor, mint, nn, ops
from mindspore.common.initializer import Normal, initializer

from src.networks.demnet import check_layers, dense
from src.networks.heads import unit_length


def _fixed(shape, name):
    return Parameter(initializer('zeros', shape, ms.float32), name=name, requires_grad=False)


class EnsembleNetwork(nn.Cell):
    """`members` networks of Dense, ReLU, Dense side by side, trained together, and kernel ridge regression.

    The mean of the members' prototypes, each of unit length, lies in the space of the features; the regression's
    prototype in the space of features times `whitening`. Both parts are scaled to unit length and then by
    sqrt(1 - share) and sqrt(share): with features treated alike the cosine is (1 - share) * one + share * the other.
    centres, weights and whitening are not trained: src.systems.generalised computes them (src.accuracy.kernel_ridge).

    Args:
        attribute_dim, hidden_dim, visual_dim (int): widths.
        members (int): networks.
        classes (int): seen classes.
        width (float): of the kernel exp(-width * |a - b|^2 / A); 0 for the linear one, a.b / A.
        share (float): of the regression, 0..1.
        sigmas (two floats): deviation of the Normal initial weights of both layers.

    Inputs: semantics (C, attribute_dim) float32; in training optionally keep (C, members * hidden_dim), which the hidden
    layers are multiplied by: dropout.
    Outputs: (C, 2 * visual_dim) float32; in training (members, C, visual_dim), the members' alone.
    """

    # The regression is a sum of which most cancels: rounding in float32 shows (1.2e-5 measured on CUB).
    tolerance = 1e-4

    def __init__(self, attribute_dim, hidden_dim=700, visual_dim=1024, members=3, classes=1, width=0.3, share=0.5,
                 sigmas=(0.01, 0.001)):
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

    def construct(self, semantics, keep=None):
        x = mint.nn.functional.relu(self.fc1(semantics))
        if keep is not None:
            x = x * keep
        members = ops.bmm(x.reshape(self.shape).swapaxes(0, 1), self.fc2) + self.fc2_bias
        if self.training:
            return members
        mean = unit_length(unit_length(members, -1).mean(0), -1)
        regression = unit_length(mint.matmul(self._kernel(semantics), self.weights), -1)
        return mint.cat(((1 - self.share) ** 0.5 * mean, self.share ** 0.5 * regression), 1)

    def _kernel(self, semantics):
        product = mint.matmul(semantics, self.centres.T)
        if self.width:
            squares = (semantics * semantics).sum(1, keepdims=True) + (self.centres * self.centres).sum(1) - 2 * product
            return mint.exp(-self.width / self.input_widths[0] * squares)
        return product / self.input_widths[0]

    def set_regression(self, centres, weights, whitening):
        """Set what is not trained: float32 arrays (classes, attribute_dim), (classes, visual_dim), (visual_dim, visual_dim)."""
        for parameter, value in ((self.centres, centres), (self.weights, weights), (self.whitening, whitening)):
            parameter.set_data(Tensor(value, ms.float32))
