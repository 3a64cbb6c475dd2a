"""CTL: embeddings of persons, found again among images or among centroids of them (arXiv 2104.13643)."""
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np
from numpy.typing import NDArray

from src.accuracy import Rerank, make_centroids, ranked_list, reid_metrics
from src.common.errors import InputError
from src.datasets.image_list import ImageList, remap_labels
from src.datasets.reid import open_reid, reid_dataset, statistics, statistics_lines
from src.page import Shown, cosines, evaluation_page
from src.pictures import neighbours_picture
from src.systems.images import ImageSystem
from src.systems.open_set import find_threshold

PICTURE_QUERIES, PICTURE_NEIGHBOURS = 8, 10
# Embeddings (N, D), persons (N,) and cameras (N,).
Columns = Tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def _check_matches(query: ImageList, gallery: ImageList) -> None:
    """Before a training, because what measures finds it only after.

    Raises:
        InputError: no query has an image to be found, or a list has no labels (persons) or cameras.
    """
    cameras: Dict[int, Set[int]] = {}
    for person, camera in zip(gallery.known_labels.tolist(), gallery.known_cameras.tolist()):
        cameras.setdefault(person, set()).add(camera)
    pairs = zip(query.known_labels.tolist(), query.known_cameras.tolist())
    if not any(cameras.get(person, set()) - {camera} for person, camera in pairs):
        raise InputError(f'{query.paths[0]} and the other queries: none has a gallery image of its person from another '
                         'camera; look at the cameras of --query and --gallery (train.py measures nothing with '
                         '--run_eval=False)')


class Reid(ImageSystem):
    """Training on the identities of the training list, mAP and CMC on others."""

    measure = 'mAP'
    validations = ('test_classes', 'none')

    # Queries and gallery, once they were read.
    test: Optional[Tuple[ImageList, ImageList]] = None

    def _open(self, training: bool) -> Tuple[ImageList, ImageList]:
        """Queries and gallery; in training the training images are set too."""
        if self.test is not None:
            return self.test
        recipe = self.recipe
        lists = {name: recipe[name] for name in ('train_list', 'query', 'gallery')}
        found = open_reid(recipe.dataset, recipe.data_path, lists=lists, training=training)
        if not training or recipe.run_eval or recipe.validation != 'none':
            _check_matches(found.query, found.gallery)
        if self.process.rank == 0:
            print('\n'.join(statistics_lines(reid_dataset(recipe.dataset, lists), statistics(found))))
        if training and found.train is not None:
            self.images = found.train
        self.test = found.query, found.gallery
        return self.test

    def open_training_images(self) -> None:
        self._open(True)
        self.labels = remap_labels(self.images.known_labels)

    def test_images(self) -> List[ImageList]:
        return list(self._open(False))

    def _embed_test(self, show_progress: bool = False) -> List[Columns]:
        """Embeddings, persons and cameras of the queries and of the gallery, as the measures take them."""
        return [(self.embed(images, show_progress), images.known_labels, images.known_cameras)
                for images in self.test_images()]

    def validate(self) -> float:
        """mAP of the queries among the images of the gallery."""
        query, gallery = self._embed_test()
        return float(reid_metrics(*query, *gallery)['mAP'])

    def evaluate(self, checkpoint: str) -> Dict[str, Any]:
        """mAP, mINP and CMC of the queries, among images and among centroids, re-ranked too where asked to.

        Draws the ranked lists, or the threshold where one is to be found; see find_threshold for the latter.
        """
        recipe = self.recipe
        self.check_evaluation()
        query, gallery = self._embed_test(True)
        _, persons, cameras = query
        count = len(persons)
        sizes = {'instance': len(gallery[0]), 'centroid': len(make_centroids(*gallery, persons, cameras)[0])}
        print('============== Starting Evaluating ==============')
        result: Dict[str, Any] = {'queries': count, 'measures': {}}
        for rerank in (None, Rerank())[:1 + recipe.rerank]:
            for kind, size in sizes.items():
                measured = reid_metrics(*query, *gallery, centroids=kind == 'centroid', rerank=rerank)
                print(f'{kind}{" re-ranked" if rerank else ""}: mAP = {measured["mAP"]:.5f}, mINP = {measured["mINP"]:.5f}, '
                      + ', '.join(f'CMC@{k} = {share:.5f}' for k, share in measured['cmc'].items())
                      + f' ({count} queries, {measured["skipped"]} skipped, gallery of {size})')
                result[kind + '_reranked' * bool(rerank)] = {
                    'mAP': measured['mAP'], 'mINP': measured['mINP'],
                    'cmc': {str(k): share for k, share in measured['cmc'].items()}, 'skipped': measured['skipped'],
                    'gallery': size}
                result['measures'].update({f'{kind}{" re-ranked" if rerank else ""} {name}': value for name, value in (
                    ('mAP', measured['mAP']), ('CMC@1', measured['cmc'][1]))})
        result['accuracy'] = result['measures']['instance mAP']
        page = None
        if recipe.report:
            page = evaluation_page('Re-identification', recipe, checkpoint, result['measures'],
                                   {'queries': count, 'gallery': len(gallery[0])})
            asked, others = (Shown(column[0], images.paths, images.classes)
                             for column, images in zip((query, gallery), self.test_images()))
            nearest, _ = ranked_list(*query, *gallery, n=min(PICTURE_NEIGHBOURS, len(gallery[0])))
            page.add_search(asked, others, nearest, cosines(query[0], gallery[0], nearest))
        if recipe.false_match_rate:
            # Of persons who are queried alone: one label may stand for all distractors of a gallery.
            known = np.isin(gallery[1], persons)
            embeddings, persons, cameras = (np.concatenate([own, other[known]]) for own, other in zip(query, gallery))
            result.update(find_threshold(self, checkpoint, embeddings, persons, cameras, page))
        elif recipe.picture:
            self._draw(query, gallery)
        if page:
            page.write(recipe.report)
        return result

    def _draw(self, query: Columns, gallery: Columns) -> None:
        images, others = self.test_images()
        rows = np.unique(np.linspace(0, len(images) - 1, PICTURE_QUERIES).round().astype(int))
        embeddings, persons, cameras = (column[rows] for column in query)
        nearest, right = ranked_list(embeddings, persons, cameras, *gallery, n=min(PICTURE_NEIGHBOURS, len(others)))
        neighbours_picture([images.paths[row] for row in rows],
                           [[others.paths[i] for i in line if i >= 0] for line in nearest],
                           [found[line >= 0] for found, line in zip(right, nearest)], self.recipe.picture)
        print(f'ranked lists of {len(rows)} queries: {self.recipe.picture}')
