"""The sum of losses that trains centroids for re-identification (CTL)."""
import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Normal

from src.losses.batch_hard_triplet import BatchHardTripletLoss
from src.losses.center import CenterLoss
from src.losses.centroid_triplet import CentroidTripletLoss
from src.losses.softmax import SoftmaxLoss


class CTLLoss(nn.Cell):
    """CTL: classifier + batch-hard triplet + center + centroid triplet.

    loss = cross_entropy(W neck; label smoothing 0.1) + batch_hard_triplet(features)
           + center_weight center(features) + centroid_weight centroid_triplet(features).

    Source: Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval" (arXiv
    2104.13643), section 3, and its published code. The classifier has no bias and starts Normal(0.001).

    The centres need a second optimizer with the gradient divided by center_weight, see CenterLoss.

    Args:
        num_classes (int): C, the training identities.
        embedding_size (int): D.
        num_instances (int): K, images an identity in a batch.
        margin (float): of both triplet losses, in Euclidean distance.
        center_weight (float): 0 leaves the term and its centres out; attribute center_weight.
        centroid_weight (float): 1 as published, 0 leaves the term out. With both 0 this is the usual baseline of
            re-identification, classifier and batch-hard triplet.

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

    def __init__(self, num_classes, embedding_size, num_instances=4, margin=0.5, center_weight=5e-4,
                 centroid_weight=1.0):
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

    def construct(self, features, neck, labels, mask=None):
        # Cast here, once: three losses that each cast would have their gradients added up in the network's float16.
        features = ops.cast(features, ms.float32)
        loss = self.classifier(neck, labels, mask) + self.batch_hard_triplet(features, labels, mask)
        if self.center_weight:
            loss = loss + self.center_weight * self.center(features, labels, mask)
        if self.centroid_weight:
            loss = loss + self.centroid_weight * self.centroid_triplet(features, labels, mask)
        return loss
