"""Multi-class N-pair loss."""
import mindspore as ms
from mindspore import Tensor, ops

from src.common.values import NonNegative
from src.losses.loss import PairLoss
from src.losses.pairs import BIG, anchors_of, masked_mean


class NpairsLoss(PairLoss):
    """N-pair loss on embeddings that are NOT normalised.

    Even rows are the anchors A, odd rows the positives P, (N/2, D) each.
    loss = mean_i -sum_j t_ij log softmax(A P^T)_ij + 0.5 reg_lambda mean_n |e_n|^2,
    t_ij = [class of anchor i = class of positive j] / the number of such j. References are further positives.

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

    def __init__(self, reg_lambda: NonNegative = 0.01) -> None:
        super().__init__()
        self.reg_lambda = reg_lambda

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        if anchors % 2:
            raise ValueError(f'npairs loss: a batch is groups of two rows, {anchors} is odd')
        batch = anchors_of(rows, anchors)
        positives, positive_labels = batch[1::2], labels[:anchors][1::2]
        if rows.shape[0] > anchors:
            positives = ops.concat((positives, rows[anchors:]))
            positive_labels = ops.concat((positive_labels, labels[anchors:]))
        same = ops.cast(ops.equal(labels[:anchors][0::2].reshape(-1, 1), positive_labels.reshape(1, -1)), ms.float32)
        count = same.sum(axis=1)
        # A common shift of all positives changes neither a row's softmax nor its gradient. Features of a ReLU network
        # share a large mean; without it the products are small and round less.
        positives = positives - ops.stop_gradient(positives.mean(axis=0, keep_dims=True))
        logits = ops.where((positive_labels >= 0).reshape(1, -1), ops.matmul(batch[0::2], positives.T), -BIG)
        losses = -(same * ops.log_softmax(logits, 1)).sum(axis=1) / ops.maximum(count, 1.0)
        regulariser = (batch * batch).sum(axis=1).mean()
        return masked_mean(losses, count > 0) + 0.5 * self.reg_lambda * regulariser
