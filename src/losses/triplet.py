"""Triplet loss over batches made of (anchor, positive, negative) rows."""
import mindspore as ms
from mindspore import Tensor, ops

from src.common.errors import InputError
from src.common.values import NonNegative
from src.losses.loss import Loss
from src.losses.pairs import normalize, rowwise_squared_distance


class TripletLoss(Loss):
    """Triplet loss on L2-normalised embeddings.

    l_t = relu(|a_t - p_t|^2 - |a_t - n_t|^2 + margin) for the T = N / 3 triplets of the batch.

    Source: Schroff et al., "FaceNet" (CVPR 2015), equation 2.

    The value is always the mean of l_t; reduction chooses what is differentiated. With 'mean' that is the mean, as in
    PaddleCV. With 'sum' it is the sum, as in the published metric_learn code, which leaves the vector l_t unreduced
    (MindSpore differentiates the sum of a vector) and logs the mean. The gradient is then T times that of the value (20
    times for 60 rows), on which the learning rate of metric_learn's recipe, 1e-4, depends. T counts the triplets of one
    device, or with --gather those of all: averaging gradients over devices keeps the sum over a device's triplets, as
    published.

    Args:
        margin (float): in squared distance of unit vectors, 0..4.
        reduction (str): 'mean' (PaddleCV) or 'sum' (metric_learn).

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,), unused: the layout gives the classes.

    Outputs:
        scalar float32.

    Raises:
        InputError: unknown reduction.
        ValueError: N is not a multiple of 3.

    Batch: rows in groups of three, anchor, positive (same class), negative (another class). A zero vector gets
    no gradient.
    """
    batch = 'triplet'

    def __init__(self, margin: NonNegative = 0.1, reduction: str = 'mean') -> None:
        super().__init__()
        if reduction not in ('mean', 'sum'):
            raise InputError(f'reduction={reduction}: choose mean or sum')
        self.margin = margin
        self.reduction = reduction

    def construct(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        rows, width = embeddings.shape
        if rows % 3:
            raise ValueError(f'triplet loss: a batch is groups of three rows, {rows} is not a multiple of 3')
        triplets = normalize(ops.cast(embeddings, ms.float32)).reshape(-1, 3, width)
        anchor, positive, negative = triplets[:, 0], triplets[:, 1], triplets[:, 2]
        losses = ops.relu(rowwise_squared_distance(anchor, positive)
                          - rowwise_squared_distance(anchor, negative) + self.margin)
        loss = losses.mean()
        if self.reduction == 'sum':
            # The bracket is exactly 0; only its gradient counts: value of the mean, gradient of the sum.
            loss = loss + (rows // 3 - 1) * (loss - ops.stop_gradient(loss))
        return loss
