"""Softmax over the cosine similarities of features to class prototypes."""
import mindspore as ms
from mindspore import Tensor, ops

from src.common.values import BelowOne, Positive
from src.losses.loss import Loss
from src.losses.pairs import normalize
from src.losses.softmax import cross_entropy


class PrototypeSoftmaxLoss(Loss):
    """Cross entropy of scale * cosine(feature, prototype) over all seen classes.

    DEM's mean squared error pulls a prototype to the mean feature of its class. This loss asks that a feature be nearer
    to its own prototype than to the others, by the cosine that later classifies it.

    Source: the normalised softmax of NormFace (Wang et al., arXiv 1704.06369, equation 6), with the network's
    output for the semantics of the classes as class weights, instead of free parameters.

    Args:
        scale (float): the inverse of the softmax's temperature.
        label_smoothing (float): e of the target (1 - e) onehot + e / C.

    Inputs:
        prototypes (C, D) float: mapped semantics of the C seen classes; features (N, D) float; labels (N,) int in
        0..C-1, rows of prototypes. Prototypes and features are cast to float32. Prototypes (M, C, D) of M networks give
        the mean of their losses.

    Outputs:
        scalar float32.
    """

    batch = 'prototypes'

    def __init__(self, scale: Positive = 20.0, label_smoothing: BelowOne = 0.0) -> None:
        super().__init__()
        self.scale = scale
        self.label_smoothing = label_smoothing

    def construct(self, prototypes: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        classes = prototypes.shape[-2]
        prototypes = normalize(ops.cast(prototypes, ms.float32).reshape(-1, prototypes.shape[-1]))
        features = normalize(ops.cast(features, ms.float32))
        logits = (self.scale * ops.matmul(features, prototypes.T)).reshape(-1, classes)
        # An image's logits for the M networks are M consecutive rows.
        labels = labels.reshape(-1, 1).tile((1, logits.shape[0] // features.shape[0])).reshape(-1)
        return cross_entropy(logits, labels, self.label_smoothing).mean()
