"""metric_learn and PaddleCV's metric learning: embeddings in which the nearest image is of the same class."""
import os

import numpy as np

from src.accuracy import recall_at_k
from src.datasets.image_list import ImageList, check_images, read_image_folder, read_image_list, remap_labels
from src.datasets.samplers import GroupSampler, ShuffleSampler, TripletSampler
from src.datasets.sop import has_lists, load_sop
from src.errors import InputError
from src.losses import LOSSES, create_loss
from src.systems.embed import embed
from src.systems.image_system import ImageSystem


def load_images(path, split, subset, flag='--dataset_path'):
    """Images and class ids from what a user has.

    Args:
        path (str): a list file; or a folder of Stanford Online Products, lists prepared or not; or a folder with
            `train` and `test`, or itself, holding one folder a class.
        split (str): 'train' or 'test'.
        subset (str): 'full', 'half' or 'tiny', of Stanford Online Products.
        flag (str): that gave the path, for errors.

    Returns:
        ImageList.

    Raises:
        InputError: nothing of that kind is there, or an image is missing.
    """
    if not path:
        raise InputError(f'{flag} is missing: a list or a folder of images')
    if not os.path.exists(path):
        raise InputError(f'{flag}={path}: no such folder or list')
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


class MetricLearning(ImageSystem):
    """Training on the classes of the training list, Recall@K on classes never seen.

    Args:
        recipe (EasyDict): dataset_path, subset, class_num (0: as counted), network, network_options, loss_name,
            loss_options, samples_each_class, batch_size, test_batch_size, image_size, train_transform, eval_transform,
            flip, bgr, num_workers, pretrained, validation ('seen_classes', 'test_classes' or 'none'), query, gallery,
            recall_k, seed. Its network_options and class_num get what was found.
        place (Place): which share of the batches is this process's, and whether the network computes in float16
            (Ascend).
        training (bool): False loads no training images.

    Raises:
        InputError: bad data, weights that do not fit, another validation, or a class_num that is not what the list
            holds.
    """

    validations = ('seen_classes', 'test_classes', 'none')
    new_layer = 'embedding.'

    def __init__(self, recipe, place, training=True):
        super().__init__(recipe, place, training)
        if training:
            self._load_training_images()
        embedding_size = self._create_network(training)
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
            size = max(1, round(len(classes) * recipe.validation_fraction))
            if size == len(classes):
                raise InputError(f'--validation_fraction={recipe.validation_fraction}: leaves none of {size} classes '
                                 'to train on')
            held_out = np.isin(self.images.labels, classes[:size])
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

    def _create_sampler(self):
        recipe = self.recipe
        common = (self.labels, recipe.batch_size, recipe.seed, self.place.rank, self.place.size)
        batch = LOSSES[recipe.loss_name].batch
        if batch == 'pairs' and recipe.samples_each_class != 2:
            raise InputError(f'--samples_each_class={recipe.samples_each_class}: {recipe.loss_name} compares 2 images '
                             'a class')
        if batch in ('groups', 'pairs'):
            return GroupSampler(*common, instances=recipe.samples_each_class)
        return {'shuffle': ShuffleSampler, 'triplet': TripletSampler}[batch](*common)

    def train_dataset(self, epoch, skip):
        """The batches (image, label) of one epoch, without its first `skip` steps."""
        return self._batches(epoch, skip, self.sampler.epoch(epoch), bgr=self.recipe.bgr)

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
        """Recall@K: of every test image among the others, or of query images in a gallery; printed as published.

        Recall@1 is the accuracy; a K beyond the number of images compared with is left out.
        """
        recipe = self.recipe
        if bool(recipe.query) != bool(recipe.gallery):
            raise InputError('--query and --gallery: give both or neither')
        if recipe.query:
            query, gallery = (load_images(recipe[name], 'test', recipe.subset, f'--{name}')
                              for name in ('query', 'gallery'))
            counts = {'queries': len(query), 'gallery': len(gallery)}
            compared = len(gallery)
        else:
            query, gallery = load_images(recipe.dataset_path, 'test', recipe.subset), None
            counts = {'queries': len(query)}
            compared = len(query) - 1
        ks = sorted({1, *(k for k in recipe.recall_k if k <= compared)})
        more = (self.embed(gallery, True), gallery.labels) if gallery else ()
        recall = recall_at_k(self.embed(query, True), query.labels, ks, *more)
        print('============== Starting Evaluating ==============')
        print(f"result: {{'acc': {recall[1]:.3f}}} ckpt={recipe.checkpoint}")
        for k in ks:
            print(f'Recall@{k} = {recall[k]:.5f}')
        return {'accuracy': recall[1], 'recall': {str(k): recall[k] for k in ks}, **counts}
