"""Search for nearest neighbours in any gallery, and mean embeddings of its classes."""
import os
from typing import Dict, Optional

import numpy as np

from src.accuracy.recall import nearest_neighbours
from src.accuracy.reranking import Rerank
from src.common.arrays import Array
from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.retrieval.embedding_file import check_output, write_embeddings
from src.retrieval.gallery import ClassId, Gallery, Neighbours

TOP_K, RERANKED = 10, 100


def check_size(gallery: Gallery, k: Optional[int], where: Optional[str] = None) -> int:
    """The number of neighbours to find, k. None: TOP_K, or all if the images that match a filter are fewer.

    Raises:
        InputError: fewer than k images match, or none.
    """
    size = gallery.size(where)
    k = k or max(1, min(TOP_K, size))
    if k > size:
        raise InputError(f'--top_k={k}: {gallery.path} holds {size} images' + (f' where {where}' if where else ''))
    return k


def find_neighbours(queries: Array, gallery: Gallery, k: int, *, where: Optional[str] = None,
                    rerank: Optional[Rerank] = None) -> Neighbours:
    """The k gallery images most similar to each query by cosine.

    Args:
        queries: (N, D) float32.
        gallery: at least k images. An embedding file is searched exactly, a collection of Milvus by its index.
        where: filter, e.g. `label == 3`, for a collection of Milvus.
        rerank: settings, by whose distances the neighbours are ordered. In a gallery of more than gallery.WHOLE images only
            those that are among the RERANKED nearest of any query take part.

    Returns:
        Neighbours; after re-ranking their similarities are not in falling order.

    Raises:
        InputError: the widths differ, the gallery has fewer than k images, or it cannot be read.
    """
    if queries.shape[1] != gallery.width:
        raise InputError(f'{gallery.path}: embeddings of {gallery.width} values, those of --query have '
                         f'{queries.shape[1]}; write both with the same network')
    check_size(gallery, k, where)
    if rerank is None:
        return gallery.search(queries, k, where)
    images, classes, vectors = gallery.shortlist(queries, max(k, RERANKED), where)
    return Neighbours(*nearest_neighbours(queries, vectors, k, rerank=rerank), images, classes)


def centroids_of(gallery: Gallery, path: str) -> int:
    """Write a gallery of the mean embedding of each class of a labelled gallery.

    As in CTL (arXiv 2104.13643), the embeddings are averaged before they are normalised. The path of a centroid is that of
    the image of its class that is nearest by cosine, so that results can be drawn.

    Memory: twice (classes, D) float64. The gallery is read twice, in blocks.

    Args:
        gallery: with labels.
        path: of the new embedding file, .npy or .npz; its labels are those of the classes, ascending, or their positions if
            two classes of different names have the same label.

    Returns:
        The number of classes.

    Raises:
        InputError: no labels, NaN or Inf, or the file cannot be written.
    """
    if os.path.realpath(path) == os.path.realpath(gallery.path):
        raise InputError(f'--centroids={path}: is the gallery itself; give another name')
    check_output(path, '--centroids')
    sizes = gallery.class_sizes()
    if not sizes:
        raise InputError(f'{gallery.path}: has no labels, which centroids need; write it from a list with labels or a folder '
                         'with one folder per class')
    code_of: Dict[ClassId, int] = {one: code for code, one in enumerate(sizes)}
    sums, labels = np.zeros((len(sizes), gallery.width)), np.zeros(len(sizes), np.int64)
    for images, classes, block in gallery.parts():
        own = _codes(classes, code_of)
        labels[own] = images.labels
        order = np.argsort(own, kind='stable')
        first = np.flatnonzero(np.diff(own[order], prepend=-1))
        sums[own[order][first]] += np.add.reduceat(block[order], first, axis=0, dtype=np.float64)
    means = (sums / np.array(list(sizes.values()))[:, None]).astype(np.float32)
    best, nearest = np.full(len(sizes), -np.inf), np.empty(len(sizes), object)
    for images, classes, block in gallery.parts():
        own = _codes(classes, code_of)
        lengths = np.linalg.norm(block.astype(np.float64), axis=1)
        cosines = np.einsum('nd,nd->n', block, means[own]) / np.where(lengths > 0, lengths, 1)
        # Highest first, of equal ones the first image; then the first of each class.
        order = np.argsort(-cosines, kind='stable')
        codes, places = np.unique(own[order], return_index=True)
        for code, row in zip(codes.tolist(), order[places].tolist()):
            if cosines[row] > best[code]:
                best[code], nearest[code] = cosines[row], images.paths[row]
    if len(set(labels.tolist())) < len(labels):
        labels = np.arange(len(labels))
    order = np.argsort(labels)
    names = {int(labels[code]): str(one) for one, code in code_of.items()} if gallery.card.named else None
    write_embeddings(path, [means[order]], ImageList(nearest[order].tolist(), labels[order]), model=gallery.model,
                     classes=names)
    return len(sizes)


def _codes(classes: Optional[Array], code_of: Dict[ClassId, int]) -> Array:
    """The position of each image's class among the classes."""
    return np.array([code_of[one] for one in ([] if classes is None else classes.tolist())], np.int64)
