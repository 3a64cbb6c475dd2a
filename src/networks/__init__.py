"""Networks by name; a new one is one file, or one function or class, and one line here.

A network of images is a backbone and a head: create_image_network. Modules are imported when they are asked for.
"""
from typing import Any, Dict

from src.common.errors import InputError
from src.common.registry import create, loader

# Of class semantics (DEM): name -> function, and the options that belong to the name.
NETWORKS = {
    'cub_att': 'demnet.attribute_network',
    'cub_word': 'demnet.word_network',
    'cub_fusion': 'demnet.FusionNetwork',
    'awa_att': 'demnet.attribute_network',
    'awa_word': 'demnet.word_network',
    'awa_fusion': 'demnet.FusionNetwork',
    'semantic': 'demnet.attribute_network',
    'class_normalised': 'class_normalised.ClassNormalisedNetwork',
    'ensemble': 'ensemble.EnsembleNetwork',
}
OPTIONS: Dict[str, Dict[str, Any]] = {
    'cub_att': dict(attribute_dim=312, hidden_dim=700, sigmas=(0.0008, 0.0012)),
    'cub_word': dict(word_dim=1000, sigmas=(0.0005,)),
    'cub_fusion': dict(attribute_dim=312, word_dim=1000, hidden_dim=900, sigmas=(0.0008, 0.0012, 0.0012)),
    'semantic': dict(attribute_dim=312, hidden_dim=700, sigmas=(0.01, 0.001)),
    'class_normalised': dict(attribute_dim=312),
    'ensemble': dict(attribute_dim=312),
    'awa_att': dict(attribute_dim=85, hidden_dim=700, sigmas=(0.0005, 0.0005)),
    'awa_word': dict(word_dim=1000, sigmas=(0.0005,)),
    'awa_fusion': dict(attribute_dim=85, word_dim=1000, hidden_dim=900, sigmas=(0.0008, 0.0012, 0.0012)),
}
# Classes of images (N, 3, H, W) -> map (N, C, h, w); what else they have: src.networks.resnet.
BACKBONES = {
    'resnet18': 'resnet.ResNet18',
    'resnet34': 'resnet.ResNet34',
    'resnet50': 'resnet.ResNet50',
    'resnet101': 'resnet.ResNet101',
    'resnet152': 'resnet.ResNet152',
}
# Classes of map -> embeddings (N, D), called with the backbone's out_channels and their options.
HEADS = {
    'none': 'heads.NoHead',
    'linear': 'heads.Linear',
    'embedding': 'heads.Embedding',
    'neck': 'heads.Neck',
    'whitened': 'heads.Whitened',
}
# What stands behind a name: the class of a backbone or head, the function or class of a semantic network.
backbone_class = loader('src.networks', BACKBONES, 'backbone')
head_class = loader('src.networks', HEADS, 'head')
network_class = loader('src.networks', NETWORKS, 'network')


def create_network(name: str, **options):
    """A new network with initial weights: a Cell.

    Args:
        name: a key of NETWORKS, or of BACKBONES for a backbone alone: images (N, 3, H, W) -> features (N, C).
        options: the network's own keyword arguments; DEM: visual_dim (1024), output_relu (True) and the widths
            the network has of attribute_dim, word_dim, hidden_dim; a backbone: see its class.

    Raises:
        InputError: no network of that name, or it has no such option.
    """
    if name in BACKBONES:
        return create_image_network(name, backbone_options=options)
    if name not in NETWORKS:
        raise InputError(f'no network is called {name!r}: choose one of {", ".join([*NETWORKS, *BACKBONES])}')
    return create(network_class(name), f'network {name}', **{**OPTIONS.get(name, {}), **options})


def create_image_network(backbone: str, head: str = 'none', *, backbone_options=None, head_options=None):
    """A new network of images (N, 3, H, W) float32 with initial weights.

    Args:
        backbone: a key of BACKBONES.
        head: a key of HEADS.
        backbone_options, head_options (dict or None): the keyword arguments of their classes.

    Returns:
        Cell: images -> embeddings (N, out_channels) float32, the head `neck` (feature, neck) in training; with
        out_channels, new_layers (beginnings of the names of parameters that weights of a backbone alone do not have),
        backbone and head.

    Raises:
        InputError: no backbone or head of that name, or it has no such option.
    """
    from src.networks.heads import ImageNetwork
    make_backbone, make_head = backbone_class(backbone), head_class(head)
    body = create(make_backbone, f'backbone {backbone}', **(backbone_options or {}))
    return ImageNetwork(body, create(make_head, f'head {head}', body.out_channels, **(head_options or {})))
