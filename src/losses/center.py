"""Center loss: every class has a learnt centre."""
import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import Normal, initializer

from src.losses.pairs import masked_mean, real_rows, rowwise_squared_distance


class CenterLoss(nn.Cell):
    """Mean squared distance of the embeddings to the centres of their classes.

    loss = mean_i clamp(|e_i - c_{y_i}|^2, 1e-12, 1e12).

    Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition" (ECCV 2016),
    equation 2 without its 1/2, as CTL (arXiv 2104.13643) uses it.

    The centres are a Parameter whose name contains 'centers', for which the train step needs a second optimizer:
    plain SGD (no momentum, no weight decay, no warm-up) at 0.5, fed with the gradient divided by the loss scale, if
    any, and by center_weight, the factor the loss enters the total with. Here that is 1; CTL's is 5e-4, and
    without the division its centres would hardly move.

    Args:
        num_classes (int): C.
        embedding_size (int): D.

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,) int in 0..C-1; mask (N,) or None: 0 marks a row that
        does not count.

    Outputs:
        scalar float32; 0 with zero gradient when no row counts. Zero gradient outside the clamp.

    Parameters: centers (C, D), N(0, 1). Batch: any.
    """
    kind = 'element'
    batch = 'shuffle'
    center_weight = 1.0

    def __init__(self, num_classes, embedding_size):
        super().__init__()
        self.centers = Parameter(initializer(Normal(1.0), (num_classes, embedding_size), ms.float32), name='centers')

    def construct(self, embeddings, labels, mask=None):
        centers = ops.gather(self.centers, labels, 0)
        distances = rowwise_squared_distance(ops.cast(embeddings, ms.float32), centers)
        return masked_mean(ops.clamp(distances, 1e-12, 1e12), real_rows(embeddings, mask))
