"""Multi-class N-pair loss."""
import mindspore as ms
from mindspore import Tensor, ops

from src.losses.loss import Loss
from src.losses.pairs import masked_mean


class NpairsLoss(Loss):
    """N-pair loss on embeddings that are NOT normalised.

    Even rows are the anchors A, odd rows the positives P, (N/2, D) each.
    loss = mean_i -sum_j t_ij log softmax(A P^T)_ij + 0.5 reg_lambda mean_n |e_n|^2,
    t_ij = [class of anchor i = class of positive j] / the number of such j.

    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective" (NIPS 2016), equation 7,
    with PaddleCV metric learning's regulariser. The targets of an anchor sum to 1, as in TensorFlow's npairs_loss.
    PaddleCV does not divide them: an anchor whose class has n positives in the batch counts n times. The two are equal
    where every class is in the batch once.

    Args:
        reg_lambda (float): weight of the L2 regulariser.

    Outputs:
        scalar float32. Anchors whose class is not among the positives are left out of the first mean. If the batch
        has one class only, the targets are uniform.

    Raises:
        ValueError: N is odd.

    Batch: P classes x 2 images, those of a class in the rows 2i and 2i + 1.
    """
    batch = 'pairs'

    def __init__(self, reg_lambda: float = 0.01) -> None:
        super().__init__()
        self.reg_lambda = reg_lambda

    def construct(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        rows, width = embeddings.shape
        if rows % 2:
            raise ValueError(f'npairs loss: a batch is groups of two rows, {rows} is odd')
        embeddings = ops.cast(embeddings, ms.float32)
        pairs = embeddings.reshape(-1, 2, width)
        pair_labels = labels.reshape(-1, 2)
        same = ops.cast(ops.equal(pair_labels[:, 0:1], pair_labels[:, 1].reshape(1, -1)), ms.float32)
        count = same.sum(axis=1)
        # A common shift of all positives changes neither a row's softmax nor its gradient. Features of a ReLU network
        # share a large mean; without it the products are small and round less.
        positives = pairs[:, 1] - ops.stop_gradient(pairs[:, 1].mean(axis=0, keep_dims=True))
        log_probabilities = ops.log_softmax(ops.matmul(pairs[:, 0], positives.T), 1)
        losses = -(same * log_probabilities).sum(axis=1) / ops.maximum(count, 1.0)
        regulariser = (embeddings * embeddings).sum(axis=1).mean()
        return masked_mean(losses, count > 0) + 0.5 * self.reg_lambda * regulariser
