"""CTL: embeddings of persons, found again among images or among centroids of them (arXiv 2104.13643)."""
import numpy as np

from src.accuracy import Rerank, make_centroids, ranked_list, reid_metrics
from src.common.errors import InputError
from src.datasets.image_list import remap_labels
from src.datasets.reid import open_reid, reid_dataset, statistics, statistics_lines
from src.pictures import neighbours_picture
from src.systems.images import ImageSystem
from src.systems.open_set import find_threshold

PICTURE_QUERIES, PICTURE_NEIGHBOURS = 8, 10


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


class Reid(ImageSystem):
    """Training on the identities of the training list, mAP and CMC on others."""

    measure = 'mAP'
    validations = ('test_classes', 'none')

    def _open(self, training):
        recipe = self.recipe
        lists = {name: recipe[name] for name in ('train_list', 'query', 'gallery')}
        self.images, self.query, self.gallery = open_reid(recipe.dataset, recipe.data_path, lists=lists, training=training)
        if not training or recipe.run_eval or recipe.validation != 'none':
            _check_matches(self.query, self.gallery)
        if self.process.rank == 0:
            print('\n'.join(statistics_lines(reid_dataset(recipe.dataset, lists),
                                             statistics(self.images, self.query, self.gallery))))

    def open_training_images(self):
        self._open(True)
        self.labels = remap_labels(self.images.labels)

    def test_images(self):
        if not hasattr(self, 'query'):
            self._open(False)
        return [self.query, self.gallery]

    def _embed_test(self, show_progress=False):
        """What the measures take: embeddings, ids and cameras of the queries, and of the gallery."""
        return tuple(part for images in self.test_images()
                     for part in (self.embed(images, show_progress), images.labels, images.cameras))

    def validate(self):
        """mAP of the queries among the images of the gallery."""
        return reid_metrics(*self._embed_test())['mAP']

    def evaluate(self, checkpoint):
        """mAP, mINP and CMC of the queries, among images and among centroids, re-ranked too where asked to.

        Draws the ranked lists, or the threshold where one is to be found; see find_threshold for the latter.
        """
        recipe = self.recipe
        self.check_evaluation()
        embedded = self._embed_test(True)
        query, query_ids, query_cams, *gallery = embedded
        sizes = {'instance': len(self.gallery), 'centroid': len(make_centroids(*gallery, query_ids, query_cams)[0])}
        print('============== Starting Evaluating ==============')
        result = {'queries': len(self.query)}
        for rerank in (None, Rerank())[:1 + recipe.rerank]:
            for kind, size in sizes.items():
                measured = reid_metrics(*embedded, centroids=kind == 'centroid', rerank=rerank)
                print(f'{kind}{" re-ranked" if rerank else ""}: mAP = {measured["mAP"]:.5f}, mINP = {measured["mINP"]:.5f}, '
                      + ', '.join(f'CMC@{k} = {share:.5f}' for k, share in measured['cmc'].items())
                      + f' ({len(self.query)} queries, {measured["skipped"]} skipped, gallery of {size})')
                result[kind + '_reranked' * bool(rerank)] = {
                    'mAP': measured['mAP'], 'mINP': measured['mINP'],
                    'cmc': {str(k): share for k, share in measured['cmc'].items()}, 'skipped': measured['skipped'],
                    'gallery': size}
        if recipe.false_match_rate:
            # Of persons who are queried alone: one label may stand for all distractors of a gallery.
            known = np.isin(gallery[1], query_ids)
            rows, ids, cams = (np.concatenate([own, other[known]]) for own, other in zip(embedded[:3], gallery))
            result.update(find_threshold(self, checkpoint, rows, ids, cams))
        elif recipe.picture:
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
