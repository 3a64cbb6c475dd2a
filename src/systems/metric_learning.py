"""metric_learn and PaddleCV's metric learning: embeddings in which the nearest image is of the same class."""
from typing import Any, Dict, List, Optional

import numpy as np
from numpy.typing import NDArray

from src.accuracy import Rerank, Retrieval, measure, nearest_neighbours, recall_at_k
from src.common.errors import InputError
from src.datasets.augmentation import augmenting
from src.datasets.image_list import ImageList, in_one_numbering, remap_labels, with_turned_classes
from src.datasets.images import open_images
from src.datasets.splits import held_out
from src.page import Page, Shown, evaluation_page
from src.systems.images import ImageSystem
from src.systems.open_set import find_threshold

SHOWN = 10  # neighbours of a query that --report looks at


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
        self.images = open_images(recipe.dataset_path, 'train', subset=recipe.subset)
        if recipe.validation == 'seen_classes':
            apart = held_out(self.images.known_labels, recipe.validation_fraction, recipe.seed, 'classes')
            self.held_out, self.images = self.images.select(apart), self.images.select(~apart)
        # What is missing must not come out after the first epoch or the last.
        if recipe.validation == 'test_classes':
            self.held_out = open_images(recipe.dataset_path, 'test', subset=recipe.subset)
        if recipe.run_eval:
            self.test_images()
        augmenting(recipe.augmentation, (1, 1), recipe.seed)
        listed = len(np.unique(self.images.known_labels))
        if recipe.class_num not in (0, listed):
            raise InputError(f'--class_num={recipe.class_num}: the training list has {listed} classes')
        if recipe.turned_classes:
            self.images = with_turned_classes(self.images)
        self.labels = remap_labels(self.images.known_labels)
        counts = np.bincount(self.labels)
        single = int((counts == 1).sum())
        if self.process.rank == 0:
            print(f'training on {len(self.images)} images of {len(counts)} classes'
                  + ', three quarters of them turned ones' * recipe.turned_classes
                  + (f', {single} of them with one image, which is never a positive' if single else ''))

    def validate(self) -> float:
        """Recall@1 of the held-out classes, or of the test classes where the recipe says so.

        Where the list names cameras (or sessions), an image is searched for among those of the other cameras: pictures taken
        one after the other find each other without anything learnt.
        """
        held = self.held_out
        return recall_across_cameras(self.embed(held), held.known_labels, held.cameras)

    def test_images(self) -> List[ImageList]:
        recipe = self.recipe
        if bool(recipe.query) != bool(recipe.gallery):
            raise InputError('--query and --gallery: give both or neither')
        if recipe.query:
            return list(in_one_numbering(*(open_images(recipe[name], 'test', subset=recipe.subset, flag=f'--{name}')
                                           for name in ('query', 'gallery'))))
        return [open_images(recipe.dataset_path, 'test', subset=recipe.subset)]

    def check_evaluation(self) -> None:
        super().check_evaluation()
        recipe = self.recipe
        if recipe.picture and not recipe.false_match_rate:
            raise InputError(f'--picture={recipe.picture}: of metric learning the threshold is drawn; give '
                             '--false_match_rate too')

    def evaluate(self, checkpoint: str) -> Dict[str, Any]:
        """Recall@K: of every test image among the others, or of query images in a gallery; printed as published.

        Recall@1 is the accuracy; a K beyond the number of images compared with is left out. With the recipe's rerank
        Recall@K of the re-ranked lists follows, with its false_match_rate what find_threshold prints.
        """
        recipe = self.recipe
        self.check_evaluation()
        query, *galleries = self.test_images()
        compared = len(galleries[0]) if galleries else len(query) - 1
        counts = dict(zip(('queries', 'gallery'), map(len, [query, *galleries])))
        ks = sorted({1, *(k for k in recipe.recall_k if k <= compared)})
        # In the order of test_images, in which an Ascend 310's results are read.
        embeddings, labels = self.embed(query, True), query.known_labels
        others: Dict[str, Any] = {}
        for gallery in galleries:
            others = {'gallery': self.embed(gallery, True), 'gallery_labels': gallery.known_labels}
        figures = measure(self.measures, Retrieval(embeddings, labels, ks=ks, **others))
        print('============== Starting Evaluating ==============')
        print(f"result: {{'acc': {figures['Recall@1']:.3f}}} ckpt={checkpoint}")
        print('\n'.join(f'{name} = {value:.5f}' for name, value in figures.items()))
        result: Dict[str, Any] = {'accuracy': figures['Recall@1'], 'recall': _by_k(figures), 'measures': figures, **counts}
        if recipe.rerank:
            reranked = measure(self.measures, Retrieval(embeddings, labels, ks=ks, rerank=Rerank(), **others))
            print('\n'.join(f'{name} re-ranked = {value:.5f}' for name, value in reranked.items()))
            result.update(recall_reranked=_by_k(reranked), measures_reranked=reranked)
        page = None
        if recipe.report:
            page = evaluation_page('Metric learning', recipe, checkpoint, figures, counts)
            shown = Shown(embeddings, query.paths, query.classes)
            _add_search(page, shown, *(Shown(others['gallery'], gallery.paths, gallery.classes) for gallery in galleries))
        if recipe.false_match_rate:
            for gallery in galleries:
                # An image that is in both lists would be found as itself.
                new = ~np.isin(gallery.paths, query.paths)
                embeddings, labels = (np.concatenate([own, other[new]])
                                      for own, other in zip((embeddings, labels), others.values()))
            result.update(find_threshold(self, checkpoint, embeddings, labels, page=page))
        if page:
            page.write(recipe.report)
        return result


def _add_search(page: Page, query: Shown, gallery: Optional[Shown] = None) -> None:
    """Add the neighbours of the queries in a gallery, or of each query among the others."""
    k = min(SHOWN, len((gallery or query).embeddings) - (gallery is None))
    if gallery:
        page.add_search(query, gallery, *nearest_neighbours(query.embeddings, gallery.embeddings, k))
        return
    found = nearest_neighbours(query.embeddings, query.embeddings, k + 1)
    # Of equal images another one may come before the query itself, or fill its place.
    others = np.argsort(found[0] == np.arange(len(found[0]))[:, None], axis=1, kind='stable')[:, :k]
    page.add_search(query, query, *(np.take_along_axis(column, others, 1) for column in found))


def _by_k(figures: Dict[str, float]) -> Dict[str, float]:
    """Recall by K."""
    return {name.partition('@')[2]: value for name, value in figures.items() if name.startswith('Recall@')}


def recall_across_cameras(embeddings: NDArray[Any], labels: NDArray[Any], cameras: Optional[NDArray[Any]]) -> float:
    """Recall@1 where what is found must be of another camera than the query.

    Args:
        embeddings: (N, D) float. labels: (N,) int. cameras: (N,) int, or None.

    Returns:
        the share of the queries whose nearest image among those of all other cameras is of their class; images whose
        class no other camera saw are no queries. Leave-one-out over all images where cameras is None or no image can be
        a query.
    """
    right = count = 0
    for camera in [] if cameras is None else np.unique(cameras):
        others = cameras != camera
        queries = ~others & np.isin(labels, labels[others])
        if queries.any():
            recall = recall_at_k(embeddings[queries], labels[queries], gallery=embeddings[others],
                                 gallery_labels=labels[others])[1]
            right, count = right + recall * queries.sum(), count + queries.sum()
    return float(right / count) if count else recall_at_k(embeddings, labels)[1]
