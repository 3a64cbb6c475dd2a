"""Losses, one a file, chosen by name; src.losses.loss says what each tells those who train with it.

A new loss is a file with a subclass of Loss and a line here. MindSpore is imported when a loss is asked for.
"""
from typing import Any

from src.common.registry import loader

LOSSES = {
    'softmax': 'softmax.SoftmaxLoss',
    'arcmargin': 'arcmargin.ArcMarginLoss',
    'norm_softmax': 'norm_softmax.NormSoftmaxLoss',
    'proxy_anchor': 'proxy_anchor.ProxyAnchorLoss',
    'triplet': 'triplet.TripletLoss',
    'quadruplet': 'quadruplet.QuadrupletLoss',
    'eml': 'eml.EmlLoss',
    'npairs': 'npairs.NpairsLoss',
    'multi_similarity': 'multi_similarity.MultiSimilarityLoss',
    'supcon': 'supcon.SupConLoss',
    'smooth_ap': 'smooth_ap.SmoothAPLoss',
    'recall_at_k': 'recall_at_k.RecallAtKLoss',
    'xbm': 'xbm.CrossBatchMemoryLoss',
    'center': 'center.CenterLoss',
    'batch_hard_triplet': 'batch_hard_triplet.BatchHardTripletLoss',
    'centroid_triplet': 'centroid_triplet.CentroidTripletLoss',
    'ctl': 'ctl.CTLLoss',
    'baseline': 'ctl.BaselineLoss',
    'mse': 'mse.MeanSquaredLoss',
    'prototype_softmax': 'prototype_softmax.PrototypeSoftmaxLoss',
}
# The subclass of Loss of a name.
loss_class = loader('src.losses', LOSSES, '--loss_name')


def create_loss(name: str, **options: Any) -> Any:
    """The loss of that name, a Cell; options are its class's arguments.

    Raises:
        InputError: no loss has that name.
    """
    return loss_class(name)(**options)


def loss_kind(name):
    return loss_class(name).kind
