"""What can be searched: embedding files (src.retrieval.embedding_file) and collections of Milvus (src.retrieval.milvus)."""
from abc import ABC, abstractmethod
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError
from src.datasets.image_list import ImageList

Array = NDArray[Any]
ClassId = Union[int, str]   # a class's name, where it has one, else its label
SERVERS = ('http://', 'https://')
EMBEDDED = '.db'


class Neighbours(NamedTuple):
    """The nearest images of N queries.

    images: M images that hold all neighbours. classes: (M,) their names or labels; None without labels. rows: (N, k) int64
    row numbers within `images`, nearest first; -1 where an index found fewer than k. similarities: (N, k) float32 cosines.
    """
    images: ImageList
    classes: Optional[Array]
    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


class Gallery(ABC):
    """Images with their embeddings.

    Attributes: path: how the user names it. width: values of an embedding. model: identity of the embeddings, None if not
    known. named: whether its classes have names.
    """
    path: str
    width: int
    model: Optional[str]
    named: bool

    @abstractmethod
    def size(self, where: Optional[str] = None) -> int:
        """Number of images, or of those that match a filter."""

    @abstractmethod
    def search(self, queries: Array, k: int, where: Optional[str] = None) -> Neighbours:
        """The k images nearest to each query (N, D) by cosine, of those that match a filter."""

    @abstractmethod
    def shortlist(self, queries: Array, k: int, where: Optional[str] = None) -> Tuple[ImageList, Optional[Array], Array]:
        """Images among the k nearest of at least one query: (M images, their classes (M,), embeddings (M, D) float32)."""

    @abstractmethod
    def blocks(self) -> Iterator[Tuple[ImageList, Array]]:
        """All images in blocks of bounded size, always in the same order: (n images, embeddings (n, D) float32)."""

    def class_sizes(self) -> Dict[ClassId, int]:
        """Number of images of each class, in the order of the classes; empty without labels."""
        sizes: Dict[ClassId, int] = {}
        for classes in self._class_blocks():
            for one, count in zip(*np.unique(classes, return_counts=True)):
                sizes[one] = sizes.get(one, 0) + int(count)
        return dict(sorted(sizes.items()))

    @abstractmethod
    def _class_blocks(self) -> Iterable[Array]:
        """The classes of all images, in blocks."""

    def check(self, top_k: int, where: Optional[str] = None) -> None:
        """Raise InputError if there are fewer than top_k images."""
        size = self.size(where)
        if top_k > size:
            raise InputError(f'--top_k={top_k}: {self.path} holds {size} images' + (f' where {where}' if where else ''))


def classes_of(images: ImageList, names: Optional[Mapping[int, str]]) -> Optional[Array]:
    """The class of each image: its name where there are names, else its label; None without labels."""
    if images.labels is None or not names:
        return images.labels
    return np.array([names.get(label, str(label)) for label in images.labels.tolist()], object)


def is_engine(where: str) -> bool:
    """Whether a gallery's name means a collection of Milvus: NAME.db or http://HOST:PORT, each with an optional
    #COLLECTION."""
    return where.startswith(SERVERS) or where.partition('#')[0].endswith(EMBEDDED)


def open_gallery(where: str) -> Gallery:
    """Open an embedding file (.npy, .npz) or a collection of Milvus (NAME.db, http://HOST:PORT, optional #COLLECTION).

    Raises:
        InputError: no such gallery, a damaged one, or pymilvus is not installed.
    """
    if is_engine(where):
        # pymilvus is an extra requirement and takes a second to import.
        from src.retrieval.milvus import MilvusGallery
        return MilvusGallery(where)
    from src.retrieval.embedding_file import EmbeddingFile
    return EmbeddingFile(where)
