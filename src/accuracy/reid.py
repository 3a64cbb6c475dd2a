"""mAP and CMC of re-identification, against gallery images or against centroids of them."""
import numpy as np

from src.common.arrays import (
    Search,
    as_embeddings,
    as_labels,
    block_rows,
    check_k,
    groups,
    inverse_norms,
    ranks,
    slices,
    stable_top_k,
)
from src.common.errors import InputError

CMC_RANKS = (1, 5, 10, 20, 50)


def reid_metrics(query, query_ids, query_cams, gallery, gallery_ids, gallery_cams, centroids=False,
                 rerank=None):
    """mAP, mINP and CMC, every query ranked against a gallery of images or of centroids (arXiv 2104.13643).

    Embeddings are L2-normalised and compared by Euclidean distance; of equal distances the lower gallery index
    comes first. For each query the gallery images of its own person AND camera are removed; with
    `centroids`, those of `make_centroids` of its own person that contain an image of its camera. A query without a
    right match left is skipped and counted. The distance matrix exists only in blocks.

    mINP (Ye et al., TPAMI 2021, arXiv 2001.04193): mean over queries of the number of their right matches over the
    rank of the hardest, the last found.

    Centroids and images are two tasks, not two methods for one: a centroid is made with the identities of the
    gallery, and a query has one or few right matches in place of many. Their figures must not be compared with, nor
    reported as, those against images.

    Args:
        query: (Q, D), any float type; query_ids, query_cams: (Q,).
        gallery: (G, D); gallery_ids, gallery_cams: (G,). Images, also when `centroids` is set.
        centroids: rank against centroids in place of images.
        rerank: `reranking.Rerank` or None; ranks by its distances instead, found among all queries and the whole
            gallery before anything is removed; see there for memory.

    Returns:
        {'mAP': float, 'mINP': float, 'cmc': {1:, 5:, 10:, 20:, 50:} floats, 'skipped': number of queries}, all shares
        in 0..1.

    Raises:
        InputError: widths or lengths that differ, NaN or Inf, no query with a right match.
    """
    query, query_ids, query_cams = _checked('query', query, query_ids, query_cams)
    gallery, gallery_ids, gallery_cams = _checked('gallery', gallery, gallery_ids, gallery_cams)
    if centroids:
        gallery, gallery_ids, cams = make_centroids(gallery, gallery_ids, gallery_cams, query_ids, query_cams)
    else:
        cams = [(cam,) for cam in gallery_cams.tolist()]
    precisions, penalties, first = [], [], []
    for _, scores, right in _blocks(query, query_ids, query_cams, gallery, gallery_ids, cams, rerank):
        for row, own in zip(scores, right):
            if len(own):
                places = np.sort(ranks(row, own)) + 1
                precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
                penalties.append(len(places) / places[-1])
                first.append(places[0])
    if not first:
        raise InputError('query_ids: no query has a gallery image of its person from another camera')
    first = np.array(first)
    return {'mAP': float(np.mean(precisions)), 'mINP': float(np.mean(penalties)),
            'cmc': {k: float(np.mean(first <= k)) for k in CMC_RANKS}, 'skipped': len(query) - len(first)}


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


def ranked_list(query, query_ids, query_cams, gallery, gallery_ids, gallery_cams, n=10, rerank=None):
    """The n nearest gallery images of each query, after removing those of its own person and camera (for a picture).

    Same distances, ties and `rerank` as `reid_metrics`.

    Returns:
        (indices (Q, n) int64, right (Q, n) bool). Where fewer than n images are left, the rest is -1 and False.

    Raises:
        InputError: widths or lengths that differ, NaN or Inf, n outside 1..G.
    """
    query, query_ids, query_cams = _checked('query', query, query_ids, query_cams)
    gallery, gallery_ids, gallery_cams = _checked('gallery', gallery, gallery_ids, gallery_cams)
    n = check_k(n, len(gallery))
    indices = np.empty((len(query), n), np.int64)
    cams = [(cam,) for cam in gallery_cams.tolist()]
    for rows, scores, _ in _blocks(query, query_ids, query_cams, gallery, gallery_ids, cams, rerank):
        nearest = stable_top_k(scores, n)
        indices[rows] = np.where(np.isfinite(np.take_along_axis(scores, nearest, axis=1)), nearest, -1)
    return indices, (indices >= 0) & (gallery_ids[indices] == query_ids[:, None])


def _checked(name, embeddings, ids, cams):
    embeddings = as_embeddings(name, embeddings)
    return embeddings, as_labels(f'{name}_ids', ids, len(embeddings)), as_labels(f'{name}_cams', cams, len(embeddings))


def _blocks(query, query_ids, query_cams, gallery, gallery_ids, cams, rerank):
    """Yield (rows, scores (rows, G), right matches of each row); higher score = nearer, removed = -inf.

    cams: for every gallery row the tuple of cameras it was made from.
    """
    names = 'query', 'gallery'
    search = rerank.search(query, gallery, names) if rerank else Search(query, gallery, 'unit', names)
    members = groups(gallery_ids)
    for rows in slices(len(query), block_rows(len(gallery))):
        scores, right = search.scores(rows), []
        for row, person, cam in zip(scores, query_ids[rows].tolist(), query_cams[rows].tolist()):
            own = members.get(person, np.empty(0, np.int64))
            usable = np.array([cam not in cams[j] for j in own.tolist()], dtype=bool)
            row[own[~usable]] = -np.inf
            right.append(own[usable])
        yield rows, scores, right
