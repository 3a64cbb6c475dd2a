"""Recall@K and the nearest neighbours by cosine similarity."""
from typing import Dict, Iterable, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike

from src.accuracy.reranking import Rerank
from src.accuracy.retrieval import Retrieval, checked
from src.common.arrays import (
    Array,
    Search,
    as_embeddings,
    block_rows,
    check_k,
    check_widths,
    first_k,
    groups,
    inverse_norms,
    ranks,
    slices,
    stable_top_k,
    true_places,
)
from src.common.errors import InputError

GALLERY_BYTES = 64 * 2 ** 20  # one block of a streamed gallery
# Two float32 products of the same two unit rows, computed at different places of a block, differ by far less.
TOLERANCE = 1e-5


def recall(retrieval: Retrieval) -> Dict[str, float]:
    """{'Recall@K': 0..1} for each K of the retrieval; see `recall_at_k`."""
    one = retrieval
    found = recall_at_k(one.embeddings, one.labels, one.ks, one.gallery, one.gallery_labels, one.rerank, one.own)
    return {f'Recall@{k}': value for k, value in found.items()}


def recall_at_k(embeddings: ArrayLike, labels: ArrayLike, k: Union[int, Sequence[int]] = (1,),
                gallery: Optional[ArrayLike] = None, gallery_labels: Optional[ArrayLike] = None,
                rerank: Optional[Rerank] = None, own: Optional[Mapping[int, Array]] = None) -> Dict[int, float]:
    """Recall@K: share of the queries with an image of their class among the K most similar images.

    Without a gallery every image is compared with all others (leave-one-out), with a gallery with all of its images.
    Embeddings are L2-normalised; a zero vector has similarity 0 to every image. Of equal float32 similarities the lower
    gallery index comes first, as in a stable sort; equal gallery rows tie exactly. A query without another image of its
    class counts as a miss. Memory: the input, plus about 0.5 GB; other input than float32 is copied to float32 once.

    Leave-one-out computes half of the symmetric matrix of similarities (`_Bounds`). Where rounding could decide, above all
    in a tie, a whole row of similarities is then ranked, as with a gallery.

    Args:
        embeddings: (N, D), any float type.
        labels: (N,).
        k: values of K to report, each at most the number of images compared with.
        gallery: (M, D) or None.
        gallery_labels: (M,), with `gallery`.
        rerank: settings or None; with them images are ranked by re-ranked distances. Memory: see `Reranked`.
        own: query number -> gallery rows that are not answers to it, see Retrieval.

    Returns:
        {K: float in 0..1}.

    Raises:
        InputError: widths that differ, NaN or Inf, a K out of range, a gallery without labels.
    """
    queries, own_labels, others, other_labels = checked(embeddings, labels, gallery, gallery_labels)
    leave_one_out, own = gallery is None, own or {}
    ks = [check_k(one, len(others) - leave_one_out) for one in np.atleast_1d(k).tolist()]
    names = 'embeddings', 'gallery'
    search = rerank.search(queries, others, names) if rerank else Search(queries, others, names=names)

    best = np.empty(len(queries), np.int64)
    undecided = np.arange(len(queries))
    if leave_one_out and isinstance(search, Search):
        bounds = _Bounds(queries, search.inverse, own_labels, max(ks))
        best[bounds.order] = bounds.at_least
        open_rows = np.any([(bounds.at_least < one) & (one <= bounds.at_most) for one in ks], axis=0)
        undecided = np.union1d(bounds.order[open_rows], list(own)).astype(np.int64)
    members = groups(other_labels)
    for chunk in slices(len(undecided), block_rows(len(others))):
        rows = undecided[chunk]
        for i, scores in zip(rows.tolist(), search.scores(rows)):
            right = members.get(own_labels[i].item(), np.empty(0, np.int64))
            if leave_one_out:
                scores[i] = -np.inf
                right = right[right != i]
            if i in own:
                scores[own[i]] = -np.inf
                right = np.setdiff1d(right, own[i])
            best[i] = ranks(scores, right[[scores[right].argmax()]])[0] if len(right) else len(others)
    return {one: float(np.mean(best < one)) for one in ks}


class _Bounds:
    """Bounds of the leave-one-out rank (0 = best) of the best own of each row: the most similar other row of its class.

    The similarity of the best own is found first, class by class. Then the rows of each pair of classes are multiplied once,
    and the similarities that beat the best own are counted for rows and columns at once. Similarities within TOLERANCE
    of it may be on either side. Rows whose rank reaches `most` are counted no further. Memory: a panel of 4,096 rows, a
    tile of 512, and their product.

    Attributes: at_least, at_most (N,) int64 in the order of `order`, in which classes follow one another; N for rows without
        another row of their class.
    """

    def __init__(self, x: Array, inverse: Array, labels: Array, most: int) -> None:
        self.x, self.inverse, self.most = x, inverse.astype(np.float32), most
        self.order = np.argsort(labels, kind='stable')
        self.codes = np.unique(labels[self.order], return_inverse=True)[1]
        self.starts = np.searchsorted(self.codes, np.arange(self.codes[-1] + 2))
        self.panel = block_rows(x.shape[1], 4, 4096)
        best = self._best_own()
        alone = np.isneginf(best)
        best[alone] = np.inf  # nothing beats it
        self.low, self.high = best - TOLERANCE, best + TOLERANCE
        self.at_least, self.at_most = np.zeros((2, len(x)), np.int64)
        self._count_all()
        self.at_least[alone] = self.at_most[alone] = len(x)

    def _unit(self, part: slice) -> Array:
        rows = self.order[part]
        return np.asarray(self.x[rows] * self.inverse[rows, None])

    def _best_own(self) -> Array:
        best = np.full(len(self.x), -np.inf, np.float32)
        for start, stop in zip(self.starts.tolist(), self.starts[1:].tolist()):
            blocks = [slice(start + part.start, start + part.stop) for part in slices(stop - start, self.panel)]
            for i, rows in enumerate(blocks):
                one = self._unit(rows)
                for columns in blocks[i:]:
                    own = one @ (one if rows == columns else self._unit(columns)).T
                    if rows == columns:
                        np.fill_diagonal(own, -np.inf)
                    np.maximum(best[rows], own.max(axis=1), out=best[rows])
                    np.maximum(best[columns], own.max(axis=0), out=best[columns])
        return best

    def _count_all(self) -> None:
        codes, starts = self.codes, self.starts
        tile = max(1, self.panel // 8)
        tiles = slices(len(self.x), tile)
        for rows in slices(len(self.x), 8 * tile):
            one = self._unit(rows)
            for columns in tiles[rows.start // tile:]:
                inside = columns.stop <= rows.stop
                other = one[columns.start - rows.start:columns.stop - rows.start] if inside else self._unit(columns)
                if inside:
                    similarities = other @ other.T
                    similarities[codes[columns, None] == codes[columns]] = -np.inf
                    self._count(similarities, 0, columns)
                before = slice(rows.start, min(rows.stop, columns.start))
                shared = starts[codes[columns.start]], starts[codes[columns.start] + 1]
                if before.start == before.stop or (shared[0] <= before.start and columns.stop <= shared[1]):
                    continue
                similarities = one[:before.stop - before.start] @ other.T
                # In the order of classes, rows before the columns share at most one class with them.
                similarities[max(0, shared[0] - before.start):, :shared[1] - columns.start] = -np.inf
                self._count(similarities, 0, before)
                self._count(similarities, 1, columns)

    def _count(self, similarities: Array, own_axis: int, part: slice) -> None:
        """Count images more similar than the best own, for the rows `part`, along own_axis of the similarities."""
        low, high = self.low[part], self.high[part]
        places = true_places(similarities >= low.reshape((-1, 1) if own_axis == 0 else (1, -1)))
        beaten = places[own_axis]
        sure = similarities[places] > high[beaten]
        self.at_most[part] += np.bincount(beaten, minlength=len(low))
        self.at_least[part] += np.bincount(beaten[sure], minlength=len(low))
        full = self.at_least[part] >= self.most
        low[full] = high[full] = np.inf


def nearest_neighbours(queries: ArrayLike, gallery: Union[Array, Iterable[Array]], k: int, rerank: Optional[Rerank] = None
                       ) -> Tuple[Array, Array]:
    """Find the k gallery rows most similar to each query by cosine, most similar first.

    The gallery is read once, block by block: it may be a np.memmap larger than memory. Of equal float32 similarities the
    lower index comes first. Equal gallery rows tie exactly within a block (of an array 64 MB), and up to float32 rounding
    across blocks. A zero vector has similarity 0 to every row.

    Args:
        queries: (N, D), any float type.
        gallery: (M, D) array or memmap, or its blocks (m, D), at least k rows in all; without rerank.
        k: neighbours, at most M.
        rerank: settings or None; with them neighbours are chosen and ordered by re-ranked distances, which takes the whole
            gallery into memory; their similarities are then not in falling order.

    Returns:
        (indices (N, k) int64, similarities (N, k) float32).

    Raises:
        InputError: widths that differ, NaN or Inf, k out of range.
    """
    asked = as_embeddings('queries', queries)
    if isinstance(gallery, np.ndarray):
        if gallery.ndim != 2 or not gallery.size:
            raise InputError(f'gallery: expected a non-empty (M, D) array, got shape {gallery.shape}')
        check_widths('queries', asked, 'gallery', gallery)
        k = check_k(k, len(gallery))
        if rerank:
            return _reranked_neighbours(asked, as_embeddings('gallery', gallery), k, rerank)
        whole = gallery
        gallery = (whole[columns] for columns in slices(len(whole), max(1, GALLERY_BYTES // (4 * whole.shape[1]))))
    inverse, start = inverse_norms('queries', asked), 0
    indices, best = np.zeros((len(asked), 0), np.int64), np.zeros((len(asked), 0), np.float32)
    for block in gallery:
        block = as_embeddings('gallery', block)
        search = Search(asked, block, names=('queries', f'gallery (from row {start})'), inverse=inverse)
        kept = min(k, start + len(block))
        new_indices, new_best = np.empty((len(asked), kept), np.int64), np.empty((len(asked), kept), np.float32)
        for rows in slices(len(asked), block_rows(len(block))):
            new_indices[rows], new_best[rows] = _merge(indices[rows], best[rows], search.scores(rows), start, kept)
        indices, best, start = new_indices, new_best, start + len(block)
    return indices, best


def _reranked_neighbours(queries: Array, gallery: Array, k: int, rerank: Rerank) -> Tuple[Array, Array]:
    search = rerank.search(queries, gallery, ('queries', 'gallery'))
    indices = np.concatenate([stable_top_k(search.scores(rows), k)
                              for rows in slices(len(queries), block_rows(len(gallery)))])
    similarities = np.empty(indices.shape, np.float32)
    for rows in slices(len(queries), block_rows(k * queries.shape[1])):
        similarities[rows] = search.similarities(rows, indices[rows])
    return indices, similarities


def _merge(indices: Array, best: Array, similarities: Array, start: int, k: int) -> Tuple[Array, Array]:
    """The k best of (indices, best), each (N, at most k), and a block of similarities whose first column is `start`."""
    count = len(similarities)
    if best.shape[1] == k:
        # An earlier column wins a tie: only strictly better ones enter.
        rows, columns = true_places(similarities > best[:, -1:])
    else:
        columns = stable_top_k(similarities, min(k, similarities.shape[1])).ravel()
        rows = np.repeat(np.arange(count), len(columns) // count)
    values = similarities[rows, columns]
    rows = np.concatenate([np.repeat(np.arange(count), best.shape[1]), rows])
    return first_k(rows, np.concatenate([indices.ravel(), columns + start]), np.concatenate([best.ravel(), values]),
                   count, k)
