"""Functions shared by measures and searches: input checks, row norms, scores in blocks, exact ties, stable top-k."""
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from src.common.errors import InputError

Array = NDArray[Any]
Rows = Union[slice, Array]   # row numbers: a slice, or (n,) int

BLOCK_BYTES = 192 * 2 ** 20  # one block of scores; several blocks take far less memory than the embeddings themselves
MIN_NORM = 1e-30             # a shorter row counts as a zero vector: 1 / norm would overflow float32
MAX_NORM = 1e30              # a longer row is refused: its products would overflow
METRICS = ('euclidean', 'cosine')


def as_embeddings(name: str, x: ArrayLike, dtype: DTypeLike = np.float32) -> Array:
    """Convert to a (N, D) array of `dtype`, copied only if needed; None keeps the type. NaN and Inf: see inverse_norms."""
    with np.errstate(over='ignore'):
        array = np.asarray(x, dtype=dtype)
    if array.ndim != 2 or not array.size:
        raise InputError(f'{name}: expected a non-empty (N, D) array, got shape {array.shape}')
    return array


def as_labels(name: str, labels: ArrayLike, count: int) -> Array:
    """Convert labels to a (count,) array."""
    array = np.asarray(labels)
    if array.shape != (count,):
        raise InputError(f'{name}: expected {count} labels, one per row, got shape {array.shape}')
    return array


def unit_rows(rows: Array) -> Array:
    """Rows (N, D) float scaled to unit length, in their own type; zero rows stay zero. Not checked for NaN or Inf."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def check_widths(name: str, x: Array, other_name: str, other: Array) -> None:
    if x.shape[1] != other.shape[1]:
        raise InputError(f'{name} and {other_name} differ in width: {x.shape[1]} and {other.shape[1]} columns')


def check_k(k: float, available: int) -> int:
    if int(k) != k or not 1 <= k <= available:
        raise InputError(f'k: {k} is not a whole number between 1 and the {available} gallery rows to choose from')
    return int(k)


def slices(count: int, size: int) -> List[slice]:
    """Slices of at most `size` rows that together cover `count` rows."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def block_rows(columns: int, itemsize: int = 4, most: int = 1024) -> int:
    """Number of rows in a block of BLOCK_BYTES: rows of `columns` values of `itemsize` bytes, at most `most` rows."""
    return max(1, min(most, BLOCK_BYTES // (columns * itemsize)))


def inverse_norms(name: str, x: Array) -> Array:
    """1 / L2 norm of every row, (N,) float64, 0 for a zero vector; InputError naming the first row with NaN or Inf."""
    squares = np.empty(len(x))
    for rows in slices(len(x), block_rows(x.shape[1], 8)):
        block = x[rows].astype(np.float64)
        squares[rows] = np.einsum('nd,nd->n', block, block)
    usable = squares < MAX_NORM ** 2
    if not usable.all():
        raise InputError(f'{name}: row {int(np.argmin(usable))} holds NaN, Inf or values above {MAX_NORM:g}')
    norms = np.sqrt(squares)
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > MIN_NORM)


def repeated_rows(x: Array) -> Tuple[Array, Array]:
    """(repeats, originals): indices of the rows of `x` equal to an earlier row, and the first row equal to each.

    A matrix product may round equal rows differently, depending on their place in a block. Copying the original's score
    makes their tie exact.
    """
    first: Dict[int, int] = {}
    found = []
    for i, row in enumerate(x):
        original = first.setdefault(hash(row.tobytes()), i)
        if original != i and np.array_equal(x[original], row):
            found.append((i, original))
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def groups(labels: Array) -> Dict[Any, Array]:
    """{label: indices of its rows, ascending}."""
    values, starts = np.unique(np.sort(labels, kind='stable'), return_index=True)
    return dict(zip(values.tolist(), np.split(np.argsort(labels, kind='stable'), starts[1:])))


def stable_top_k(scores: Array, k: int) -> Array:
    """Column indices (N, k) of the k highest scores of each row, highest first; of equal scores the lowest index first.

    Equals the first k of a full stable sort of -scores, without sorting the rest. scores: (N, M) without NaN.
    """
    if k == 1:
        return scores.argmax(axis=1)[:, None]
    candidates = scores >= _floors(scores, k)[:, None]
    if np.count_nonzero(candidates) > 8 * k * len(scores):
        # Many equal scores: row by row, as the candidates could be the whole block.
        return np.stack([_top_k_of_row(row, k) for row in scores])
    rows, columns = true_places(candidates)
    return first_k(rows, columns, scores[rows, columns], len(scores), k)[0]


def true_places(mask: Array) -> Tuple[Array, Array]:
    """np.nonzero of a (N, M) mask, in a tenth of the time if few entries are True."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return rows, columns


def _floors(scores: Array, k: int) -> Array:
    """(N,) lower bounds of the k-th highest score of each row: the k-th highest of the maxima of disjoint sets of columns.

    Neighbouring columns, often of one class, are in different sets.
    """
    sets = 8 * k
    per_set = scores.shape[1] // sets
    if per_set > 1:
        scores = scores[:, :per_set * sets].reshape(len(scores), per_set, sets).max(axis=1)
    return np.partition(scores, -k, axis=1)[:, -k]


def _top_k_of_row(row: Array, k: int) -> Array:
    floor = np.partition(row, -k)[-k]
    above = np.flatnonzero(row > floor)
    tied = np.flatnonzero(row == floor)[:k - len(above)]
    return np.concatenate([above[np.argsort(-row[above], kind='stable')], tied])


def first_k(rows: Array, columns: Array, values: Array, count: int, k: int) -> Tuple[Array, Array]:
    """The k best candidates of each row: (columns, values), each (count, k), by falling value, then by rising column.

    Candidate i is (rows[i], columns[i], values[i]). Every row 0..count-1 needs at least k candidates.
    """
    order = np.lexsort((columns, -values, rows))
    rows = rows[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, np.arange(count))[rows]
    chosen = order[rank < k]
    return columns[chosen].reshape(count, k), values[chosen].reshape(count, k)


def ranks(row: Array, wanted: Array) -> Array:
    """Ranks (0 = best) of the columns `wanted` in one row of scores; of equal scores the lowest index first.

    Equals the places of `wanted` in a full stable sort of -row, but sorts only the scores that reach the worst wanted one.
    """
    scores = row[wanted]
    head = np.sort(row[row >= scores.min()])
    above = len(head) - np.searchsorted(head, scores, side='right')
    tied = len(head) - above - np.searchsorted(head, scores, side='left') > 1
    for i in np.flatnonzero(tied):
        above[i] += np.count_nonzero(row[:wanted[i]] == scores[i])
    return above


class Search:
    """Scores of queries against a gallery, in blocks of queries; higher = nearer. Equal gallery rows tie exactly.

    Args:
        queries: (Q, D); converted to the gallery's type block by block.
        gallery: (G, D) float32 or float64, not copied; the scores have its type.
        metric: 'cosine': the similarity, 0 for a zero vector.
            'euclidean': q.g - |g|^2 / 2, which orders a query's gallery rows as their Euclidean distance does.
            'unit': orders L2-normalised rows by Euclidean distance; a zero vector stays zero.
        names: of queries and gallery, for errors.
        inverse: `inverse_norms` of the queries, if known.

    Raises:
        InputError: widths that differ, NaN or Inf.
    """

    def __init__(self, queries: Array, gallery: Array, metric: str = 'cosine',
                 names: Tuple[str, str] = ('queries', 'gallery'), inverse: Optional[Array] = None) -> None:
        check_widths(names[0], queries, names[1], gallery)
        self.queries, self.gallery, self.metric = queries, gallery, metric
        self.inverse = inverse_norms(names[0], queries) if inverse is None else inverse
        self.gallery_inverse: Array = (self.inverse if gallery is queries else inverse_norms(names[1], gallery)).astype(
            gallery.dtype, copy=False)
        self.repeats, self.originals = repeated_rows(gallery)
        if metric == 'euclidean':
            self.half_squares: Array = 0.5 * np.einsum('gd,gd->g', gallery, gallery)

    def __len__(self) -> int:
        return len(self.queries)

    def scores(self, rows: Rows) -> Array:
        """(n, G) scores of n queries. A new array, into which the caller may write."""
        # The norms scale the product, so that no normalised copy of the gallery is needed.
        queries = self.queries[rows].astype(self.gallery.dtype, copy=False)
        if self.metric == 'euclidean':
            scores: Array = queries @ self.gallery.T
            scores -= self.half_squares
        else:
            scores = (queries * self.inverse[rows, None].astype(self.gallery.dtype)) @ self.gallery.T
            scores *= self.gallery_inverse
            if self.metric == 'unit':
                # |q - g|^2 is |q|^2 + 1 - 2 q.g, and |q|^2 for a zero gallery vector, as if q.g were 1/2.
                scores[:, self.gallery_inverse == 0] = 0.5
        scores[:, self.repeats] = scores[:, self.originals]
        return scores
