"""Losses, one a file, chosen by name.

Every loss is a Cell: loss(embeddings (N, D), labels (N,)) -> scalar float32, computed in float32 whatever comes in
(ctl takes features and neck, see there). Two class attributes tell the recipe what it needs:
    kind   'element' holds parameters of each class (num_classes and embedding_size are options, labels 0..C-1, its
           parameters are trained along with the network); 'pair' has no parameters and compares the rows of a batch.
    batch  'shuffle' any rows; 'triplet' rows (anchor, positive, negative); 'groups' P classes x K neighbouring rows;
           'pairs' the same with K = 2; 'identities' P identities x K consecutive rows, with an optional mask (N,) of
           the images that count.
DEM's losses have neither: mse(mapped semantics (N, V), features (N, V)), and prototype_softmax, see there.
"""
from mindspore import nn

from src.errors import InputError
from src.losses.arcmargin import ArcMarginLoss
from src.losses.batch_hard_triplet import BatchHardTripletLoss
from src.losses.center import CenterLoss
from src.losses.centroid_triplet import CentroidTripletLoss
from src.losses.ctl import CTLLoss
from src.losses.eml import EmlLoss
from src.losses.npairs import NpairsLoss
from src.losses.prototype_softmax import PrototypeSoftmaxLoss
from src.losses.quadruplet import QuadrupletLoss
from src.losses.softmax import SoftmaxLoss
from src.losses.triplet import TripletLoss

LOSSES = {
    'softmax': SoftmaxLoss,
    'arcmargin': ArcMarginLoss,
    'triplet': TripletLoss,
    'quadruplet': QuadrupletLoss,
    'eml': EmlLoss,
    'npairs': NpairsLoss,
    'center': CenterLoss,
    'centroid_triplet': CentroidTripletLoss,
    'batch_hard_triplet': BatchHardTripletLoss,
    'ctl': CTLLoss,
    'mse': nn.MSELoss,
    'prototype_softmax': PrototypeSoftmaxLoss,
}


def create_loss(name, **options):
    """The loss of that name, a Cell; options are its class's arguments.

    Raises:
        InputError: no loss has that name.
    """
    if name not in LOSSES:
        raise InputError(f'--loss_name {name}: no such loss, choose one of {", ".join(LOSSES)}')
    return LOSSES[name](**options)
