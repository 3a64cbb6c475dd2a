"""mAP and CMC of re-identification, against gallery images or their centroids."""
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import ArrayLike

from src.accuracy.reranking import Rerank
from src.common.arrays import (
    Array,
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


def reid_metrics(query: ArrayLike, query_ids: ArrayLike, query_cams: ArrayLike, gallery: ArrayLike, gallery_ids: ArrayLike,
                 gallery_cams: ArrayLike, centroids: bool = False, rerank: Optional[Rerank] = None) -> Dict[str, Any]:
    """mAP, mINP and CMC of queries ranked against a gallery of images or of centroids (arXiv 2104.13643).

    Embeddings are L2-normalised and compared by Euclidean distance; of equal distances the lower gallery index comes
    first. For each query the gallery images of its own person AND camera are removed; with `centroids` the centroids
    (`make_centroids`) of its own person that contain an image of its camera. A query without a right match left is skipped
    and counted. The distance matrix exists only in blocks.

    mINP (Ye et al., TPAMI 2021, arXiv 2001.04193): mean over queries of the number of right matches over the rank of the
    last right match.

    Centroids and images are two tasks, not two methods for one: centroids use the identities of the gallery, and a query
    has one or few right matches instead of many. Do not compare their figures, nor report one as the other.

    Args:
        query: (Q, D), any float type; query_ids, query_cams: (Q,).
        gallery: (G, D); gallery_ids, gallery_cams: (G,). Images, even if `centroids` is set.
        centroids: rank against centroids instead of images.
        rerank: settings or None; with them queries are ranked by re-ranked distances, computed among all queries and the
            whole gallery before any image is removed. Memory: see `Reranked`.

    Returns:
        {'mAP': float, 'mINP': float, 'cmc': {1:, 5:, 10:, 20:, 50:} floats, 'skipped': number of queries}, all shares
        in 0..1.

    Raises:
        InputError: widths or lengths that differ, NaN or Inf, no query with a right match.
    """
    queries = _Images('query', query, query_ids, query_cams)
    images = _Images('gallery', gallery, gallery_ids, gallery_cams)
    candidates = images.embeddings, images.ids, images.camera_sets()
    if centroids:
        candidates = make_centroids(images.embeddings, images.ids, images.cams, queries.ids, queries.cams)
    precisions, penalties, found = [], [], []
    for _, scores, right in _blocks(queries, *candidates, rerank):
        for row, own in zip(scores, right):
            if len(own):
                places = np.sort(ranks(row, own)) + 1
                precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
                penalties.append(len(places) / places[-1])
                found.append(places[0])
    if not found:
        raise InputError('query_ids: no query has a gallery image of its person from another camera')
    first = np.array(found)
    return {'mAP': float(np.mean(precisions)), 'mINP': float(np.mean(penalties)),
            'cmc': {k: float(np.mean(first <= k)) for k in CMC_RANKS}, 'skipped': len(queries.ids) - len(first)}


def make_centroids(gallery: ArrayLike, gallery_ids: ArrayLike, gallery_cams: ArrayLike, query_ids: ArrayLike,
                   query_cams: ArrayLike) -> Tuple[Array, Array, List[Tuple[Any, ...]]]:
    """The centroid gallery: for each person, and each camera that queries it, the mean of its images from other cameras.

    Equal centroids of a person, from the same set of cameras, are made once; without such images there is no centroid. As
    in the published evaluation, a person that is never queried has no centroid, and the mean is taken before L2
    normalisation.

    Args:
        gallery: (G, D), any float type; gallery_ids, gallery_cams: (G,).
        query_ids, query_cams: (Q,).

    Returns:
        (centroids (M, D) float32, ids (M,), M tuples of the cameras that each centroid is made from), by ascending id and
        query camera.

    Raises:
        InputError: lengths that differ, NaN or Inf, no centroid at all.
    """
    images = _Images('gallery', gallery, gallery_ids, gallery_cams)
    inverse_norms('gallery', images.embeddings)  # NaN must not hide in an image that no centroid uses
    from_cams = as_labels('query_cams', query_cams, np.size(query_ids))
    queried = groups(as_labels('query_ids', query_ids, len(from_cams)))
    centroids, ids, cams = [], [], []
    for person, own in groups(images.ids).items():
        own_cams = images.cams[own]
        made = set()
        for cam in np.unique(from_cams[queried.get(person, [])]):
            others = own_cams != cam
            used = tuple(np.unique(own_cams[others]).tolist())
            if used and used not in made:
                made.add(used)
                centroids.append(images.embeddings[own[others]].mean(axis=0, dtype=np.float64).astype(np.float32))
                ids.append(person)
                cams.append(used)
    if not ids:
        raise InputError('query_ids: no query has a gallery image of its person from another camera')
    return np.stack(centroids), np.array(ids, dtype=images.ids.dtype), cams


def ranked_list(query: ArrayLike, query_ids: ArrayLike, query_cams: ArrayLike, gallery: ArrayLike, gallery_ids: ArrayLike,
                gallery_cams: ArrayLike, n: int = 10, rerank: Optional[Rerank] = None) -> Tuple[Array, Array]:
    """The n nearest gallery images of each query without those of its own person and camera, for a picture.

    Distances, ties and `rerank` as in `reid_metrics`.

    Returns:
        (indices (Q, n) int64, right (Q, n) bool). If fewer than n images are left, the rest is -1 and False.

    Raises:
        InputError: widths or lengths that differ, NaN or Inf, n outside 1..G.
    """
    queries = _Images('query', query, query_ids, query_cams)
    images = _Images('gallery', gallery, gallery_ids, gallery_cams)
    n = check_k(n, len(images.ids))
    indices = np.empty((len(queries.ids), n), np.int64)
    for rows, scores, _ in _blocks(queries, images.embeddings, images.ids, images.camera_sets(), rerank):
        nearest = stable_top_k(scores, n)
        indices[rows] = np.where(np.isfinite(np.take_along_axis(scores, nearest, axis=1)), nearest, -1)
    return indices, (indices >= 0) & (images.ids[indices] == queries.ids[:, None])


class _Images:
    """Embeddings (N, D) float32, persons (N,) and cameras (N,) as checked arrays."""

    def __init__(self, name: str, embeddings: ArrayLike, ids: ArrayLike, cams: ArrayLike) -> None:
        self.embeddings = as_embeddings(name, embeddings)
        self.ids = as_labels(f'{name}_ids', ids, len(self.embeddings))
        self.cams = as_labels(f'{name}_cams', cams, len(self.embeddings))

    def camera_sets(self) -> List[Tuple[Any, ...]]:
        return [(cam,) for cam in self.cams.tolist()]


def _blocks(queries: _Images, gallery: Array, gallery_ids: Array, cams: Sequence[Tuple[Any, ...]], rerank: Optional[Rerank]
            ) -> Iterator[Tuple[slice, Array, List[Array]]]:
    """Yield (rows, scores (n, G), indices of the right matches of each row); higher score = nearer, removed = -inf.

    cams: for every gallery row the tuple of cameras that it is made from.
    """
    names = 'query', 'gallery'
    x = queries.embeddings
    search = rerank.search(x, gallery, names) if rerank else Search(x, gallery, 'unit', names)
    members = groups(gallery_ids)
    for rows in slices(len(x), block_rows(len(gallery))):
        scores, right = search.scores(rows), []
        for row, person, cam in zip(scores, queries.ids[rows].tolist(), queries.cams[rows].tolist()):
            own = members.get(person, np.empty(0, np.int64))
            usable = np.array([cam not in cams[j] for j in own.tolist()], dtype=bool)
            row[own[~usable]] = -np.inf
            right.append(own[usable])
        yield rows, scores, right
