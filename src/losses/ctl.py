"""The sum of losses that trains centroids for re-identification (CTL)."""
from typing import List, Optional, Tuple

import mindspore as ms
from mindspore import Parameter, Tensor, ops

from src.common.values import NonNegative
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
    2104.13643), section 3, and its published code. The classifier has no bias and starts Normal(0.001). Repeated
    images differ: in the published batch-hard triplet they are no anchors, but still positives and negatives.

    The centres move as in CenterLoss, with the gradient divided by center_weight, see own_updates.

    Args:
        num_classes (int): C, the training identities.
        embedding_size (int): D.
        num_instances (int): K, images an identity in a batch.
        margin (float): of both triplet losses, in Euclidean distance.
        center_weight (float): 0 removes the term and its centres.
        centroid_weight (float): 1 as published, 0 removes the term. With both 0 this is BaselineLoss.

    Inputs:
        features (N, D) float, cast to float32, from before the neck, for the metric losses; neck (N, D) float, cast
        to float32, from after the neck, for the classifier; labels (N,) int in 0..C-1; mask (N,) or
        None: a row with 0, a repeated image, does not count in any of the losses.

    Outputs:
        scalar float32. Each of the four losses says what it returns if too few rows count.

    Raises:
        ValueError: N is not a multiple of K.

    Parameters: classifier.weight (C, D), center.centers (C, D) unless center_weight is 0.
    Batch: P identities, each K consecutive rows.
    """
    batch = 'identities'
    needs = ('num_classes', 'embedding_size', 'num_instances')
    uses_neck = True
    takes_mask = True

    def __init__(self, num_classes: int, embedding_size: int, num_instances: int = 4, margin: NonNegative = 0.5,
                 center_weight: NonNegative = 5e-4, centroid_weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.classifier = SoftmaxLoss(num_classes, embedding_size, label_smoothing=0.1, has_bias=False,
                                      weight_deviation=0.001)
        self.batch_hard_triplet = BatchHardTripletLoss(margin)
        self.center_weight = center_weight
        self.centroid_weight = centroid_weight
        if center_weight:
            self.center = CenterLoss(num_classes, embedding_size)
        if centroid_weight:
            self.centroid_triplet = CentroidTripletLoss(num_instances, margin)

    def construct(self, features: Tensor, neck: Tensor, labels: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        # Cast once, here: if each loss cast on its own, their gradients would be added in the network's float16.
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
    """CTL's classifier and batch-hard triplet alone: the baseline that shows the gain from centroids.

    Source: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification" (CVPRW 2019), the stage
    without center loss. The baseline in CTL's published code (train_base_model.py) keeps the center loss with weight
    5e-4: that is CTLLoss with centroid_weight 0. It also counts repeated images in classifier and center loss, which
    a mask excludes here. Arguments, inputs, outputs and batch: see CTLLoss.

    Parameters: classifier.weight (C, D).
    """

    def __init__(self, num_classes: int, embedding_size: int, num_instances: int = 4, margin: NonNegative = 0.5) -> None:
        super().__init__(num_classes, embedding_size, num_instances, margin, center_weight=0.0, centroid_weight=0.0)
