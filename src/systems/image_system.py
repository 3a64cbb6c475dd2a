"""What the systems that learn from images share."""
from mindspore import amp

from src.datasets.images import create_train_dataset, naming_broken_images
from src.errors import InputError
from src.networks import create_network
from src.networks.weights import load_weights, read_weights
from src.training.checkpoint import saved_recipe

TORCHVISION = {'padding': 'symmetric', 'bn_eps': 1e-5}
MINDSPORE = {'padding': 'same', 'bn_eps': 1e-4}


def conventions(path, saved):
    """Padding and BatchNorm's epsilon that weights were trained with: the same weights give other outputs under others.

    Args:
        path (str or Path): the weights.
        saved (dict or None): the recipe they were trained by; None in another project's weights.

    Returns:
        dict, options of a ResNet; empty where the saved recipe took the network's defaults.
    """
    if saved:
        return {name: value for name, value in saved['network_options'].items() if name in ('padding', 'bn_eps')}
    return TORCHVISION if str(path).endswith(('.pth', '.safetensors')) else MINDSPORE


def for_device(network, target):
    """The network in float16, with BatchNorm in float32, on Ascend; elsewhere as it is."""
    return amp.auto_mixed_precision(network, 'O2') if target == 'Ascend' else network


class ImageSystem:
    """The base of MetricLearning and Reid, which set images, labels, loss and sampler when training.

    Args:
        recipe (EasyDict): of which this uses network, network_options, pretrained, validation and what is about
            batches; network_options get the conventions of the weights it starts from.
        place (Place): which share of the batches is this process's, and its device.
        training (bool): whether to look at validation and pretrained.

    Raises:
        InputError: a validation that is not one of `validations`.
    """

    inputs = 1
    validations = ()
    # Beginning of the names of the layer that weights of a backbone alone do not have.
    new_layer = ''

    def __init__(self, recipe, place, training):
        self.recipe = recipe
        self.place = place
        if training and recipe.validation not in self.validations:
            raise InputError(f'--validation={recipe.validation}: choose one of {", ".join(self.validations)}')

    def _create_network(self, training):
        """Set network, with the weights it starts from; returns the width of its embeddings."""
        recipe = self.recipe
        start = recipe.pretrained if training else None
        if start:
            saved = saved_recipe(start)
            # Of a .ckpt of unknown origin the recipe knows more, where it says anything, than the suffix.
            options = {} if saved or not start.endswith('.ckpt') else recipe.network_options
            recipe.network_options = {**recipe.network_options, **conventions(start, saved), **options}
        network = create_network(recipe.network, **recipe.network_options)
        if start:
            has_layer = any(self.new_layer in name for name in read_weights(start))
            report = load_weights(network, start, () if has_layer else (self.new_layer,))
            if self.place.rank == 0:
                print(f'starting from {start}: {len(report["loaded"])} parameters'
                      + (f', the {self.new_layer[:-1]} starts fresh' if report['untouched'] else ''))
        self.network = for_device(network, self.place.target)
        return network.out_channels

    @staticmethod
    def input_shapes(network, args):
        """Shape of the network's input without the batch."""
        return [(3, args.height, args.width)]

    @property
    def steps_per_epoch(self):
        return self.sampler.steps_per_epoch

    def _batches(self, epoch, skip, indices, mask=None, bgr=False):
        """What create_train_dataset makes of a sampler's indices (and mask), in this process's share of an epoch."""
        recipe, place = self.recipe, self.place
        return create_train_dataset(self.images, indices, self.labels, recipe.train_transform, recipe.image_size,
                                    recipe.seed * 1_000_003 + epoch, recipe.num_workers, skip, mask, recipe.flip, bgr,
                                    place.rank, place.size)

    def reading(self):
        """Around a loop over train_dataset: names an image that cannot be read."""
        return naming_broken_images(self.images)
