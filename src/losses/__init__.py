"""Losses by name. Their interface is documented in src.losses.loss.

A new loss is a file with a subtype of Loss and a line in LOSSES. MindSpore is imported only when a loss is created.
"""
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, Mapping, NamedTuple, Type

from src.common.registry import load, lookup

if TYPE_CHECKING:
    from src.losses.loss import Loss


class LossRow(NamedTuple):
    """A line of LOSSES.

    target: 'module.Type' within src.losses.
    kind: 'element': holds parameters for each class, labels are 0..C-1; 'pair': compares the rows of a batch;
        'semantic': compares mapped class semantics with features (DEM).
    entries: recipe entries that this loss sets.
    """
    target: str
    kind: str
    entries: Mapping[str, Any] = {}


element, pair, semantic = (partial(LossRow, kind=kind) for kind in ('element', 'pair', 'semantic'))

LOSSES: Dict[str, LossRow] = {
    'softmax': element('softmax.SoftmaxLoss'),
    'arcmargin': element('arcmargin.ArcMarginLoss'),
    'norm_softmax': element('norm_softmax.NormSoftmaxLoss'),
    'proxy_anchor': element('proxy_anchor.ProxyAnchorLoss'),
    'triplet': pair('triplet.TripletLoss'),
    'quadruplet': pair('quadruplet.QuadrupletLoss'),
    'eml': pair('eml.EmlLoss'),
    'npairs': pair('npairs.NpairsLoss'),
    'multi_similarity': pair('multi_similarity.MultiSimilarityLoss'),
    'supcon': pair('supcon.SupConLoss'),
    'smooth_ap': pair('smooth_ap.SmoothAPLoss'),
    'recall_at_k': pair('recall_at_k.RecallAtKLoss'),
    'contrastive': pair('contrastive.ContrastiveLoss'),
    # As published, with a memory.
    'xbm': pair('contrastive.ContrastiveLoss', entries={'memory': 8192}),
    'center': element('center.CenterLoss'),
    'batch_hard_triplet': pair('batch_hard_triplet.BatchHardTripletLoss'),
    'centroid_triplet': pair('centroid_triplet.CentroidTripletLoss'),
    'ctl': element('ctl.CTLLoss'),
    'baseline': element('ctl.BaselineLoss'),
    'mse': semantic('mse.MeanSquaredLoss'),
    'prototype_softmax': semantic('prototype_softmax.PrototypeSoftmaxLoss'),
}


def loss_kind(name: str) -> str:
    """Kind of a loss, without importing MindSpore; InputError for an unknown name."""
    return lookup(LOSSES, name, '--loss_name').kind


def loss_class(name: str) -> Type['Loss']:
    """Subtype of Loss by name; InputError for an unknown name."""
    return load('src.losses', lookup(LOSSES, name, '--loss_name').target)


def create_loss(name: str, **options: Any) -> 'Loss':
    """Create a loss (a Cell); options are its constructor's arguments. InputError for an unknown name."""
    return loss_class(name)(**options)
