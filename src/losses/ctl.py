"""The sum of losses that trains centroids for re-identification (CTL)."""
from typing import List, Optional, Tuple

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.common.initializer import Normal

from src.losses.batch_hard_triplet import BatchHardTripletLoss
from src.losses.center import CENTERS_STEP_SIZE, CenterLoss
from src.losses.centroid_triplet import CentroidTripletLoss
from src.losses.loss import Loss
from src.losses.softmax import SoftmaxLoss


class CTLLoss(Loss):
    """CTL: classifier + batch-hard triplet + center + centroid triplet.

    loss = cross_entropy(W neck; label smoothing 0.1) + batch_hard_triplet(features)
           + center_weight center(features) + centroid_weight centroid_triplet(features).

    Source: Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval" (arXiv
    2104.13643), section 3, and its published code. The classifier has no bias and starts Normal(0.001).

    The centres move as CenterLoss's, with the gradient divided by center_weight, see own_updates.

    Args:
        num_classes (int): C, the training identities.
        embedding_size (int): D.
        num_instances (int): K, images an identity in a batch.
        margin (float): of both triplet losses, in Euclidean distance.
        center_weight (float): 0 leaves the term and its centres out.
        centroid_weight (float): 1 as published, 0 leaves the term out. With both 0 this is BaselineLoss.

    Inputs:
        features (N, D) float, cast to float32, from before the neck: metric losses; neck (N, D) float, cast to
        float32, from after it: classifier; labels (N,) int in 0..C-1; mask (N,) or None: a row with 0 (a repeated
        image) does not count in any of the losses.

    Outputs:
        scalar float32; each of the four says what it does with too little.

    Raises:
        ValueError: N is not a multiple of K.

    Parameters: classifier.weight (C, D), center.centers (C, D) unless center_weight is 0.
    Batch: P identities, each K consecutive rows.
    """
    kind = 'element'
    batch = 'identities'
    needs = ('num_classes', 'embedding_size', 'num_instances')
    uses_neck = True

    def __init__(self, num_classes: int, embedding_size: int, num_instances: int = 4, margin: float = 0.5,
                 center_weight: float = 5e-4, centroid_weight: float = 1.0):
        super().__init__()
        self.classifier = SoftmaxLoss(num_classes, embedding_size, label_smoothing=0.1, has_bias=False,
                                      weight_init=Normal(0.001))
        self.batch_hard_triplet = BatchHardTripletLoss(margin)
        self.center_weight = center_weight
        self.centroid_weight = centroid_weight
        if center_weight:
            self.center = CenterLoss(num_classes, embedding_size)
        if centroid_weight:
            self.centroid_triplet = CentroidTripletLoss(num_instances, margin)

    def construct(self, features: Tensor, neck: Tensor, labels: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        # Cast here, once: three losses that each cast would have their gradients added up in the network's float16.
        features = ops.cast(features, ms.float32)
        loss = self.classifier(neck, labels, mask) + self.batch_hard_triplet(features, labels, mask)
        if self.center_weight:
            loss = loss + self.center_weight * self.center(features, labels, mask)
        if self.centroid_weight:
            loss = loss + self.centroid_weight * self.centroid_triplet(features, labels, mask)
        return loss

    def own_updates(self) -> List[Tuple[Parameter, float]]:
        return [(self.center.centers, CENTERS_STEP_SIZE / self.center_weight)] if self.center_weight else []


class BaselineLoss(CTLLoss):
    """What CTL is compared with, the usual baseline of re-identification: its classifier and batch-hard triplet alone.

    Source: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification" (CVPRW 2019), without
    its center loss, as CTL's code trains it. Arguments, inputs, outputs and batch are CTLLoss's.

    Parameters: classifier.weight (C, D).
    """

    def __init__(self, num_classes: int, embedding_size: int, num_instances: int = 4, margin: float = 0.5):
        super().__init__(num_classes, embedding_size, num_instances, margin, center_weight=0.0, centroid_weight=0.0)
