"""metric_learn and PaddleCV's metric learning: embeddings in which the nearest image is of the same class."""
import os

import numpy as np
from mindspore import amp

from src.accuracy import recall_at_k
from src.datasets.image_list import ImageList, check_images, read_image_folder, read_image_list, remap_labels
from src.datasets.images import create_train_dataset, naming_broken_images
from src.datasets.samplers import GroupSampler, ShuffleSampler, TripletSampler
from src.datasets.sop import has_lists, load_sop
from src.errors import InputError
from src.losses import LOSSES, create_loss
from src.networks import create_network
from src.networks.weights import load_weights, read_weights
from src.systems.embed import embed
from src.training.checkpoint import saved_recipe


def load_images(path, split, subset):
    """Images and class ids from what a user has.

    Args:
        path (str): a list file; or a folder of Stanford Online Products, lists prepared or not; or a folder with `train` and
            `test`, or itself, holding one folder a class.
        split (str): 'train' or 'test'.
        subset (str): 'full', 'half' or 'tiny', of Stanford Online Products.

    Returns:
        ImageList.

    Raises:
        InputError: nothing of that kind is there, or an image is missing.
    """
    if not path or not os.path.exists(path):
        raise InputError(f'--dataset_path={path}: no such folder or list')
    if os.path.isfile(path):
        images = read_image_list(path)
    elif has_lists(path):
        images = load_sop(path, split, subset)
    else:
        own = os.path.join(path, split)
        images = read_image_folder(own if os.path.isdir(own) else path)
    check_images(images)
    return images


def _select(images, keep):
    rows = np.flatnonzero(keep)
    return ImageList([images.paths[row] for row in rows], images.labels[rows],
                     None if images.cameras is None else images.cameras[rows])


class MetricLearning:
    """Training on the classes of the training list, Recall@K on classes never seen.

    Args:
        recipe (EasyDict): dataset_path, subset, class_num (0: as counted), network, network_options, loss_name,
            loss_options, samples_each_class, batch_size, test_batch_size, image_size, train_transform, eval_transform,
            flip, bgr, num_workers, pretrained, validation ('seen_classes', 'test_classes' or 'none'), query, gallery,
            recall_k, seed. Its network_options and class_num get what was found.
        place (Place): which share of the batches is this process's, and whether the network computes in float16 (Ascend).
        training (bool): False loads no training images.

    Raises:
        InputError: bad data, weights that do not fit, or a class_num that is not what the list holds.
    """

    inputs = 1

    def __init__(self, recipe, place, training=True):
        self.recipe = recipe
        self.place = place
        if training:
            self._load_training_images()
        if training and recipe.pretrained:
            self._take_padding_of(recipe.pretrained)
        self.network = create_network(recipe.network, **recipe.network_options)
        if training and recipe.pretrained:
            self._start_from(recipe.pretrained)
        embedding_size = self.network.out_channels
        if place.target == 'Ascend':
            self.network = amp.auto_mixed_precision(self.network, 'O2')
        if training:
            options = dict(recipe.loss_options)
            if LOSSES[recipe.loss_name].kind == 'element':
                options.update(num_classes=recipe.class_num, embedding_size=embedding_size)
            self.loss = create_loss(recipe.loss_name, **options)
            self.sampler = self._create_sampler()

    def _load_training_images(self):
        recipe = self.recipe
        self.images = load_images(recipe.dataset_path, 'train', recipe.subset)
        self.held_out = None
        if recipe.validation == 'seen_classes':
            classes = np.random.default_rng(recipe.seed).permutation(np.unique(self.images.labels))
            held_out = np.isin(self.images.labels, classes[:max(1, round(len(classes) * recipe.validation_fraction))])
            self.held_out = _select(self.images, held_out)
            self.images = _select(self.images, ~held_out)
        self.labels = remap_labels(self.images.labels)
        classes = len(np.unique(self.labels))
        if recipe.class_num not in (0, classes):
            raise InputError(f'--class_num={recipe.class_num}: the training list has {classes} classes')
        recipe.class_num = classes
        single = int((np.bincount(self.labels) == 1).sum())
        if self.place.rank == 0:
            print(f'training on {len(self.images)} images of {classes} classes'
                  + (f', {single} of them with one image, which is never a positive' if single else ''))

    def _take_padding_of(self, path):
        # The same weights give other outputs under another padding, so padding goes with the weights.
        saved = saved_recipe(path)
        if saved:
            options = saved['network_options']
        elif str(path).endswith(('.pth', '.safetensors')):
            options = {'padding': 'symmetric', 'bn_eps': 1e-5}
        else:
            options = {'padding': 'same', 'bn_eps': 1e-4}
        for name in ('padding', 'bn_eps'):
            if name in options:
                self.recipe.network_options[name] = options[name]

    def _start_from(self, path):
        fresh = ()
        if self.recipe.network_options.get('embedding_size') and not any(
                'embedding.' in name for name in read_weights(path)):
            fresh = ('embedding.',)
        report = load_weights(self.network, path, fresh)
        if self.place.rank == 0:
            print(f'starting from {path}: {len(report["loaded"])} parameters'
                  + (', the embedding layer starts fresh' if fresh else ''))

    def _create_sampler(self):
        recipe = self.recipe
        common = (self.labels, recipe.batch_size, recipe.seed, self.place.rank, self.place.size)
        batch = LOSSES[recipe.loss_name].batch
        if batch == 'groups':
            return GroupSampler(*common, instances=recipe.samples_each_class)
        return {'shuffle': ShuffleSampler, 'triplet': TripletSampler}[batch](*common)

    @staticmethod
    def input_shapes(network, args):
        """Shape of the network's input without the batch."""
        return [(3, args.height, args.width)]

    @property
    def steps_per_epoch(self):
        return self.sampler.steps_per_epoch

    def train_dataset(self, epoch, skip):
        """The batches (image, label) of one epoch, without its first `skip` steps."""
        recipe = self.recipe
        return create_train_dataset(self.images, self.sampler.epoch(epoch), self.labels, recipe.train_transform,
                                    recipe.image_size, recipe.seed * 1_000_003 + epoch, recipe.num_workers, skip,
                                    flip=recipe.flip, bgr=recipe.bgr, rank=self.place.rank, size=self.place.size)

    def reading(self):
        """Around a loop over train_dataset: names an image that cannot be read."""
        return naming_broken_images(self.images)

    def embed(self, images, show_progress=False):
        """Embeddings (N, D) float32 of an ImageList."""
        recipe = self.recipe
        return embed(self.network, images, recipe.test_batch_size, show_progress, transform=recipe.eval_transform,
                     image_size=recipe.image_size, bgr=recipe.bgr, num_workers=recipe.num_workers)

    def validate(self):
        """Recall@1 of the held-out classes, or of the test classes where the recipe says so."""
        if self.held_out is None:
            self.held_out = load_images(self.recipe.dataset_path, 'test', self.recipe.subset)
        return recall_at_k(self.embed(self.held_out), self.held_out.labels)[1]

    def evaluate(self):
        """Recall@K: of every test image among the others, or of query images in a gallery; printed as published."""
        recipe = self.recipe
        if bool(recipe.query) != bool(recipe.gallery):
            raise InputError('--query and --gallery: give both or neither')
        ks = tuple(recipe.recall_k)
        if recipe.query:
            query, gallery = (load_images(path, 'test', recipe.subset) for path in (recipe.query, recipe.gallery))
            recall = recall_at_k(self.embed(query, True), query.labels, ks, self.embed(gallery, True), gallery.labels)
            counts = {'queries': len(query), 'gallery': len(gallery)}
        else:
            query = load_images(recipe.dataset_path, 'test', recipe.subset)
            recall = recall_at_k(self.embed(query, True), query.labels, ks)
            counts = {'queries': len(query)}
        print('============== Starting Evaluating ==============')
        print(f"result: {{'acc': {recall[ks[0]]:.3f}}} ckpt={recipe.checkpoint}")
        for k in ks:
            print(f'Recall@{k} = {recall[k]:.5f}')
        return {'accuracy': recall[ks[0]], 'recall': {str(k): recall[k] for k in ks}, **counts}
