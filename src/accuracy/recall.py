"""Recall@K and the nearest neighbours by cosine similarity."""
import numpy as np

from src.common.arrays import (
    Search,
    as_embeddings,
    as_labels,
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
# Two float32 products of the same two unit rows, each computed at another place of a block, differ by far less.
TOLERANCE = 1e-5


def recall_at_k(embeddings, labels, k=(1,), gallery=None, gallery_labels=None, rerank=None):
    """Recall@K: share of the queries with an image of their class among their K most similar others.

    Without a gallery every image is compared with all others (leave-one-out); with one, with every gallery image.
    Embeddings are L2-normalised; a zero vector has similarity 0 to everything. Ties: of equal float32
    similarities the lower gallery index comes first, as in a stable sort; equal gallery rows tie exactly.
    A query without another image of its class counts as a miss. Memory: the input, plus about 0.5 GB; input that
    is not float32 is copied to float32 once.

    Leave-one-out computes half of the symmetric matrix of similarities (`_bounds`). What the rounding of a product
    could decide, a tie above all, is then ranked in a whole row of similarities, as with a gallery.

    Args:
        embeddings: (N, D), any float type.
        labels: (N,).
        k: the K to report, each at most the number of images compared with.
        gallery: (M, D) or None.
        gallery_labels: (M,), with `gallery`.
        rerank: `reranking.Rerank` or None; ranks by its distances instead, see there for memory.

    Returns:
        {K: float in 0..1}.

    Raises:
        InputError: widths that differ, NaN or Inf, a K out of range, a gallery without labels.
    """
    if (gallery is None) != (gallery_labels is None):
        raise InputError('gallery and gallery_labels: give both or neither')
    embeddings = as_embeddings('embeddings', embeddings)
    labels = as_labels('labels', labels, len(embeddings))
    leave_one_out = gallery is None
    if leave_one_out:
        gallery, gallery_labels = embeddings, labels
    else:
        gallery = as_embeddings('gallery', gallery)
        gallery_labels = as_labels('gallery_labels', gallery_labels, len(gallery))
    k = [check_k(one, len(gallery) - leave_one_out) for one in np.atleast_1d(k).tolist()]
    if rerank:
        search = rerank.search(embeddings, gallery, ('embeddings', 'gallery'))
    else:
        search = Search(embeddings, gallery, names=('embeddings', 'gallery'))

    best = np.empty(len(embeddings), np.int64)
    undecided = np.arange(len(embeddings))
    if leave_one_out and not rerank:
        best, at_most = _bounds(embeddings, search.inverse, labels, max(k))
        undecided = np.flatnonzero(np.any([(best < one) & (one <= at_most) for one in k], axis=0))
    members = groups(gallery_labels)
    for chunk in slices(len(undecided), block_rows(len(gallery))):
        rows = undecided[chunk]
        for i, scores in zip(rows.tolist(), search.scores(rows)):
            own = members.get(labels[i].item(), np.empty(0, np.int64))
            if leave_one_out:
                scores[i] = -np.inf
                own = own[own != i]
            best[i] = ranks(scores, own[[scores[own].argmax()]])[0] if len(own) else len(gallery)
    return {one: float(np.mean(best < one)) for one in k}


def _bounds(x, inverse, labels, most):
    """(at least, at most), each (N,) int64: bounds of the leave-one-out rank (0 = best) of each row's best own.

    The best own similarity is found first, class by class. Then each pair of classes' rows is multiplied once, and
    what beats the best own is counted for rows and columns at once. Similarities within TOLERANCE of
    the best own may be on either side. Rows whose rank reaches `most` are counted no further; without another row
    of the class both are N. Memory: a panel of 4,096 rows, a tile of 512, and their product.
    """
    order = np.argsort(labels, kind='stable')
    codes = np.unique(labels[order], return_inverse=True)[1]
    starts = np.searchsorted(codes, np.arange(codes[-1] + 2))
    inverse = inverse.astype(np.float32)

    def unit(rows):
        rows = order[rows]
        return x[rows] * inverse[rows, None]

    panel = block_rows(x.shape[1], 4, 4096)
    best = np.full(len(x), -np.inf, np.float32)
    for start, stop in zip(starts.tolist(), starts[1:].tolist()):
        blocks = [slice(start + part.start, start + part.stop) for part in slices(stop - start, panel)]
        for i, rows in enumerate(blocks):
            one = unit(rows)
            for columns in blocks[i:]:
                own = one @ (one if rows == columns else unit(columns)).T
                if rows == columns:
                    np.fill_diagonal(own, -np.inf)
                np.maximum(best[rows], own.max(axis=1), out=best[rows])
                np.maximum(best[columns], own.max(axis=0), out=best[columns])
    alone = np.isneginf(best)
    best[alone] = np.inf  # nothing beats it
    low, high = best - TOLERANCE, best + TOLERANCE
    at_least, at_most = np.zeros(len(x), np.int64), np.zeros(len(x), np.int64)

    def count(similarities, own_axis, rows):
        low_rows, high_rows = low[rows], high[rows]
        shape = (-1, 1) if own_axis == 0 else (1, -1)
        places = true_places(similarities >= low_rows.reshape(shape))
        beaten = places[own_axis]
        sure = similarities[places] > high_rows[beaten]
        at_most[rows] += np.bincount(beaten, minlength=len(low_rows))
        at_least[rows] += np.bincount(beaten[sure], minlength=len(low_rows))
        full = at_least[rows] >= most
        low_rows[full] = high_rows[full] = np.inf
        low[rows], high[rows] = low_rows, high_rows

    tiles = slices(len(x), max(1, panel // 8))
    for rows in slices(len(x), 8 * max(1, panel // 8)):
        one = unit(rows)
        for columns in tiles[rows.start // max(1, panel // 8):]:
            inside = columns.stop <= rows.stop
            other = one[columns.start - rows.start:columns.stop - rows.start] if inside else unit(columns)
            if inside:
                similarities = other @ other.T
                similarities[codes[columns, None] == codes[columns]] = -np.inf
                count(similarities, 0, columns)
            before = slice(rows.start, min(rows.stop, columns.start))
            shared = starts[codes[columns.start]], starts[codes[columns.start] + 1]
            if before.start == before.stop or (shared[0] <= before.start and columns.stop <= shared[1]):
                continue
            similarities = one[:before.stop - before.start] @ other.T
            # in the order of classes, rows before the columns share at most one class with them
            similarities[max(0, shared[0] - before.start):, :shared[1] - columns.start] = -np.inf
            count(similarities, 0, before)
            count(similarities, 1, columns)
    at_least[alone] = at_most[alone] = len(x)
    result = np.empty((2, len(x)), np.int64)
    result[:, order] = at_least, at_most
    return result


def nearest_neighbours(queries, gallery, k, rerank=None):
    """The k gallery rows most similar to each query, by cosine, the most similar first.

    The gallery is read once, block by block: it may be a np.memmap larger than the memory. Ties: of equal
    float32 similarities the lower index comes first; equal gallery rows tie exactly within a block of
    64 MB, elsewhere up to float32 rounding. A zero vector has similarity 0 to everything.

    Args:
        queries: (N, D), any float type.
        gallery: (M, D) array or memmap.
        k: neighbours, at most M.
        rerank: `reranking.Rerank` or None; orders by its distances, which needs the gallery in memory, and the
            neighbours' similarities no longer fall.

    Returns:
        (indices (N, k) int64, similarities (N, k) float32).

    Raises:
        InputError: widths that differ, NaN or Inf, k out of range.
    """
    queries = as_embeddings('queries', queries)
    gallery = np.asanyarray(gallery)
    if gallery.ndim != 2 or not gallery.size:
        raise InputError(f'gallery: expected a non-empty (M, D) array, got shape {gallery.shape}')
    check_widths('queries', queries, 'gallery', gallery)
    k = check_k(k, len(gallery))
    if rerank:
        return _reranked_neighbours(queries, as_embeddings('gallery', gallery), k, rerank)
    inverse = inverse_norms('queries', queries)
    indices, best = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    for columns in slices(len(gallery), max(1, GALLERY_BYTES // (4 * gallery.shape[1]))):
        block = as_embeddings('gallery', gallery[columns])
        search = Search(queries, block, names=('queries', f'gallery (from row {columns.start})'), inverse=inverse)
        kept = min(k, columns.stop)
        new_indices, new_best = np.empty((len(queries), kept), np.int64), np.empty((len(queries), kept), np.float32)
        for rows in slices(len(queries), block_rows(len(block))):
            new_indices[rows], new_best[rows] = _merge(indices[rows], best[rows], search.scores(rows), columns.start,
                                                       kept)
        indices, best = new_indices, new_best
    return indices, best


def _reranked_neighbours(queries, gallery, k, rerank):
    search = rerank.search(queries, gallery, ('queries', 'gallery'))
    indices = np.concatenate([stable_top_k(search.scores(rows), k)
                              for rows in slices(len(queries), block_rows(len(gallery)))])
    similarities = np.empty(indices.shape, np.float32)
    for rows in slices(len(queries), block_rows(k * queries.shape[1])):
        similarities[rows] = search.similarities(rows, indices[rows])
    return indices, similarities


def _merge(indices, best, similarities, start, k):
    """The k best of (indices, best), each (N, at most k), and of a block whose first column is `start`."""
    count = len(similarities)
    if best.shape[1] == k:
        # an earlier column wins a tie: only what is strictly better can enter
        rows, columns = true_places(similarities > best[:, -1:])
    else:
        columns = stable_top_k(similarities, min(k, similarities.shape[1])).ravel()
        rows = np.repeat(np.arange(count), len(columns) // count)
    values = similarities[rows, columns]
    rows = np.concatenate([np.repeat(np.arange(count), best.shape[1]), rows])
    return first_k(rows, np.concatenate([indices.ravel(), columns + start]), np.concatenate([best.ravel(), values]),
                   count, k)
