"""What the measures share: checked inputs, row norms, the search in blocks, exact ties, stable top-k."""
import numpy as np

from src.common.errors import InputError

BLOCK_BYTES = 192 * 2 ** 20  # one block of similarities; several of them stay far below the embeddings themselves
MIN_NORM = 1e-30             # a shorter row counts as a zero vector: 1 / norm would leave float32
MAX_NORM = 1e30              # and a longer one's products would
METRICS = ('euclidean', 'cosine')


def as_embeddings(name, x, dtype=np.float32):
    """A (N, D) array of `dtype`, not copied when it is of it already. Finiteness is checked by `inverse_norms`."""
    with np.errstate(over='ignore'):
        x = np.asarray(x, dtype=dtype)
    if x.ndim != 2 or not x.size:
        raise InputError(f'{name}: expected a non-empty (N, D) array, got shape {x.shape}')
    return x


def as_labels(name, labels, count):
    """A (count,) array of labels."""
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise InputError(f'{name}: expected {count} labels, one a row, got shape {labels.shape}')
    return labels


def unit_rows(rows):
    """Rows (N, D) float at unit length; zero rows stay. Of their type, not checked."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def check_widths(name, x, other_name, other):
    if x.shape[1] != other.shape[1]:
        raise InputError(f'{name} and {other_name} differ in width: {x.shape[1]} and {other.shape[1]} columns')


def check_k(k, available):
    if int(k) != k or not 1 <= k <= available:
        raise InputError(f'k: {k} is not a whole number between 1 and the {available} gallery rows to choose from')
    return int(k)


def check_metric(metric):
    if metric not in METRICS:
        raise InputError(f'metric={metric}: choose one of {", ".join(METRICS)}')


def slices(count, size):
    """Slices of at most `size` rows that cover `count` rows."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def block_rows(columns, itemsize=4, most=1024):
    """How many rows of `columns` values fit a block."""
    return max(1, min(most, BLOCK_BYTES // (columns * itemsize)))


def inverse_norms(name, x):
    """1 / L2 norm of every row, (N,) float64, 0 for a zero vector; InputError at the first row with NaN or Inf."""
    squares = np.empty(len(x))
    for rows in slices(len(x), block_rows(x.shape[1], 8)):
        block = x[rows].astype(np.float64)
        squares[rows] = np.einsum('nd,nd->n', block, block)
    usable = squares < MAX_NORM ** 2
    if not usable.all():
        raise InputError(f'{name}: row {int(np.argmin(usable))} holds NaN, Inf or values above {MAX_NORM:g}')
    norms = np.sqrt(squares)
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > MIN_NORM)


def repeated_rows(x):
    """(repeats, originals): indices of the rows of `x` equal to an earlier row, and the first such row of each.

    A matrix product may round equal rows differently, by their place in a block; copying the original's value
    makes their tie exact.
    """
    first, pairs = {}, []
    for i, row in enumerate(x):
        original = first.setdefault(hash(row.tobytes()), i)
        if original != i and np.array_equal(x[original], row):
            pairs.append((i, original))
    pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def groups(labels):
    """{label: its indices, ascending}."""
    values, starts = np.unique(np.sort(labels, kind='stable'), return_index=True)
    return dict(zip(values.tolist(), np.split(np.argsort(labels, kind='stable'), starts[1:])))


def stable_top_k(scores, k):
    """Column indices (N, k) of the k highest scores of each row, the highest first; equal scores: lowest index first.

    The same as the first k of a full stable sort of -scores, without sorting the rest. scores: (N, M) without NaN.
    """
    if k == 1:
        return scores.argmax(axis=1)[:, None]
    candidates = scores >= _floors(scores, k)[:, None]
    if np.count_nonzero(candidates) > 8 * k * len(scores):
        # many equal scores: row by row, or the candidates could be the whole block
        return np.stack([_top_k_of_row(row, k) for row in scores])
    rows, columns = true_places(candidates)
    return first_k(rows, columns, scores[rows, columns], len(scores), k)[0]


def true_places(mask):
    """np.nonzero of a (N, M) mask, at a tenth of its time where few are true."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _floors(scores, k):
    """(N,) values that the k-th highest score of each row reaches: the k-th of the maxima of disjoint sets of columns.

    Neighbouring columns, often of one class, lie in different sets.
    """
    sets = 8 * k
    per_set = scores.shape[1] // sets
    if per_set > 1:
        scores = scores[:, :per_set * sets].reshape(len(scores), per_set, sets).max(axis=1)
    return np.partition(scores, -k, axis=1)[:, -k]


def _top_k_of_row(row, k):
    floor = np.partition(row, -k)[-k]
    above = np.flatnonzero(row > floor)
    tied = np.flatnonzero(row == floor)[:k - len(above)]
    return np.concatenate([above[np.argsort(-row[above], kind='stable')], tied])


def first_k(rows, columns, values, count, k):
    """The k best (columns, values), each (count, k), of candidates given one by one: values downwards, columns upwards.

    Every row 0..count-1 needs at least k candidates.
    """
    order = np.lexsort((columns, -values, rows))
    rows = rows[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, np.arange(count))[rows]
    chosen = order[rank < k]
    return columns[chosen].reshape(count, k), values[chosen].reshape(count, k)


def ranks(row, wanted):
    """Ranks (0 = best) of the columns `wanted` in one row of scores; equal scores: lowest index first.

    Equals the places of `wanted` in a full stable sort of -row, at the cost of sorting only what beats the worst.
    """
    scores = row[wanted]
    head = np.sort(row[row >= scores.min()])
    above = len(head) - np.searchsorted(head, scores, side='right')
    tied = len(head) - above - np.searchsorted(head, scores, side='left') > 1
    for i in np.flatnonzero(tied):
        above[i] += np.count_nonzero(row[:wanted[i]] == scores[i])
    return above


class Search:
    """Scores of queries against a gallery, by blocks of queries; higher = nearer, equal gallery rows tie exactly.

    Args:
        queries: (Q, D); of another type than the gallery's it is converted block by block.
        gallery: (G, D) float32 or float64, of which no copy is made; the scores are of its type.
        metric: 'cosine': the similarity, a zero vector's is 0.
            'euclidean': orders a query's gallery rows as their Euclidean distance does; q.g - |g|^2 / 2.
            'unit': likewise for L2-normalised rows, a zero vector stays zero.
        names: of queries and gallery, for the messages.
        inverse: `inverse_norms` of the queries, where they are known.

    Raises:
        InputError: widths that differ, NaN or Inf.
    """

    def __init__(self, queries, gallery, metric='cosine', names=('queries', 'gallery'), inverse=None):
        check_widths(names[0], queries, names[1], gallery)
        self.queries, self.gallery, self.metric = queries, gallery, metric
        self.inverse = inverse_norms(names[0], queries) if inverse is None else inverse
        self.gallery_inverse = (self.inverse if gallery is queries else inverse_norms(names[1], gallery)).astype(
            gallery.dtype, copy=False)
        self.repeats, self.originals = repeated_rows(gallery)
        if metric == 'euclidean':
            self.half_squares = 0.5 * np.einsum('gd,gd->g', gallery, gallery)

    def __len__(self):
        return len(self.queries)

    def scores(self, rows):
        """(number of rows, G) scores of the queries `rows`, a slice or indices; the caller may write into them."""
        # the norms scale the product, so that no normalised copy of the whole gallery is needed
        queries = self.queries[rows].astype(self.gallery.dtype, copy=False)
        if self.metric == 'euclidean':
            scores = queries @ self.gallery.T
            scores -= self.half_squares
        else:
            scores = (queries * self.inverse[rows, None].astype(self.gallery.dtype)) @ self.gallery.T
            scores *= self.gallery_inverse
            if self.metric == 'unit':
                # |q - g|^2 = |q|^2 + 1 - 2 q.g, and |q|^2 of a zero gallery vector, as if q.g were 1/2
                scores[:, self.gallery_inverse == 0] = 0.5
        scores[:, self.repeats] = scores[:, self.originals]
        return scores
