"""ArcFace: cross entropy with an additive angular margin."""
import math

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.common.initializer import XavierUniform, initializer

from src.common.values import NonNegative, Positive
from src.losses.loss import Loss
from src.losses.pairs import normalize
from src.losses.softmax import cross_entropy


class ArcMarginLoss(Loss):
    """Additive angular margin softmax; holds its normalised classifier.

    cos = normalize(e) normalize(W)^T, sin = sqrt(1 - cos^2 + 1e-6), and for the target class
    phi = cos(theta + m) = cos cos(m) - sin sin(m) replaces cos
      - where cos > cos(pi - m), and cos - m sin(m) elsewhere (theta + m would pass pi, where phi rises again), or,
      - with easy_margin, where cos > 0; elsewhere cos stays.
    loss = mean_i cross_entropy(s logits_i, y_i).

    Source: Deng et al., "ArcFace" (arXiv 1801.07698), equation 3; the branches, the 1e-6 and the defaults are those
    of PaddleCV metric learning.

    Args:
        num_classes (int): C.
        embedding_size (int): D.
        scale (float): s.
        margin (float): m, radians, 0..pi.
        easy_margin (bool): which of the two branches above.

    Inputs:
        embeddings (N, D) float, cast to float32, any norm (a zero vector has cos 0 to every class and gets no
        gradient); labels (N,) int in 0..C-1.

    Outputs:
        scalar float32.

    Parameters: weight (C, D), Xavier uniform. Batch: any.
    """
    batch = 'shuffle'
    needs = ('num_classes', 'embedding_size')

    def __init__(self, num_classes: int, embedding_size: int, scale: Positive = 80.0, margin: NonNegative = 0.15,
                 easy_margin: bool = False) -> None:
        super().__init__()
        self.weight = Parameter(initializer(XavierUniform(), (num_classes, embedding_size), ms.float32), name='weight')
        self.num_classes = num_classes
        self.scale = scale
        self.cos_margin = math.cos(margin)
        self.sin_margin = math.sin(margin)
        self.threshold = 0.0 if easy_margin else math.cos(math.pi - margin)
        self.penalty = 0.0 if easy_margin else margin * math.sin(margin)

    def construct(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        embeddings = normalize(ops.cast(embeddings, ms.float32))
        cosines = ops.MatMul(transpose_b=True)(embeddings, normalize(self.weight))
        labels = labels.reshape(-1, 1)
        target = ops.gather_elements(cosines, 1, labels)
        # Rounding lets cos^2 exceed 1, on CPU by up to 9.5e-7, nearly all of the 1e-6: hence the relu.
        sine = ops.sqrt(ops.relu(1.0 - target * target) + 1e-6)
        phi = target * self.cos_margin - sine * self.sin_margin
        target = ops.where(target > self.threshold, phi, target - self.penalty)
        is_target = ops.equal(labels, ops.arange(self.num_classes).reshape(1, -1))
        logits = self.scale * ops.where(is_target, target, cosines)
        return cross_entropy(logits, labels).mean()
