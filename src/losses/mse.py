"""Mean squared error between mapped semantics and features."""
import mindspore as ms
from mindspore import Tensor, ops

from src.losses.loss import Loss
from src.losses.pairs import rowwise_squared_distance


class MeanSquaredLoss(Loss):
    """Mean squared error: loss = mean over rows and columns of (mapped - features)^2.

    Source: Zhang et al., "Learning a Deep Embedding Model for Zero-Shot Learning" (CVPR 2017), equation 1; the
    regularisers are the optimizer's weight decay.

    Inputs:
        mapped (N, V) float: the network's output for the semantics of each image's class; features (N, V) float. Both
        are cast to float32.

    Outputs:
        scalar float32.
    """

    batch = 'images'

    def construct(self, mapped: Tensor, features: Tensor) -> Tensor:
        rows, width = mapped.shape
        squared = rowwise_squared_distance(ops.cast(mapped, ms.float32), ops.cast(features, ms.float32))
        return squared.sum() / (rows * width)
