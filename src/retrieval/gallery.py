"""Galleries: embedding files (src.retrieval.embedding_file) and collections of Milvus (src.retrieval.milvus)."""
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Union

import numpy as np
from numpy.typing import NDArray

from src.common.arrays import Array
from src.common.errors import InputError
from src.common.values import in_milvus
from src.datasets.image_list import ImageList

if TYPE_CHECKING:
    from src.retrieval.milvus import MilvusGallery

ClassId = Union[int, str]   # the name of a class if it has one, else its label
WHOLE = 50_000              # images: in a smaller gallery all of them take part in re-ranking


@dataclass(frozen=True)
class Card:
    """Facts that a gallery stores about itself.

    model: identity of the embeddings (src.retrieval.embedding.embedding_identity), or null. labels: whether images have a
    class. named: whether classes have names. cameras: whether images have cameras. threshold: values of the KeptThreshold
    (src.retrieval.thresholds) kept with the gallery. index: parameters of the search in its index, as chosen when it was
    built. recall: as measured then.
    """
    model: Optional[str]
    labels: bool
    named: bool
    cameras: bool
    threshold: Optional[Dict[str, Any]] = None
    index: Dict[str, int] = field(default_factory=dict)
    recall: Optional[float] = None

    @classmethod
    def of(cls, images: ImageList, model: Optional[str], named: bool) -> 'Card':
        """The card of a gallery of these images."""
        return cls(model, images.labels is not None, named, images.cameras is not None)


class Part(NamedTuple):
    """Some images of a gallery: their classes (n,), names or labels, or None; and their embeddings (n, D)."""
    images: ImageList
    classes: Optional[Array]
    embeddings: Array


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
    """
    path: str
    width: int

    @property
    @abstractmethod
    def card(self) -> Card:
        """Facts that the gallery stores about itself."""

    @property
    def model(self) -> Optional[str]:
        """Identity of the embeddings; None if unknown."""
        return self.card.model

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
    def parts(self, where: Optional[str] = None) -> Iterator[Part]:
        """All images, or those that match a filter, in blocks of bounded size, always in the same order."""

    @abstractmethod
    def vectors(self, images: ImageList, rows: Array) -> Array:
        """Embeddings (n, D) of some rows (n,), ascending, of the images that `search` returned."""

    def shortlist(self, queries: Array, k: int, where: Optional[str] = None) -> Part:
        """Images among the k nearest of any query, or all of at most WHOLE; their labels may be left out."""
        size = self.size(where)
        if size > WHOLE:
            found = self.search(queries, min(k, size), where)
            rows = np.unique(found.rows[found.rows >= 0])
            return Part(found.images.select(rows), None if found.classes is None else found.classes[rows],
                        self.vectors(found.images, rows))
        lists, classes, blocks = zip(*self.parts(where))
        return Part(ImageList([path for images in lists for path in images.paths], None),
                    None if classes[0] is None else np.concatenate(classes), np.concatenate(blocks))


def classes_of(images: ImageList, names: Optional[Mapping[int, str]]) -> Optional[Array]:
    """The classes of images (N,): their names if there are any, else their labels; None without labels."""
    if images.labels is None or not names:
        return images.labels
    return np.array([names.get(label, str(label)) for label in images.labels.tolist()], object)


def in_parts(images: ImageList, names: Optional[Mapping[int, str]], batches: Iterable[Array]) -> Iterator[Part]:
    """Images and batches of their embeddings, in their order. names: {label: name of the class}, or None."""
    classes, start = classes_of(images, names), 0
    for batch in batches:
        rows = slice(start, start + len(batch))
        yield Part(images.select(rows), None if classes is None else classes[rows], batch)
        start += len(batch)


def open_gallery(where: str) -> Gallery:
    """Open an embedding file (.npy, .npz) or a collection of Milvus (NAME.db, http://HOST:PORT, optionally #COLLECTION).

    Raises:
        InputError: no such gallery, a damaged one, or pymilvus is not installed.
    """
    if in_milvus(where):
        return open_collection(where)
    from src.retrieval.embedding_file import EmbeddingFile
    return EmbeddingFile(where)


def open_collection(where: str, new: bool = False) -> 'MilvusGallery':
    """Open a collection of Milvus, a gallery that can be changed; new: whether it may be absent.

    Raises:
        InputError: an embedding file, no such gallery, or pymilvus is not installed.
    """
    if not in_milvus(where):
        raise InputError(f'{where}: is not a gallery of Milvus (NAME.db or http://HOST:PORT), and only those can be changed; '
                         'write a new embedding file, or load this one: infer.py --gallery=FILE --output=NAME.db')
    # pymilvus is an extra requirement and takes a second to import.
    from src.retrieval.milvus import MilvusGallery
    return MilvusGallery(where, new)


def check_model(gallery: Gallery, model: Optional[str]) -> None:
    """Raise InputError if a gallery says that it holds embeddings of another identity than `model`."""
    if gallery.model and model and gallery.model != model:
        raise InputError(f'{gallery.path}: was written with another network or other preprocessing than the queries '
                         f'({ways(gallery.model, model)}); write both with the same network and flags')


def ways(one: str, other: str) -> str:
    """The options in two embedding identities, for an error."""
    return ' and '.join(identity.partition('+')[2].replace('+', ' ') or 'unknown' for identity in (one, other))
