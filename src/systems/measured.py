"""Test images, and the facts about them that an evaluation reports."""
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, List, Optional

import numpy as np

from src.accuracy.retrieval import count_answers, own_rows
from src.common.arrays import Array
from src.common.errors import InputError
from src.datasets.image_list import Ids, ImageList, class_list
from src.datasets.same_pictures import of_several_classes, picture_numbers


@dataclass(frozen=True)
class MeasuredImages:
    """The images of a test.

    Args:
        query, gallery: labelled lists; gallery is None if every query is searched for among the other queries.
        train: the training images, None if unknown.
        by_camera: whether images of a query's own class and camera are excluded from its answers.

    Raises:
        InputError: only one class, or no query with an answer, so that results would be meaningless.
    """
    query: ImageList
    gallery: Optional[ImageList] = None
    train: Optional[ImageList] = None
    by_camera: bool = False

    def __post_init__(self) -> None:
        searched = self.lists[-1]
        if len(np.unique(searched.known_labels)) < 2:
            raise InputError(f'{searched.source or searched.paths[0]}: its {len(searched)} images are of one class, so that '
                             'every answer is right; a test needs two')
        if not (self.answers > 0).any():
            camera = ' and another camera' * self.by_camera
            raise InputError(f'{self.query.source or self.query.paths[0]}: no query has another image of its class{camera} to '
                             'find; look at the labels'
                             + (' and cameras of --query and --gallery' if self.by_camera else ' of the test images'))

    @property
    def lists(self) -> List[ImageList]:
        """The queries, and the gallery if there is one."""
        return [self.query, *([self.gallery] if self.gallery else [])]

    @cached_property
    def _numbers(self) -> List[Ids]:
        return picture_numbers([*self.lists, *([self.train] if self.train else [])])

    @property
    def pictures(self) -> Ids:
        """(N,) numbers of the queries' pictures, see picture_numbers."""
        return self._numbers[0]

    @property
    def gallery_pictures(self) -> Optional[Ids]:
        """(M,) numbers of the gallery's pictures; None without a gallery."""
        return self._numbers[1] if self.gallery else None

    @property
    def different(self) -> Array:
        """(N + M,) bool: the first image of each picture, of queries and gallery together."""
        numbers = np.concatenate(self._numbers[:len(self.lists)])
        return np.isin(np.arange(len(numbers)), np.unique(numbers, return_index=True)[1])

    @cached_property
    def answers(self) -> Array:
        """(N,) int: number of right answers to each query."""
        own = own_rows(self.pictures, self.gallery_pictures)
        count = count_answers(self.query.known_labels, self.gallery.known_labels if self.gallery else None, own)
        if not self.by_camera or not self.gallery:
            return count
        pairs = [np.stack([images.known_labels, images.known_cameras], 1) for images in self.lists]
        codes = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)[1].reshape(-1)
        return count - count_answers(codes[:len(self.query)], codes[len(self.query):], own)

    def facts(self) -> Dict[str, Any]:
        """Numbers of images, classes and queries without an answer, and of images left out, by reason."""
        left_out = sum((Counter(dict(images.left_out)) for images in self.lists), Counter())
        known = np.concatenate(self._numbers[:len(self.lists)])
        return {
            'queries': len(self.query), 'classes': len(np.unique(self.query.known_labels)),
            'gallery': len(self.gallery) if self.gallery else None,
            'gallery_classes': len(np.unique(self.gallery.known_labels)) if self.gallery else None,
            'queries_without_answer': int((self.answers <= 0).sum()),
            'queries_among_answers': len(own_rows(self.pictures, self.gallery_pictures)),
            'repeated': sum(len(own) - len(np.unique(own)) for own in self._numbers[:2]) if self.gallery else 0,
            'cameras_apart': bool(self.by_camera and self.gallery and not np.isin(
                self.query.known_cameras, self.gallery.known_cameras).any()),
            'classes_trained_on': len({*(self.train.class_names or ())} & {*(class_list(self.query))}) if self.train else None,
            'of_several_classes': of_several_classes(known, np.concatenate([one.known_labels for one in self.lists])),
            'trained_on': int(np.isin(known, self._numbers[-1]).sum()) if self.train else None, 'left_out': dict(left_out)}

    def line(self) -> str:
        """The facts in one line."""
        facts = self.facts()
        words = [f'{facts["queries"]} queries of {facts["classes"]} classes in a gallery of {facts["gallery"]} images of '
                 f'{facts["gallery_classes"]} classes' if self.gallery else
                 f'{facts["queries"]} images of {facts["classes"]} classes, each among the others']
        for count, what in ((facts['queries_without_answer'], 'queries have no image of their class to find'),
                            (facts['queries_among_answers'],
                             'queries are among the images to find too, and no answers to themselves'),
                            (facts['of_several_classes'], 'pictures are listed under several classes'),
                            (facts['repeated'], 'images are the same picture as another one of their list'),
                            (facts['classes_trained_on'], 'classes have the names of training classes'),
                            (facts['trained_on'], 'images are in the training list too, so they are no test of unseen classes'),
                            *((count, f'{why}: left out') for why, count in facts['left_out'].items())):
            if count:
                words.append(f'{count} {what}')
        if facts['cameras_apart']:
            words.append('no camera of a query is in the gallery, so that no answer is excluded for its camera')
        return 'measured: ' + '; '.join(words)
