"""Recall@K and the nearest neighbours by cosine similarity."""
import numpy as np

from src.accuracy.arrays import (
    as_embeddings,
    as_labels,
    block_rows,
    check_k,
    check_widths,
    first_k,
    groups,
    inverse_norms,
    ranks,
    repeated_rows,
    slices,
    stable_top_k,
)
from src.errors import InputError

GALLERY_BYTES = 64 * 2 ** 20  # one block of a streamed gallery


def recall_at_k(embeddings, labels, k=(1,), gallery=None, gallery_labels=None):
    """Recall@K: share of the queries with an image of their class among their K most similar others.

    Without a gallery every image is compared with all others (leave-one-out); with one, with every gallery image.
    Embeddings are L2-normalised; a zero vector has similarity 0 to everything. Ties: of equal float32
    similarities the lower gallery index comes first, as in a stable sort; equal gallery rows tie exactly.
    A query without another image of its class counts as a miss. Memory: the input, plus about 0.5 GB; input that
    is not float32 is copied to float32 once.

    Args:
        embeddings: (N, D), any float type.
        labels: (N,).
        k: the K to report, each at most the number of images compared with.
        gallery: (M, D) or None.
        gallery_labels: (M,), with `gallery`.

    Returns:
        {K: float in 0..1}.

    Raises:
        InputError: widths that differ, NaN or Inf, a K out of range, a gallery without labels.
    """
    if (gallery is None) != (gallery_labels is None):
        raise InputError('gallery and gallery_labels: give both or neither')
    embeddings = as_embeddings('embeddings', embeddings)
    labels = as_labels('labels', labels, len(embeddings))
    inverse = inverse_norms('embeddings', embeddings).astype(np.float32)
    leave_one_out = gallery is None
    if leave_one_out:
        gallery, gallery_labels, gallery_inverse = embeddings, labels, inverse
    else:
        gallery = as_embeddings('gallery', gallery)
        gallery_labels = as_labels('gallery_labels', gallery_labels, len(gallery))
        check_widths('embeddings', embeddings, 'gallery', gallery)
        gallery_inverse = inverse_norms('gallery', gallery).astype(np.float32)
    k = [check_k(one, len(gallery) - leave_one_out) for one in np.atleast_1d(k).tolist()]
    repeats, originals = repeated_rows(gallery)
    members = groups(gallery_labels)
    nothing = np.empty(0, np.int64)
    best_ranks = np.full(len(embeddings), len(gallery))
    for rows in slices(len(embeddings), block_rows(len(gallery))):
        # the norms scale the product, so that no normalised copy of the whole matrix is needed
        similarities = (embeddings[rows] * inverse[rows, None]) @ gallery.T
        similarities *= gallery_inverse
        similarities[:, repeats] = similarities[:, originals]
        for i, row, label in zip(range(rows.start, rows.stop), similarities, labels[rows].tolist()):
            own = members.get(label, nothing)
            if leave_one_out:
                row[i] = -np.inf
                own = own[own != i]
            if len(own):
                best_ranks[i] = ranks(row, own[[row[own].argmax()]])[0]
    return {one: float(np.mean(best_ranks < one)) for one in k}


def nearest_neighbours(queries, gallery, k):
    """The k gallery rows most similar to each query, by cosine, the most similar first.

    The gallery is read once, block by block: it may be a np.memmap larger than the memory. Ties: of equal
    float32 similarities the lower index comes first; equal gallery rows tie exactly within a block of
    64 MB, elsewhere up to float32 rounding. A zero vector has similarity 0 to everything.

    Args:
        queries: (N, D), any float type.
        gallery: (M, D) array or memmap.
        k: neighbours, at most M.

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
    inverse = inverse_norms('queries', queries).astype(np.float32)
    indices, best = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    for columns in slices(len(gallery), max(1, GALLERY_BYTES // (4 * gallery.shape[1]))):
        block = as_embeddings('gallery', gallery[columns])
        block_inverse = inverse_norms(f'gallery (from row {columns.start})', block).astype(np.float32)
        repeats, originals = repeated_rows(block)
        kept = min(k, columns.stop)
        new_indices, new_best = np.empty((len(queries), kept), np.int64), np.empty((len(queries), kept), np.float32)
        for rows in slices(len(queries), block_rows(len(block))):
            similarities = (queries[rows] * inverse[rows, None]) @ block.T
            similarities *= block_inverse
            similarities[:, repeats] = similarities[:, originals]
            new_indices[rows], new_best[rows] = _merge(indices[rows], best[rows], similarities, columns.start, kept)
        indices, best = new_indices, new_best
    return indices, best


def _merge(indices, best, similarities, start, k):
    """The k best of (indices, best), each (N, at most k), and of a block whose first column is `start`."""
    count = len(similarities)
    if best.shape[1] == k:
        # an earlier column wins a tie: only what is strictly better can enter
        rows, columns = np.nonzero(similarities > best[:, -1:])
    else:
        columns = stable_top_k(similarities, min(k, similarities.shape[1])).ravel()
        rows = np.repeat(np.arange(count), len(columns) // count)
    values = similarities[rows, columns]
    rows = np.concatenate([np.repeat(np.arange(count), best.shape[1]), rows])
    return first_k(rows, np.concatenate([indices.ravel(), columns + start]), np.concatenate([best.ravel(), values]),
                   count, k)
