"""Galleries: embedding files (src.retrieval.embedding_file) and collections of Milvus (src.retrieval.milvus)."""
from abc import ABC, abstractmethod
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from src.common.arrays import Array
from src.common.errors import InputError
from src.datasets.image_list import ImageList

ClassId = Union[int, str]   # the name of a class if it has one, else its label
SERVERS = ('http://', 'https://')
EMBEDDED = '.db'
WHOLE = 50_000              # images: in a smaller gallery all of them take part in re-ranking


class Neighbours(NamedTuple):
    """The nearest images of N queries.

    rows: (N, k) row numbers within `images`, nearest first; -1 where an index found fewer than k. similarities: (N, k)
    float32 cosines. images: M images that include all neighbours; of an embedding file all its images. classes: (M,) their
    names or labels; None without labels.
    """
    rows: NDArray[np.int64]
    similarities: Array
    images: ImageList
    classes: Optional[Array]


class Gallery(ABC):
    """Images with their embeddings.

    Attributes:
        path: the name that the user gave.
        width: values of an embedding.
        model: identity of the embeddings; None if unknown.
        named: whether its classes have names.
        threshold: values of a KeptThreshold (src.retrieval.thresholds) that the gallery keeps, or None.
    """
    path: str
    width: int
    model: Optional[str]
    named: bool
    threshold: Optional[Dict[str, Any]] = None

    @abstractmethod
    def size(self, where: Optional[str] = None) -> int:
        """The number of images, or of those that match a filter."""

    @abstractmethod
    def class_sizes(self) -> Dict[ClassId, int]:
        """The number of images of each class, classes in ascending order; empty without labels."""

    @abstractmethod
    def search(self, queries: Array, k: int, where: Optional[str] = None) -> Neighbours:
        """The k images most similar to each query (N, D) by cosine, among those that match a filter."""

    @abstractmethod
    def parts(self, where: Optional[str] = None) -> Iterator[Tuple[ImageList, Optional[Array], Array]]:
        """All images in blocks of bounded size, always in the same order: (n images, classes (n,), embeddings (n, D))."""

    @abstractmethod
    def vectors(self, images: ImageList, rows: Array) -> Array:
        """Embeddings (n, D) of some rows (n,), ascending, of the images that `search` returned."""

    def shortlist(self, queries: Array, k: int, where: Optional[str] = None) -> Tuple[ImageList, Optional[Array], Array]:
        """Images among the k nearest of any query, or all of at most WHOLE: (images, classes, embeddings)."""
        size = self.size(where)
        if size > WHOLE:
            found = self.search(queries, min(k, size), where)
            rows = np.unique(found.rows[found.rows >= 0])
            return (found.images.select(rows), None if found.classes is None else found.classes[rows],
                    self.vectors(found.images, rows))
        lists, classes, blocks = zip(*self.parts(where))
        columns = [None if lists[0].labels is None else np.concatenate([images.labels for images in lists]),
                   None if lists[0].cameras is None else np.concatenate([images.cameras for images in lists])]
        return (ImageList([path for images in lists for path in images.paths], *columns),
                None if classes[0] is None else np.concatenate(classes), np.concatenate(blocks))


def classes_of(images: ImageList, names: Optional[Mapping[int, str]]) -> Optional[Array]:
    """The classes of images (N,): their names if there are any, else their labels; None without labels."""
    if images.labels is None or not names:
        return images.labels
    return np.array([names.get(label, str(label)) for label in images.labels.tolist()], object)


def is_engine(where: str) -> bool:
    """Whether the name of a gallery means a collection of Milvus."""
    return where.startswith(SERVERS) or where.partition('#')[0].endswith(EMBEDDED)


def open_gallery(where: str) -> Gallery:
    """Open an embedding file (.npy, .npz) or a collection of Milvus (NAME.db, http://HOST:PORT, optionally #COLLECTION).

    Whoever uses MindSpore and Milvus in one process imports mindspore first: it needs the Python implementation of
    protobuf, which the first import of protobuf chooses.

    Raises:
        InputError: no such gallery, a damaged one, or pymilvus is not installed.
    """
    if is_engine(where):
        # pymilvus is an extra requirement and takes a second to import.
        from src.retrieval.milvus import MilvusGallery
        return MilvusGallery(where)
    from src.retrieval.embedding_file import EmbeddingFile
    return EmbeddingFile(where)


def check_model(gallery: Gallery, model: Optional[str]) -> None:
    """Raise InputError if a gallery says that it holds embeddings of another identity than `model`."""
    if gallery.model and model and gallery.model != model:
        raise InputError(f'{gallery.path}: was written with another network or other preprocessing than the queries '
                         f'({ways(gallery.model, model)}); write both with the same network and flags')


def ways(one: str, other: str) -> str:
    """The options in two embedding identities, for an error."""
    return ' and '.join(identity.partition('+')[2].replace('+', ' ') or 'unknown' for identity in (one, other))
