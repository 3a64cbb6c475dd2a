"""Embeddings and labels as a record, which every measure of retrieval takes."""
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import ArrayLike

from src.accuracy.reranking import Rerank
from src.common.arrays import Array, Search, as_embeddings, as_labels, block_rows, groups, slices, stable_top_k
from src.common.errors import InputError


def checked(embeddings: ArrayLike, labels: ArrayLike, gallery: Optional[ArrayLike], gallery_labels: Optional[ArrayLike]
            ) -> Tuple[Array, Array, Array, Array]:
    """Check and convert to arrays, embeddings to float32; without a gallery the queries are their own gallery.

    Raises:
        InputError: a shape is wrong, or only one of gallery and gallery_labels is given.
    """
    if (gallery is None) != (gallery_labels is None):
        raise InputError('gallery and gallery_labels: give both or neither')
    queries = as_embeddings('embeddings', embeddings)
    of_queries = as_labels('labels', labels, len(queries))
    if gallery is None or gallery_labels is None:
        return queries, of_queries, queries, of_queries
    others = as_embeddings('gallery', gallery)
    return queries, of_queries, others, as_labels('gallery_labels', gallery_labels, len(others))


def own_rows(pictures: Optional[ArrayLike], gallery_pictures: Optional[ArrayLike] = None) -> Dict[int, Array]:
    """Query number -> gallery rows that show the query's own picture, for queries that have any.

    Args:
        pictures, gallery_pictures: (N,) and (M,) ints, see Retrieval; None for a gallery that is the queries themselves,
            where a query is not among its own rows.
    """
    if pictures is None:
        return {}
    of_gallery = groups(np.asarray(pictures if gallery_pictures is None else gallery_pictures))
    found = {}
    for row, number in enumerate(np.asarray(pictures).tolist()):
        own = of_gallery.get(number)
        if own is not None and gallery_pictures is None:
            own = own[own != row]
        if own is not None and len(own):
            found[row] = own
    return found


def count_answers(labels: ArrayLike, gallery_labels: Optional[ArrayLike], own: Mapping[int, Array]) -> Array:
    """(N,) int: number of right answers to each query.

    Args:
        labels, gallery_labels: (N,) and (M,); None for leave-one-out.
        own: from own_rows; these rows are not answers.
    """
    labels = np.asarray(labels)
    others = labels if gallery_labels is None else np.asarray(gallery_labels)
    classes, sizes = np.unique(others, return_counts=True)
    place = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    count: Array = np.where(classes[place] == labels, sizes[place], 0) - (gallery_labels is None)
    for row, rows in own.items():
        count[row] -= np.count_nonzero(others[rows] == labels[row])
    return count


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Queries that are searched among the other queries (leave-one-out) or in a gallery, by cosine similarity.

    A zero vector has similarity 0 to every image. Of equal float32 similarities the lower gallery index comes first; equal
    gallery rows tie exactly.

    Args:
        embeddings: (N, D), any float type; copied unless they are float32.
        labels: (N,).
        gallery: (M, D), or None for leave-one-out.
        gallery_labels: (M,), with `gallery`.
        ks: the K of Recall@K, each at most the number of images that a query is compared with.
        rerank: settings of re-ranking or None; with them the re-ranked lists are measured.
        pictures: (N,) ints, and gallery_pictures: (M,), with `gallery`: an image with the number of a query shows the same
            picture and is not an answer to it. None if all pictures are different.
    """
    embeddings: Array
    labels: Array
    gallery: Optional[Array] = None
    gallery_labels: Optional[Array] = None
    ks: Sequence[int] = (1,)
    rerank: Optional[Rerank] = None
    pictures: Optional[Array] = None
    gallery_pictures: Optional[Array] = None

    @cached_property
    def own(self) -> Dict[int, Array]:
        """Query number -> gallery rows that show its picture (leave-one-out: beside itself), for queries that have any."""
        return own_rows(self.pictures, self.gallery_pictures)

    @cached_property
    def answers(self) -> Array:
        """(N,) int: number of right answers to each query."""
        return count_answers(self.labels, self.gallery_labels, self.own)

    def first_r(self) -> Iterator[Tuple[Array, Array]]:
        """Yield the first R neighbours of all queries with R > 0, in blocks; R: number of other images of a query's class.

        The search is done once and kept for further calls, one bit for each of the N * R neighbours. The search itself
        takes blocks of about 0.5 GB.

        Yields:
            (R (n,) int, right (n, largest R) bool): whether the i-th nearest image is of the query's class; False from
            place R on.

        Raises:
            InputError: widths or lengths that differ, NaN or Inf, or R is 0 for every query.
        """
        for counts, bits in self._first_r:
            yield counts, np.unpackbits(bits, axis=1, count=int(counts.max())).astype(bool)

    @cached_property
    def _first_r(self) -> List[Tuple[Array, Array]]:
        queries, labels, gallery, gallery_labels = checked(self.embeddings, self.labels, self.gallery, self.gallery_labels)
        leave_one_out = self.gallery is None
        names = 'embeddings', 'gallery'
        search = self.rerank.search(queries, gallery, names) if self.rerank else Search(queries, gallery, names=names)
        relevant = self.answers
        # Queries with similar R share a block, which is as wide as its largest R.
        order = np.argsort(relevant, kind='stable')
        order = order[np.count_nonzero(relevant <= 0):]
        if not len(order):
            raise InputError('labels: no query has another image of its class to find')
        found: List[Tuple[Array, Array]] = []
        for block in slices(len(order), block_rows(len(gallery))):
            rows = order[block]
            scores = search.scores(rows)
            if leave_one_out:
                scores[np.arange(len(rows)), rows] = -np.inf
            for i, row in enumerate(rows.tolist()):
                scores[i, self.own.get(row, [])] = -np.inf
            # The search for the nearest holds several arrays of `most` values for each query.
            for part in slices(len(rows), block_rows(16 * int(relevant[rows[-1]]))):
                counts: Array = relevant[rows[part]]
                most = int(counts.max())
                nearest = stable_top_k(scores[part], most)
                right = (gallery_labels[nearest] == labels[rows[part], None]) & (np.arange(most) < counts[:, None])
                found.append((counts, np.packbits(right, axis=1)))
        return found
