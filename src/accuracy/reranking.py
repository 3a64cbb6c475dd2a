"""k-reciprocal re-ranking (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017,
arXiv 1701.08398), in sparse rows and in blocks.

Where the paper leaves a choice open or differs from the authors' published code, this follows the code:
- All queries and the whole gallery are one set. An image is its own first neighbour, so N(p, k) has k + 1 entries.
  Of equal distances the lower index is nearer, queries before gallery.
- d is the squared Euclidean distance of L2-normalised rows over the row's largest, so d(p, g) and d(g, p) differ.
- R(p, k) is all g in N(p, k) with p in N(g, k) (equation 3). R*(p) adds R(c, k1/2) for each c in R(p, k1) if more than
  2/3 of R(c, k1/2) lie in R(p, k1) (equation 4; the paper has "at least"). k1/2 is rounded to nearest, halves to even.
- V(p, g) = exp(-d(p, g)) over the sum of its row, 0 outside R*(p) (equation 7, normalised to sum 1).
- Local query expansion: V(p) becomes the mean of V over the k2 nearest of p, itself among them (equation 11).
- Jaccard distance 1 - sum min(V(p), V(g)) / (2 - sum min) (equation 10), as rows sum to 1.
- Final distance: (1 - weight) Jaccard + weight d(p, g) (equation 12).
"""
from typing import Any, NamedTuple, Tuple

import numpy as np

from src.common.arrays import Array, Rows, Search, block_rows, check_widths, inverse_norms, slices, stable_top_k
from src.common.errors import InputError


class Rerank(NamedTuple):
    """Settings of the paper: neighbours k1, averaged neighbours k2, weight of the original distance.

    Among n images k1 is at most n - 1 and k2 at most k1 + 1; larger ones mean these.
    """
    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def check(self) -> None:
        """Raise InputError if a setting is out of range."""
        k1, k2, weight = self
        if int(k1) != k1 or k1 < 1:
            raise InputError(f're-ranking: k1 {k1} is not a whole number of at least 1')
        if int(k2) != k2 or not 1 <= k2 <= k1 + 1:
            raise InputError(f're-ranking: k2 {k2} is not a whole number between 1 and k1 + 1, {k1 + 1}')
        if not 0 <= weight <= 1:
            raise InputError(f're-ranking: the weight {weight} is not between 0 and 1')

    def search(self, queries: Array, gallery: Array, names: Tuple[str, str] = ('queries', 'gallery')) -> 'Reranked':
        """A `Reranked` with these settings; queries (Q, D) and gallery (G, D) float32, or the same array twice."""
        return Reranked(queries, gallery, self, names)


class Reranked:
    """Re-ranked scores of queries against a gallery, with the interface of `arrays.Search`: higher = nearer.

    Memory beyond the input: a copy of it (none if `gallery is queries`), blocks of 0.2 GB, and V, whose rows hold at most
    k2 (k1 + 1) (k1/2 + 2) values of 8 bytes, twice while it is averaged. With the defaults that bound is 0.5 GB for
    2,228 x 17,661 and 1.5 GB for 60,000 x 60,000; clustered embeddings fill about a tenth of it. Nothing as large as
    queries x gallery is held.

    Args:
        queries, gallery: (Q, D), (G, D) float32. The same array twice means leave-one-out: the caller removes the query
            from its own ranking.
        settings: of the paper.
        names: of queries and gallery, for errors.

    Raises:
        InputError: widths that differ, NaN or Inf, settings out of range.
    """

    def __init__(self, queries: Array, gallery: Array, settings: Rerank, names: Tuple[str, str]) -> None:
        check_widths(names[0], queries, names[1], gallery)
        one_set = gallery is queries
        everything = queries if one_set else np.concatenate([queries, gallery])
        settings.check()
        k1 = min(int(settings.k1), len(everything) - 1)
        k2 = min(int(settings.k2), k1 + 1)
        self.weight, self.count = settings.weight, len(queries)
        inverse = inverse_norms(names[0], queries)
        if not one_set:
            inverse = np.concatenate([inverse, inverse_norms(names[1], gallery)])
        self.all = Search(everything, everything, inverse=inverse)
        self.first = 0 if one_set else len(queries)
        neighbours, self.largest = self._neighbours(k1)
        weights = self._weights(_expanded(neighbours, k1))
        if k2 > 1:
            weights = _ones(neighbours[:, :k2], len(weights.indptr) - 1) @ weights
            weights.data /= np.float32(k2)
        self.rows = weights
        self.columns = weights[self.first:].tocsc()

    def __len__(self) -> int:
        return self.count

    def scores(self, rows: Rows) -> Array:
        """(n, G) float32: the negated final distances of n queries."""
        numbers = np.arange(self.count)[rows]
        original = self._distances(self.all.scores(numbers)[:, self.first:], numbers)
        final = np.empty_like(original)
        for part in slices(len(numbers), block_rows(original.shape[1], 16)):
            shared = self._shared(numbers[part])
            final[part] = (1 - self.weight) * (1 - shared / (2 - shared))
        original *= -self.weight
        original -= final
        return original

    def similarities(self, rows: Rows, columns: Array) -> Array:
        """Cosines (n, k) of n queries and the gallery rows `columns` (n, k)."""
        numbers = np.arange(self.count)[rows]
        return self._pairs(np.repeat(numbers, columns.shape[1]), columns.ravel() + self.first).reshape(columns.shape)

    def _shared(self, rows: Array) -> Array:
        """(n, G) float64: sum over g' of min(V(p, g'), V(g, g')) for n queries p."""
        mine = self.rows[rows]
        owner = np.repeat(np.arange(len(rows)), np.diff(mine.indptr))
        starts = self.columns.indptr[mine.indices]
        counts = self.columns.indptr[mine.indices + 1] - starts
        ends = np.cumsum(counts)
        places = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
        least = np.minimum(np.repeat(mine.data, counts), self.columns.data[places])
        width = self.columns.shape[0]
        cells = np.repeat(owner.astype(np.int64) * width, counts) + self.columns.indices[places]
        return np.bincount(cells, least, minlength=len(rows) * width).reshape(-1, width)

    def _neighbours(self, k1: int) -> Tuple[Array, Array]:
        """Nearest rows (N, k1 + 1), the row itself first, and the largest squared distance (N,) of each row."""
        x = self.all
        nearest, largest = np.empty((len(x), k1 + 1), np.int32), np.empty(len(x), np.float32)
        for rows in slices(len(x), block_rows(len(x))):
            distances = self._squared(x.scores(rows), np.arange(len(x))[rows])
            largest[rows] = distances.max(axis=1)
            distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = -np.inf
            nearest[rows] = stable_top_k(np.negative(distances, out=distances), k1 + 1)
        return nearest, np.maximum(largest, np.finfo(np.float32).tiny)

    def _squared(self, similarities: Array, rows: Array, columns: slice = slice(None)) -> Array:
        """|p - g|^2 of unit rows or zero vectors from their similarities, in place."""
        lengths = (self.all.gallery_inverse > 0).astype(np.float32)
        similarities *= -2
        similarities += lengths[rows, None]
        similarities += lengths[columns]
        return np.maximum(similarities, 0, out=similarities)

    def _distances(self, similarities: Array, rows: Array) -> Array:
        squared = self._squared(similarities, rows, slice(self.first, None))
        squared /= self.largest[rows, None]
        return squared

    def _weights(self, reciprocal: Any) -> Any:
        """V before the local expansion: sparse (N, N) float32, rows of sum 1, with the pattern of `reciprocal`."""
        from scipy import sparse
        owner = np.repeat(np.arange(reciprocal.shape[0]), np.diff(reciprocal.indptr))
        lengths = (self.all.gallery_inverse > 0).astype(np.float32)
        squared = lengths[owner] + lengths[reciprocal.indices] - 2 * self._pairs(owner, reciprocal.indices)
        squared[owner == reciprocal.indices] = 0
        weights = np.exp(-np.maximum(squared, 0) / self.largest[owner])
        weights /= np.bincount(owner, weights)[owner].astype(np.float32)
        return sparse.csr_matrix((weights, reciprocal.indices, reciprocal.indptr), shape=reciprocal.shape)

    def _pairs(self, one: Array, other: Array) -> Array:
        """(P,) float32 cosines of the rows one[i] and other[i] of queries and gallery together."""
        x, inverse = self.all.gallery, self.all.gallery_inverse
        products = np.empty(len(one), np.float32)
        for part in slices(len(one), block_rows(x.shape[1], 16, 2 ** 14)):
            products[part] = np.einsum('pd,pd->p', x[one[part]], x[other[part]] * inverse[other[part], None])
        return np.asarray(products * inverse[one])


def _ones(places: Array, count: int) -> Any:
    """Sparse (N, count) float32 with 1 at the columns `places` (N, k)."""
    from scipy import sparse
    shape = len(places), places.shape[1]
    starts = np.arange(0, places.size + 1, shape[1])
    return sparse.csr_matrix((np.ones(places.size, np.float32), places.ravel(), starts), shape=(shape[0], count))


def _expanded(neighbours: Array, k1: int) -> Any:
    """R*(p) of every row p, as the pattern of a sparse (N, N) matrix."""
    def reciprocal(k: int) -> Any:
        near = _ones(neighbours[:, :k + 1], len(neighbours))
        return near.multiply(near.T).tocsr()

    whole, half = reciprocal(k1), reciprocal(int(np.around(k1 / 2)))
    common = (whole @ half.T).multiply(whole).tocsr()
    sizes = np.diff(half.indptr)
    taken = 3 * common.data > 2 * sizes[common.indices]
    common.data = taken.astype(np.float32)
    common.eliminate_zeros()
    expanded = (whole + common @ half).tocsr()
    expanded.sort_indices()
    return expanded
