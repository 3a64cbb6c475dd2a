"""Center loss: each class has a learnt centre."""
from typing import List, Optional, Tuple

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.common.initializer import Normal, initializer

from src.losses.loss import Loss
from src.losses.pairs import masked_mean, real_rows, rowwise_squared_distance

# SGD step size of the centres in CTL's published code.
CENTERS_STEP_SIZE = 0.5


class CenterLoss(Loss):
    """Mean squared distance of the embeddings to the centres of their classes.

    loss = mean_i clamp(|e_i - c_{y_i}|^2, 1e-12, 1e12).

    Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition" (ECCV 2016),
    equation 2 without its 1/2, as CTL (arXiv 2104.13643) uses it.

    The centres move by plain SGD with step size 0.5, see own_updates. If the loss enters a sum with a weight (CTL: 5e-4),
    divide their step size by it; otherwise they would hardly move.

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
    batch = 'shuffle'
    needs = ('num_classes', 'embedding_size')
    takes_mask = True

    def __init__(self, num_classes: int, embedding_size: int) -> None:
        super().__init__()
        self.centers = Parameter(initializer(Normal(1.0), (num_classes, embedding_size), ms.float32), name='centers')

    def construct(self, embeddings: Tensor, labels: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        centers = ops.gather(self.centers, labels, 0)
        distances = rowwise_squared_distance(ops.cast(embeddings, ms.float32), centers)
        return masked_mean(ops.clamp(distances, 1e-12, 1e12), real_rows(embeddings, mask))

    def own_updates(self) -> List[Tuple[Parameter, float]]:
        return [(self.centers, CENTERS_STEP_SIZE)]
