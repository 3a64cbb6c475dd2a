"""CTL: embeddings of persons, searched for among images or centroids (arXiv 2104.13643)."""
from contextlib import suppress
from typing import Any, Dict, List

import numpy as np

from src.accuracy import Images, Rerank, make_centroids, nearest_of_others, reid_figures
from src.common.errors import InputError
from src.datasets.image_list import read_image_list, remap_labels
from src.datasets.reid import ReidImages, open_reid, reid_dataset, statistics, statistics_lines
from src.page import Shown, cosines, evaluation_page
from src.pictures import neighbours_picture
from src.systems.images import ImageSystem
from src.systems.measured import MeasuredImages
from src.systems.open_set import find_threshold, keeping

PICTURE_QUERIES, PICTURE_NEIGHBOURS = 8, 10


class Reid(ImageSystem):
    """Training on the identities of the training list, mAP and CMC on other identities."""

    measure = 'mAP'
    validations = ('test_classes', 'none')

    def _read(self, training: bool) -> ReidImages:
        """Read all parts, without broken images, and print their statistics."""
        recipe = self.recipe
        lists = {name: recipe[name] for name in ('train_list', 'query', 'gallery')}
        found = open_reid(recipe.dataset, recipe.data_path, lists=lists, training=training, encoding=recipe.encoding)
        found = ReidImages(found.train and self.readable(found.train), self.readable(found.query), self.readable(found.gallery))
        if self.process.rank == 0:
            print('\n'.join(statistics_lines(reid_dataset(recipe.dataset, lists), statistics(found))))
            for split, part in zip(found._fields, found):
                for why, count in part.left_out.items() if part else ():
                    print(f'{split:7} {count:6} {why}: left out')
        return found

    def open_training_images(self) -> None:
        found = self._read(True)
        assert found.train is not None
        self.images, self.labels = found.train, remap_labels(found.train.known_labels)
        if self.recipe.run_eval or self.recipe.validation != 'none':
            self.test = MeasuredImages(found.query, found.gallery, found.train, by_camera=True)

    def _open_test(self) -> MeasuredImages:
        recipe = self.recipe
        train = None
        if recipe.train_list:
            with suppress(InputError):  # a test need not know the training images
                train = read_image_list(recipe.train_list, part='train', encoding=recipe.encoding)
        found = self._read(False)
        return MeasuredImages(found.query, found.gallery, train or found.train, by_camera=True)

    def _embed_test(self, show_progress: bool = False) -> List[Images]:
        """Embed the queries and the gallery for the measures."""
        pictures = self.test.pictures, self.test.gallery_pictures
        return [Images(name, self.embed(images, show_progress), images.known_labels, images.known_cameras, numbers)
                for name, images, numbers in zip(('query', 'gallery'), self.test.lists, pictures)]

    def validate(self) -> float:
        """mAP of the queries among the images of the gallery."""
        query, gallery = self._embed_test()
        return float(reid_figures(query, gallery)['mAP'])

    def evaluate(self, checkpoint: str) -> Dict[str, Any]:
        """mAP, mINP and CMC of the queries, among images and among centroids, and re-ranked if the recipe says so.

        Draws the ranked lists or, with false_match_rate, the threshold (see find_threshold).
        """
        recipe = self.recipe
        self.check_evaluation()
        query, gallery = self._embed_test(True)
        count = len(query.ids)
        sizes = {'instance': len(gallery.ids), 'centroid': len(make_centroids(query, gallery).ids)}
        print('============== Starting Evaluating ==============')
        print(self.test.line())
        result: Dict[str, Any] = {'queries': count, 'measures': {}, 'test': self.test.facts()}
        for rerank in (None, Rerank(**recipe.rerank_options))[:1 + recipe.rerank]:
            for kind, size in sizes.items():
                measured = reid_figures(query, gallery, kind == 'centroid', rerank)
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
                                   {'measured': self.test.line().partition(': ')[2]})
            asked, others = (Shown(part.embeddings, images.paths, images.classes)
                             for part, images in zip((query, gallery), self.test.lists))
            nearest, _ = nearest_of_others(query, gallery, min(PICTURE_NEIGHBOURS, len(gallery.ids)))
            page.add_search(asked, others, nearest, cosines(query.embeddings, gallery.embeddings, nearest),
                            self.test.answers > 0)
        with keeping(result, page, recipe.report):
            if recipe.false_match_rate:
                # Only of queried persons: one label may stand for all distractors of a gallery. A picture listed twice would
                # be found as its own answer.
                used = self.test.different & np.concatenate([np.ones(count, bool), np.isin(gallery.ids, query.ids)])
                embeddings, persons, cameras = (np.concatenate(columns)[used] for columns in (
                    (query.embeddings, gallery.embeddings), (query.ids, gallery.ids), (query.cams, gallery.cams)))
                result.update(find_threshold(self, checkpoint, embeddings, persons, cameras, page))
            elif recipe.picture:
                self._draw(query, gallery)
        return result

    def _draw(self, query: Images, gallery: Images) -> None:
        images, others = self.test.lists
        rows = np.unique(np.linspace(0, len(images) - 1, PICTURE_QUERIES).round().astype(int))
        drawn = Images('query', query.embeddings[rows], query.ids[rows], query.cams[rows], self.test.pictures[rows])
        nearest, right = nearest_of_others(drawn, gallery, min(PICTURE_NEIGHBOURS, len(others)))
        neighbours_picture([images.paths[row] for row in rows],
                           [[others.paths[i] for i in line if i >= 0] for line in nearest],
                           [found[line >= 0] for found, line in zip(right, nearest)], self.recipe.picture)
        print(f'ranked lists of {len(rows)} queries: {self.recipe.picture}')
