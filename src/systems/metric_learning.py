"""metric_learn and PaddleCV's metric learning: embeddings in which the nearest image is of the same class."""
from contextlib import suppress
from typing import Any, Dict, Optional

import numpy as np
from numpy.typing import NDArray

from src.accuracy import Rerank, Retrieval, measure, nearest_neighbours, recall_at_k
from src.accuracy.retrieval import own_rows
from src.common.errors import InputError
from src.datasets.augmentation import augmenting
from src.datasets.image_list import ImageList, in_one_numbering, remap_labels
from src.datasets.images import open_images
from src.datasets.same_pictures import picture_numbers
from src.datasets.splits import held_out
from src.page import Page, Shown, evaluation_page
from src.systems.images import ImageSystem
from src.systems.measured import MeasuredImages
from src.systems.open_set import find_threshold, keeping

SHOWN = 10  # neighbours of a query shown by --report


class MetricLearning(ImageSystem):
    """Training on the classes of the training list, Recall@K on classes never seen."""

    measure = 'Recall@1'
    # Names of src.accuracy.MEASURES: printed, written to result.json and compared by benchmarks/compare.py.
    measures = ('recall', 'r_precision', 'map_at_r')
    validations = ('seen_classes', 'test_classes', 'none')
    # The images that --validation measures; set by open_training_images.
    held_out: ImageList

    def open_training_images(self) -> None:
        recipe = self.recipe
        self.images = self._open('dataset_path', 'train')
        if recipe.validation == 'seen_classes':
            apart = held_out(self.images.known_labels, recipe.validation_fraction, recipe.seed, 'classes')
            self.held_out, self.images = self.images.select(apart), self.images.select(~apart)
        # Missing test images are reported now, not after an epoch of training.
        if recipe.validation == 'test_classes':
            self.held_out = self._open('dataset_path', 'test')
        if recipe.run_eval:
            _ = self.test
        augmenting(recipe.augmentation, (1, 1), recipe.seed)
        self.labels = remap_labels(self.images.known_labels)
        counts = np.bincount(self.labels)
        if recipe.class_num not in (0, len(counts)):
            raise InputError(f'--class_num={recipe.class_num}: the training list has {len(counts)} classes')
        single = int((counts == 1).sum())
        if self.process.rank == 0:
            print(f'training on {len(self.images)} images of {len(counts)} classes'
                  + (f', {single} of them with one image, which is never a positive' if single else '')
                  + ''.join(f'; {count} {why}: left out' for why, count in self.images.left_out.items()))

    def validate(self) -> float:
        """Recall@1 of the held-out classes, or of the test classes if the recipe says so.

        If the list names cameras (or sessions), an image is searched for among images of other cameras: images taken in
        sequence find each other even with an untrained network.
        """
        held = self.held_out
        return recall_across_cameras(self.embed(held), held.known_labels, held.cameras, picture_numbers([held])[0])

    def _open(self, entry: str, split: str) -> ImageList:
        """Open the images that an entry of the recipe names."""
        recipe = self.recipe
        return self.readable(open_images(recipe[entry], split, subset=recipe.subset, flag=f'--{entry}',
                                         encoding=recipe.encoding))

    def _open_test(self) -> MeasuredImages:
        recipe = self.recipe
        if bool(recipe.query) != bool(recipe.gallery):
            raise InputError('--query and --gallery: give both or neither')
        lists = ([self._open(name, 'test').part(name) for name in ('query', 'gallery')] if recipe.query
                 else [self._open('dataset_path', 'test')])
        if not recipe.query and (lists[0].is_query is not None or lists[0].is_gallery is not None):
            lists = [lists[0].part('query'), lists[0].part('gallery')]
        train = None
        with suppress(InputError):  # a test need not know the training images
            train = open_images(recipe.dataset_path, 'train', subset=recipe.subset, encoding=recipe.encoding)
        query, gallery = in_one_numbering(lists[0], lists[-1])
        return MeasuredImages(query, gallery if len(lists) > 1 else None, train)

    def check_evaluation(self) -> None:
        super().check_evaluation()
        recipe = self.recipe
        if recipe.picture and not recipe.false_match_rate:
            raise InputError(f'--picture={recipe.picture}: metric learning draws the threshold only; give '
                             '--false_match_rate too')

    def evaluate(self, checkpoint: str) -> Dict[str, Any]:
        """Recall@K: of every test image among the others, or of query images in a gallery; printed as published.

        Recall@1 is the accuracy; a K above the number of images compared with is skipped. Recall@K of the re-ranked
        lists follows if the recipe sets rerank, and the lines of find_threshold if it sets false_match_rate.
        """
        recipe = self.recipe
        self.check_evaluation()
        test = self.test
        query, *galleries = test.lists
        compared = len(galleries[0]) if galleries else len(query) - 1
        ks = sorted({1, *(k for k in recipe.recall_k if k <= compared)})
        # In the order of MeasuredImages.lists, in which results of an Ascend 310 are read.
        embeddings, labels = self.embed(query, True), query.known_labels
        others: Dict[str, Any] = {'pictures': test.pictures}
        for gallery in galleries:
            others.update(gallery=self.embed(gallery, True), gallery_labels=gallery.known_labels,
                          gallery_pictures=test.gallery_pictures)
        figures = measure(self.measures, Retrieval(embeddings, labels, ks=ks, **others))
        print('============== Starting Evaluating ==============')
        print(f"result: {{'acc': {figures['Recall@1']:.3f}}} ckpt={checkpoint}")
        print('\n'.join(f'{name} = {value:.5f}' for name, value in figures.items()))
        for k in sorted({*recipe.recall_k} - {*ks}):
            print(f'Recall@{k}: left out, as a query is compared with {compared} images')
        print(test.line())
        result: Dict[str, Any] = {'accuracy': figures['Recall@1'], 'recall': _by_k(figures), 'measures': figures,
                                  **dict(zip(('queries', 'gallery'), map(len, test.lists))), 'test': test.facts()}
        if recipe.rerank:
            rerank = Rerank(**recipe.rerank_options)
            reranked = measure(self.measures, Retrieval(embeddings, labels, ks=ks, rerank=rerank, **others))
            print('\n'.join(f'{name} re-ranked = {value:.5f}' for name, value in reranked.items()))
            result.update(recall_reranked=_by_k(reranked), measures_reranked=reranked)
        page = None
        if recipe.report:
            page = evaluation_page('Metric learning', recipe, checkpoint, figures, {'measured': test.line().partition(': ')[2]})
            _add_search(page, test, embeddings, others.get('gallery', embeddings))
        with keeping(result, page, recipe.report):
            if recipe.false_match_rate:
                if galleries:
                    embeddings = np.concatenate([embeddings, others['gallery']])
                    labels = np.concatenate([labels, others['gallery_labels']])
                # A picture listed twice would be found as its own answer.
                result.update(find_threshold(self, checkpoint, embeddings[test.different], labels[test.different],
                                             page=page))
        return result


def _add_search(page: Page, test: MeasuredImages, embeddings: NDArray[Any], others: NDArray[Any]) -> None:
    """Add the neighbours of the queries to the page, without images that show the query's own picture."""
    searched = test.lists[-1]
    numbers = test.pictures if test.gallery_pictures is None else test.gallery_pictures
    # A query and its copies come first among its neighbours if they are among the images searched.
    found, similarities = nearest_neighbours(embeddings, others, min(SHOWN + 1, len(others)))
    own = numbers[found] == test.pictures[:, None]
    order = np.argsort(own, axis=1, kind='stable')[:, :min(SHOWN, len(others) - (test.gallery is None))]
    query, gallery = (Shown(rows, images.paths, images.classes)
                      for rows, images in ((embeddings, test.query), (others, searched)))
    page.add_search(query, gallery, np.take_along_axis(np.where(own, -1, found), order, 1),
                    np.take_along_axis(similarities, order, 1), test.answers > 0)


def _by_k(figures: Dict[str, float]) -> Dict[str, float]:
    """Recall by K."""
    return {name.partition('@')[2]: value for name, value in figures.items() if name.startswith('Recall@')}


def recall_across_cameras(embeddings: NDArray[Any], labels: NDArray[Any], cameras: Optional[NDArray[Any]],
                          pictures: Optional[NDArray[Any]] = None) -> float:
    """Recall@1 among the images of other cameras than the query's.

    Args:
        embeddings: (N, D) float. labels: (N,) int. cameras: (N,) int, or None. pictures: of src.accuracy.Retrieval.

    Returns:
        the fraction of queries whose nearest image of another camera is of their class; images whose class no other camera
        saw are no queries. Leave-one-out over all images if cameras is None or no image can be a query.
    """
    right = count = 0
    for camera in [] if cameras is None else np.unique(cameras):
        others = cameras != camera
        queries = ~others & np.isin(labels, labels[others])
        if queries.any():
            own = {} if pictures is None else own_rows(pictures[queries], pictures[others])
            recall = recall_at_k(embeddings[queries], labels[queries], gallery=embeddings[others],
                                 gallery_labels=labels[others], own=own)[1]
            right, count = right + recall * queries.sum(), count + queries.sum()
    return float(right / count) if count else recall_at_k(embeddings, labels, own=own_rows(pictures))[1]
