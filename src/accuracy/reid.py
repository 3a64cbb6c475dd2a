"""mAP and CMC of re-identification, against gallery images or their centroids."""
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import ArrayLike

from src.accuracy.reranking import Rerank
from src.accuracy.retrieval import own_rows
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
    return reid_figures(Images('query', query, query_ids, query_cams), Images('gallery', gallery, gallery_ids, gallery_cams),
                        centroids, rerank)


def reid_figures(queries: 'Images', images: 'Images', centroids: bool = False, rerank: Optional[Rerank] = None
                 ) -> Dict[str, Any]:
    """Results as of reid_metrics, from queries and gallery images as records.

    A gallery image that shows the query's own picture is removed too, and of centroids those that contain it: for such a query
    the centroid of its person is made without it.
    """
    candidates = _candidates(images)
    if centroids:
        candidates = make_centroids(queries, images)
    precisions, penalties, found = [], [], []
    for _, scores, right in _blocks(queries, candidates, images, rerank):
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


class Candidates(NamedTuple):
    """Candidates of a ranking: embeddings (M, D) float32, ids (M,), and the gallery rows that each is made of."""
    embeddings: Array
    ids: Array
    members: List[Array]


def _candidates(images: 'Images') -> Candidates:
    return Candidates(images.embeddings, images.ids, list(np.arange(len(images.ids))[:, None]))


def make_centroids(queries: 'Images', images: 'Images') -> Candidates:
    """Make the centroid gallery: for each person and each camera that queries it, the mean of its images from other cameras.

    Equal centroids of a person, from the same images, are made once; without such images there is no centroid. As in the
    published evaluation, a person that is never queried has no centroid, and the mean is taken before L2 normalisation. A
    centroid for a query whose own picture is in the gallery is made without it.

    Returns:
        Candidates by ascending id and query camera.

    Raises:
        InputError: NaN or Inf, or no centroid at all.
    """
    inverse_norms('gallery', images.embeddings)  # NaN must not hide in an image that no centroid uses
    queried, excluded = groups(queries.ids), own_rows(queries.pictures, images.pictures)
    centroids, ids, members = [], [], []
    for person, own in groups(images.ids).items():
        made = set()
        asked = [(queries.cams[row], excluded.get(row, ())) for row in queried.get(person, np.empty(0, int)).tolist()]
        for cam, pictures in sorted({(cam, tuple(rows)) for cam, rows in asked}):
            rows = own[(images.cams[own] != cam) & ~np.isin(own, pictures)]
            if len(rows) and tuple(rows) not in made:
                made.add(tuple(rows))
                centroids.append(images.embeddings[rows].mean(axis=0, dtype=np.float64).astype(np.float32))
                ids.append(person)
                members.append(rows)
    if not ids:
        raise InputError('query_ids: no query has a gallery image of its person from another camera')
    return Candidates(np.stack(centroids), np.array(ids, dtype=images.ids.dtype), members)


def nearest_of_others(queries: 'Images', images: 'Images', n: int, rerank: Optional[Rerank] = None) -> Tuple[Array, Array]:
    """Nearest n gallery images of each query, without images of its own person and camera or of its own picture, to draw.

    Distances, ties and `rerank` as in `reid_metrics`.

    Returns:
        (indices (Q, n) int64, right (Q, n) bool). If fewer than n images are left, the rest is -1 and False.

    Raises:
        InputError: widths that differ, NaN or Inf, n outside 1..G.
    """
    n = check_k(n, len(images.ids))
    indices = np.empty((len(queries.ids), n), np.int64)
    for rows, scores, _ in _blocks(queries, _candidates(images), images, rerank):
        nearest = stable_top_k(scores, n)
        indices[rows] = np.where(np.isfinite(np.take_along_axis(scores, nearest, axis=1)), nearest, -1)
    return indices, (indices >= 0) & (images.ids[indices] == queries.ids[:, None])


class Images:
    """Embeddings (N, D) float32, persons (N,), cameras (N,) and, or None, numbers of pictures (N,), as checked arrays.

    Equal numbers of a query and a gallery image say that both show the same picture (src.accuracy.Retrieval).
    """

    def __init__(self, name: str, embeddings: ArrayLike, ids: ArrayLike, cams: ArrayLike, pictures: Optional[ArrayLike] = None
                 ) -> None:
        self.embeddings = as_embeddings(name, embeddings)
        self.ids = as_labels(f'{name}_ids', ids, len(self.embeddings))
        self.cams = as_labels(f'{name}_cams', cams, len(self.embeddings))
        self.pictures = pictures if pictures is None else as_labels(f'{name}_pictures', pictures, len(self.embeddings))


def _blocks(queries: Images, candidates: Candidates, images: Images, rerank: Optional[Rerank]
            ) -> Iterator[Tuple[slice, Array, List[Array]]]:
    """Yield (rows, scores (n, G), indices of the right matches of each row); higher score = nearer, removed = -inf.

    images: the gallery, whose rows the members of the candidates are.
    """
    names = 'query', 'gallery'
    x = queries.embeddings
    search = rerank.search(x, candidates.embeddings, names) if rerank else Search(x, candidates.embeddings, 'unit', names)
    of_person, excluded = groups(candidates.ids), own_rows(queries.pictures, images.pictures)
    cams = [set(images.cams[rows].tolist()) for rows in candidates.members]
    made_of: Dict[int, List[int]] = {}
    for number, rows in enumerate(candidates.members if excluded else []):
        for row in rows.tolist():
            made_of.setdefault(row, []).append(number)
    for part in slices(len(x), block_rows(len(candidates.ids))):
        scores, right = search.scores(part), []
        columns = zip(scores, queries.ids[part].tolist(), queries.cams[part].tolist())
        for i, (row, person, cam) in enumerate(columns, part.start):
            own = of_person.get(person, np.empty(0, np.int64))
            removed = {j for j in own.tolist() if cam in cams[j]}
            removed.update(number for picture in excluded.get(i, ()) for number in made_of.get(picture, ()))
            row[list(removed)] = -np.inf
            right.append(own[~np.isin(own, list(removed))])
        yield part, scores, right
