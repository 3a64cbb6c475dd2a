"""Networks by name. A new network is one file and one line here; its module is imported when the network is created.

A network of images is a backbone and a head (create_image_network).
"""
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional

from src.common.registry import check_choice, create, loader

if TYPE_CHECKING:
    from mindspore import nn

    from src.networks.heads import ImageNetwork


class NetworkRow(NamedTuple):
    """A row of NETWORKS.

    target: 'module.Name' of a type or function in this package. options: its arguments fixed by the name.
    """
    target: str
    options: Dict[str, Any]


# Networks of class semantics, see src.networks.demnet.SemanticNetwork.
NETWORKS: Dict[str, NetworkRow] = {
    'cub_att': NetworkRow('demnet.attribute_network', dict(attribute_dim=312, hidden_dim=700, sigmas=(0.0008, 0.0012))),
    'cub_word': NetworkRow('demnet.word_network', dict(word_dim=1000, sigmas=(0.0005,))),
    'cub_fusion': NetworkRow('demnet.FusionNetwork', dict(attribute_dim=312, word_dim=1000, hidden_dim=900,
                                                          sigmas=(0.0008, 0.0012, 0.0012))),
    'awa_att': NetworkRow('demnet.attribute_network', dict(attribute_dim=85, hidden_dim=700, sigmas=(0.0005, 0.0005))),
    'awa_word': NetworkRow('demnet.word_network', dict(word_dim=1000, sigmas=(0.0005,))),
    'awa_fusion': NetworkRow('demnet.FusionNetwork', dict(attribute_dim=85, word_dim=1000, hidden_dim=900,
                                                          sigmas=(0.0008, 0.0012, 0.0012))),
    'semantic': NetworkRow('demnet.attribute_network', dict(attribute_dim=312, hidden_dim=700, sigmas=(0.01, 0.001))),
    'class_normalised': NetworkRow('class_normalised.ClassNormalisedNetwork', dict(attribute_dim=312)),
    'ensemble': NetworkRow('ensemble.EnsembleNetwork', dict(attribute_dim=312)),
}
# Types derived from src.networks.backbone.Backbone.
BACKBONES = {
    'resnet18': 'resnet.ResNet18',
    'resnet34': 'resnet.ResNet34',
    'resnet50': 'resnet.ResNet50',
    'resnet101': 'resnet.ResNet101',
    'resnet152': 'resnet.ResNet152',
    'resnet50_ibn_a': 'resnet_ibn.ResNet50IbnA',
    'mobilenet_v2': 'mobilenet_v2.MobileNetV2',
}
# Types derived from src.networks.heads.Head, constructed with the backbone's out_channels and their options.
HEADS = {
    'none': 'heads.NoHead',
    'linear': 'heads.Linear',
    'embedding': 'heads.Embedding',
    'neck': 'heads.Neck',
    'whitened': 'heads.Whitened',
}
# Name -> the type of a backbone or head, the type or function of a semantic network; InputError for an unknown name.
backbone_class = loader('src.networks', BACKBONES, 'backbone')
head_class = loader('src.networks', HEADS, 'head')
network_class = loader('src.networks', {name: row.target for name, row in NETWORKS.items()}, 'network')


def create_network(name: str, **options: Any) -> 'nn.Cell':
    """Create a network with initial weights.

    Args:
        name: a key of NETWORKS, or of BACKBONES for a backbone alone: images (N, 3, H, W) -> features (N, C).
        options: arguments of the network's constructor; they override the arguments fixed by the name.

    Raises:
        InputError: no network has that name, or it has no such option.
    """
    if name in BACKBONES:
        return create_image_network(name, backbone_options=options)
    check_choice([*NETWORKS, *BACKBONES], name, 'network')
    return create(network_class(name), f'network {name}', **{**NETWORKS[name].options, **options})


def create_image_network(backbone: str, head: str = 'none', *, backbone_options: Optional[Dict[str, Any]] = None,
                         head_options: Optional[Dict[str, Any]] = None) -> 'ImageNetwork':
    """Create a network of images (N, 3, H, W) float32 with initial weights.

    Args:
        backbone: a key of BACKBONES.
        head: a key of HEADS.
        backbone_options, head_options: arguments of their constructors.

    Returns:
        Cell: images -> embeddings (N, out_channels) float32; see src.networks.heads.ImageNetwork.

    Raises:
        InputError: no backbone or head has that name, or it has no such option.
    """
    from src.networks.heads import ImageNetwork
    make_backbone, make_head = backbone_class(backbone), head_class(head)
    body = create(make_backbone, f'backbone {backbone}', **(backbone_options or {}))
    return ImageNetwork(body, create(make_head, f'head {head}', body.out_channels, **(head_options or {})))
