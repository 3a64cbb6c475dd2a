"""Networks by name; a new network is one file and one line here."""
from functools import partial

from src.errors import InputError
from src.networks.demnet import FusionNetwork, attribute_network, word_network
from src.networks.heads import image_network, reid_network

NETWORKS = {
    'cub_att': partial(attribute_network, attribute_dim=312, hidden_dim=700, sigmas=(0.0008, 0.0012)),
    'cub_word': partial(word_network, word_dim=1000, sigmas=(0.0005,)),
    'cub_fusion': partial(FusionNetwork, attribute_dim=312, word_dim=1000, hidden_dim=900,
                          sigmas=(0.0008, 0.0012, 0.0012)),
    'awa_att': partial(attribute_network, attribute_dim=85, hidden_dim=700, sigmas=(0.0005, 0.0005)),
    'awa_word': partial(word_network, word_dim=1000, sigmas=(0.0005,)),
    'awa_fusion': partial(FusionNetwork, attribute_dim=85, word_dim=1000, hidden_dim=900,
                          sigmas=(0.0008, 0.0012, 0.0012)),
    'resnet50': partial(image_network, blocks=(3, 4, 6, 3)),
    'resnet101': partial(image_network, blocks=(3, 4, 23, 3)),
    'resnet152': partial(image_network, blocks=(3, 8, 36, 3)),
    'resnet50_reid': partial(reid_network, blocks=(3, 4, 6, 3)),
}


def create_network(name, **options):
    """A new network with initial weights.

    Args:
        name (str): a key of NETWORKS.
        options: the network's own keyword arguments; DEM: visual_dim (1024), output_relu (True) and the widths
            the network has of attribute_dim, word_dim, hidden_dim; resnet: embedding_size (0: none) and ResNet's
            padding, bn_eps, last_stride, stem_relu; resnet50_reid: those of ResNet.

    Raises:
        InputError: no network of that name.
    """
    if name not in NETWORKS:
        raise InputError(f'no network is called {name!r}: choose one of {", ".join(NETWORKS)}')
    return NETWORKS[name](**options)
