"""CTL: embeddings of persons, found again among images or among centroids of them (arXiv 2104.13643)."""
import numpy as np

from src.accuracy import make_centroids, ranked_list, reid_metrics
from src.datasets.image_list import check_images, remap_labels
from src.datasets.reid import EXPECTED, load_reid, load_reid_lists, reid_statistics
from src.datasets.samplers import IdentitySampler
from src.errors import InputError
from src.losses import create_loss
from src.systems.embed import embed
from src.systems.image_system import ImageSystem
from src.training.plots import check_picture, neighbours_picture

PICTURE_QUERIES, PICTURE_NEIGHBOURS = 8, 10


def _uses_lists(recipe):
    return recipe.dataset == 'lists' or any(recipe[name] for name in ('train_list', 'query', 'gallery'))


def load_data(recipe, training=True):
    """Training, query and gallery images.

    Args:
        recipe (EasyDict): dataset and data_path; or train_list, query and gallery, which go before them.
        training (bool): False needs no training list.

    Returns:
        (train, query, gallery) ImageLists; train is None for lists when not training.

    Raises:
        InputError: something is not given, missing or malformed.
    """
    if not _uses_lists(recipe):
        if not recipe.data_path:
            raise InputError(f'--data_path is missing: the folder that holds {recipe.dataset}')
        return load_reid(recipe.dataset, recipe.data_path)
    names = (['train_list'] if training else []) + ['query', 'gallery']
    for name in names:
        if not recipe[name]:
            raise InputError(f'--{name} is missing: a list of `path label camera` lines')
    lists = load_reid_lists(*(recipe[name] for name in names))
    for images in lists:
        check_images(images)
    return lists if training else (None, *lists)


def _check_matches(query, gallery):
    """Before a training, because what measures finds it only after.

    Args:
        query, gallery (ImageList): with labels (persons) and cameras.

    Raises:
        InputError: no query has anything to be found.
    """
    cameras = {}
    for person, camera in zip(gallery.labels.tolist(), gallery.cameras.tolist()):
        cameras.setdefault(person, set()).add(camera)
    pairs = zip(query.labels.tolist(), query.cameras.tolist())
    if not any(cameras.get(person, set()) - {camera} for person, camera in pairs):
        raise InputError(f'{query.paths[0]} and the other queries: none has a gallery image of its person from another '
                         'camera; look at the cameras of --query and --gallery (train.py measures nothing with '
                         '--run_eval=False)')


def _print_statistics(recipe, train, query, gallery):
    found = reid_statistics(train or query, query, gallery)
    expected = {} if _uses_lists(recipe) else EXPECTED[recipe.dataset.lower()]
    for split, numbers in found.items():
        if split == 'train' and train is None:
            continue
        line = '{:7} {:6} identities {:6} images {:3} cameras'.format(split, *numbers)
        if split in expected:
            same = numbers == expected[split]
            line += ' (as published)' if same else ' (published: {}, {}, {})'.format(*expected[split])
        print(line)


class Reid(ImageSystem):
    """Training on the identities of the training list, mAP and CMC on others.

    Args:
        recipe (EasyDict): dataset, data_path, train_list, query, gallery, network, network_options, loss_options,
            samples_each_class, resample, batch_size, test_batch_size, image_size, train_transform, flip, num_workers,
            pretrained, validation ('test_classes' or 'none'), picture, seed.
        place (Place): which share of the batches is this process's, and whether the network computes in float16
            (Ascend).
        training (bool): False creates neither loss nor sampler.

    Raises:
        InputError: bad data, none to measure on, weights that do not fit, or another validation.
    """

    validations = ('test_classes', 'none')
    new_layer = 'neck.'

    def __init__(self, recipe, place, training=True):
        super().__init__(recipe, place, training)
        self.images, self.query, self.gallery = load_data(recipe, training)
        if not training or recipe.run_eval or recipe.validation != 'none':
            _check_matches(self.query, self.gallery)
        if place.rank == 0:
            _print_statistics(recipe, self.images, self.query, self.gallery)
        width = self._create_network(training)
        if training:
            self.labels = remap_labels(self.images.labels)
            # The baseline is this loss without its other terms; loss_name has chosen the recipe that says so.
            self.loss = create_loss('ctl', num_classes=int(self.labels.max()) + 1, embedding_size=width,
                                    num_instances=recipe.samples_each_class, **recipe.loss_options)
            self.sampler = IdentitySampler(self.labels, recipe.batch_size, recipe.seed, place.rank, place.size,
                                           recipe.samples_each_class, recipe.resample)

    def train_dataset(self, epoch, skip):
        """The batches (image, label, mask) of one epoch, without its first `skip` steps."""
        return self._batches(epoch, skip, *self.sampler.epoch(epoch))

    def embed(self, images, show_progress=False):
        """Embeddings (N, D) float32 of an ImageList: what the neck returns."""
        recipe = self.recipe
        return embed(self.network, images, recipe.test_batch_size, show_progress, image_size=recipe.image_size,
                     num_workers=recipe.num_workers)

    def _embed_test(self, show_progress=False):
        """What the measures take: embeddings, ids and cameras of the queries, and of the gallery."""
        return tuple(part for images in (self.query, self.gallery)
                     for part in (self.embed(images, show_progress), images.labels, images.cameras))

    def validate(self):
        """mAP of the queries among the images of the gallery."""
        return reid_metrics(*self._embed_test())['mAP']

    def evaluate(self):
        """mAP and CMC of the queries, among images and among centroids; draws the ranked lists where asked to."""
        check_picture(self.recipe.picture)
        embedded = self._embed_test(True)
        query, query_ids, query_cams, *gallery = embedded
        sizes = {'instance': len(self.gallery), 'centroid': len(make_centroids(*gallery, query_ids, query_cams)[0])}
        print('============== Starting Evaluating ==============')
        result = {'queries': len(self.query)}
        for kind, size in sizes.items():
            measured = reid_metrics(*embedded, centroids=kind == 'centroid')
            print(f'{kind}: mAP = {measured["mAP"]:.5f}, '
                  + ', '.join(f'CMC@{k} = {share:.5f}' for k, share in measured['cmc'].items())
                  + f' ({len(self.query)} queries, {measured["skipped"]} skipped, gallery of {size})')
            result[kind] = {'mAP': measured['mAP'], 'cmc': {str(k): share for k, share in measured['cmc'].items()},
                            'skipped': measured['skipped'], 'gallery': size}
        if self.recipe.picture:
            self._draw(query, gallery)
        return result

    def _draw(self, query, gallery):
        rows = np.unique(np.linspace(0, len(query) - 1, PICTURE_QUERIES).round().astype(int))
        nearest, right = ranked_list(query[rows], self.query.labels[rows], self.query.cameras[rows], *gallery,
                                     n=min(PICTURE_NEIGHBOURS, len(self.gallery)))
        neighbours_picture([self.query.paths[row] for row in rows],
                           [[self.gallery.paths[i] for i in line if i >= 0] for line in nearest],
                           [found[line >= 0] for found, line in zip(right, nearest)], self.recipe.picture)
        print(f'ranked lists of {len(rows)} queries: {self.recipe.picture}')
