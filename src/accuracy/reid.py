"""mAP and CMC of re-identification, against gallery images or against centroids of them."""
import numpy as np

from src.accuracy.arrays import (
    as_embeddings,
    as_labels,
    block_rows,
    check_k,
    check_widths,
    groups,
    inverse_norms,
    ranks,
    repeated_rows,
    slices,
)
from src.errors import InputError

CMC_RANKS = (1, 5, 10, 20, 50)


def reid_metrics(query, query_ids, query_cams, gallery, gallery_ids, gallery_cams, centroids=False):
    """mAP and CMC, every query ranked against a gallery of images or of centroids (arXiv 2104.13643).

    Embeddings are L2-normalised and compared by Euclidean distance; of equal distances the lower gallery index
    comes first. For each query the gallery images of its own person AND camera are removed; with
    `centroids`, those of `make_centroids` of its own person that contain an image of its camera. A query without a
    right match left is skipped and counted. The distance matrix exists only in blocks.

    Args:
        query: (Q, D), any float type; query_ids, query_cams: (Q,).
        gallery: (G, D); gallery_ids, gallery_cams: (G,). Images, also when `centroids` is set.
        centroids: rank against centroids in place of images.

    Returns:
        {'mAP': float, 'cmc': {1:, 5:, 10:, 20:, 50:} floats, 'skipped': number of queries}, all shares in 0..1.

    Raises:
        InputError: widths or lengths that differ, NaN or Inf, no query with a right match.
    """
    query, query_ids, query_cams = _checked('query', query, query_ids, query_cams)
    gallery, gallery_ids, gallery_cams = _checked('gallery', gallery, gallery_ids, gallery_cams)
    check_widths('query', query, 'gallery', gallery)
    if centroids:
        gallery, gallery_ids, cams = make_centroids(gallery, gallery_ids, gallery_cams, query_ids, query_cams)
    else:
        cams = [(cam,) for cam in gallery_cams.tolist()]
    precisions, first = [], []
    for _, row, own in _ranked_rows(query, query_ids, query_cams, gallery, gallery_ids, cams):
        if len(own):
            places = np.sort(ranks(row, own))
            precisions.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
            first.append(places[0])
    if not first:
        raise InputError('query_ids: no query has a gallery image of its person from another camera')
    first = np.array(first)
    return {'mAP': float(np.mean(precisions)), 'cmc': {k: float(np.mean(first < k)) for k in CMC_RANKS},
            'skipped': len(query) - len(first)}


def make_centroids(gallery, gallery_ids, gallery_cams, query_ids, query_cams):
    """The centroid gallery: for each person and each camera it is queried from, the mean of its other cameras' images.

    A centroid whose images come from the same set of cameras as an earlier one of that person is the same
    and is made once; none is made when no image is left. As in the published evaluation, a person that is
    never queried has no centroid, and the mean is that of the embeddings before L2 normalisation.

    Args:
        gallery: (G, D), any float type; gallery_ids, gallery_cams: (G,).
        query_ids, query_cams: (Q,).

    Returns:
        (centroids (M, D) float32, ids (M,), cams: M tuples of the cameras each was made from), by ascending id and
        query camera.

    Raises:
        InputError: lengths that differ, NaN or Inf, no centroid at all.
    """
    gallery, gallery_ids, gallery_cams = _checked('gallery', gallery, gallery_ids, gallery_cams)
    inverse_norms('gallery', gallery)  # NaN must not hide in an image that no centroid uses
    query_cams = as_labels('query_cams', query_cams, len(query_ids))
    query_ids = as_labels('query_ids', query_ids, len(query_cams))
    queried = groups(query_ids)
    centroids, ids, cams = [], [], []
    for person, own in groups(gallery_ids).items():
        own_cams, made = gallery_cams[own], set()
        for cam in np.unique(query_cams[queried.get(person, [])]):
            others = own_cams != cam
            used = tuple(np.unique(own_cams[others]).tolist())
            if used and used not in made:
                made.add(used)
                centroids.append(gallery[own[others]].mean(axis=0, dtype=np.float64).astype(np.float32))
                ids.append(person)
                cams.append(used)
    if not ids:
        raise InputError('query_ids: no query has a gallery image of its person from another camera')
    return np.stack(centroids), np.array(ids, dtype=gallery_ids.dtype), cams


def ranked_list(query, query_ids, query_cams, gallery, gallery_ids, gallery_cams, n=10):
    """The n nearest gallery images of each query, after removing those of its own person and camera (for a picture).

    Same distances and ties as `reid_metrics`.

    Returns:
        (indices (Q, n) int64, right (Q, n) bool). Where fewer than n images are left, the rest is -1 and False.

    Raises:
        InputError: widths or lengths that differ, NaN or Inf, n outside 1..G.
    """
    query, query_ids, query_cams = _checked('query', query, query_ids, query_cams)
    gallery, gallery_ids, gallery_cams = _checked('gallery', gallery, gallery_ids, gallery_cams)
    check_widths('query', query, 'gallery', gallery)
    n = check_k(n, len(gallery))
    indices = np.full((len(query), n), -1, np.int64)
    cams = [(cam,) for cam in gallery_cams.tolist()]
    for i, row, _ in _ranked_rows(query, query_ids, query_cams, gallery, gallery_ids, cams):
        nearest = np.flatnonzero(row >= np.partition(row, -n)[-n])
        nearest = nearest[np.argsort(-row[nearest], kind='stable')][:n]
        nearest = nearest[np.isfinite(row[nearest])]
        indices[i, :len(nearest)] = nearest
    return indices, (indices >= 0) & (gallery_ids[indices] == query_ids[:, None])


def _checked(name, embeddings, ids, cams):
    embeddings = as_embeddings(name, embeddings)
    return embeddings, as_labels(f'{name}_ids', ids, len(embeddings)), as_labels(f'{name}_cams', cams, len(embeddings))


def _ranked_rows(query, query_ids, query_cams, gallery, gallery_ids, cams):
    """Yield (query index, its scores (G,), indices of its right matches); higher score = nearer, removed = -inf.

    cams: for every gallery row the tuple of cameras it was made from.
    """
    inverse = inverse_norms('query', query).astype(np.float32)
    gallery_inverse = inverse_norms('gallery', gallery).astype(np.float32)
    zeros = np.flatnonzero(gallery_inverse == 0)
    repeats, originals = repeated_rows(gallery)
    members = groups(gallery_ids)
    nothing = np.empty(0, np.int64)
    for rows in slices(len(query), block_rows(len(gallery))):
        # of unit vectors |q - g|^2 = |q|^2 + 1 - 2 q.g, and |q|^2 of a zero gallery vector, as if q.g were 1/2
        scores = (query[rows] * inverse[rows, None]) @ gallery.T
        scores *= gallery_inverse
        scores[:, zeros] = 0.5
        scores[:, repeats] = scores[:, originals]
        block = zip(range(rows.start, rows.stop), scores, query_ids[rows].tolist(), query_cams[rows].tolist())
        for i, row, person, cam in block:
            own = members.get(person, nothing)
            usable = np.array([cam not in cams[j] for j in own.tolist()], dtype=bool)
            row[own[~usable]] = -np.inf
            yield i, row, own[usable]
