"""What infer.py does, as functions of values: images to embeddings, neighbours in a file of them, names of pictures."""
import os
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from src.accuracy import Rerank
from src.checkpoints.checkpoint import find_checkpoint
from src.checkpoints.engine import Engine
from src.checkpoints.exported import READABLE as EXPORTED
from src.checkpoints.exported import network_identity, open_exported
from src.checkpoints.weights import SUFFIXES as SUFFIXES_OF_WEIGHTS
from src.common.errors import InputError
from src.common.values import height_width
from src.datasets.image_list import ImageList
from src.datasets.images import open_images, read_any_list
from src.pictures import named_picture, neighbours_picture
from src.retrieval.embedding import EmbeddingOptions, embed_batches, embedding_identity
from src.retrieval.embedding_file import (
    SUFFIXES,
    EmbeddingFile,
    append_embeddings,
    centroids_of,
    remove_embeddings,
    write_embeddings,
)
from src.retrieval.naming import CLASSES, NamedClasses, best_classes
from src.retrieval.search import build_index, check_model, find_neighbours, open_index, unknown
from src.retrieval.thresholds import read_threshold
from src.systems.images import for_device
from src.systems.trained import RecipeFor, Trained, load_trained

UNKNOWN = 'unknown'
PICTURE_ROWS = 20  # queries in a picture: more make it too tall to look at


@dataclass(frozen=True)
class Embedder:
    """A network and how images are given to it.

    run: images (batch_size, 3, H, W) float32 array -> array (batch_size, D). options: how. subset: of Stanford Online
    Products. model: identity of the embeddings (src.retrieval.embedding.embedding_identity), None where it is not known.
    """
    run: Callable[[NDArray[Any]], NDArray[Any]]
    options: EmbeddingOptions
    subset: str
    model: Optional[str] = None

    def embed(self, images: ImageList) -> Iterator[NDArray[np.float32]]:
        """Embeddings of images, batch by batch; progress on standard error. See embed_batches."""
        return embed_batches(images, self.run, self.options, True)


@dataclass(frozen=True)
class Rows:
    """Embeddings in memory: images, embeddings (N, D), the identity of the embeddings and {label: name}, where known."""
    images: ImageList
    embeddings: NDArray[np.float32]
    model: Optional[str]
    names: Optional[Dict[int, str]]


def load_embedder(path: Optional[str], recipe_for: RecipeFor, *, engine: Optional[str] = None, target: str = 'CPU') -> Embedder:
    """The network of a checkpoint or of an exported model, ready to embed.

    Args:
        path: the file, or the folder of a training.
        recipe_for: of load_trained; for an exported model it is given what the card beside it says of the images.
        engine: of Engine. target: the device.

    Raises:
        InputError: no such file, one of another kind, or a network that takes no images.
    """
    path = str(find_checkpoint(path))
    if not os.path.exists(path):
        raise InputError(f'{path}: no such checkpoint or exported model')
    if os.path.isfile(path) and not path.endswith(SUFFIXES_OF_WEIGHTS + EXPORTED):
        raise InputError(f'{path}: neither a checkpoint ({", ".join(SUFFIXES_OF_WEIGHTS)}) nor an exported model '
                         f'({", ".join(EXPORTED)})')
    if path.endswith(EXPORTED):
        return _open_model(path, recipe_for, engine)
    trained = load_trained(path, recipe_for=recipe_for)
    run = Engine(for_device(trained.network, target).set_train(False), engine=engine, target=target)
    return Embedder(run, trained.options, trained.recipe.get('subset', 'full'), trained.identity)


def _open_model(path: str, recipe_for: RecipeFor, engine: Optional[str]) -> Embedder:
    runs = 'onnxruntime' if path.endswith('.onnx') else 'mindspore'
    if engine not in (None, runs):
        raise InputError(f'--engine={engine}: {path} runs with {runs}; leave the flag out')
    exported = open_exported(path)
    batch, *size = exported.image_shape
    # What the card says of the images goes before the defaults; flags go before both.
    recipe = recipe_for(None, '', {**(exported.card.options if exported.card else {}), 'image_size': size})
    if height_width(recipe.image_size) != tuple(size):
        raise InputError(f'--image_size={recipe.image_size}: {path} was exported for {size[0]} x {size[1]} pixels')
    options = EmbeddingOptions.of_recipe(recipe)
    options = replace(options, batch_size=batch or options.batch_size)
    model = exported.model and embedding_identity(exported.model, options)
    return Embedder(exported.run, options, recipe.get('subset', 'full'), model)


def embed_to_file(images: ImageList, embedder: Embedder, output: str, append: bool = False) -> Tuple[int, int]:
    """Write the embedding of every image to a file, or append it to what is there.

    Args:
        images, embedder: what is embedded, and by what. output: .npy or .npz. append: to an existing .npy.

    Returns:
        (width of an embedding, number of images in the file now).

    Raises:
        InputError: a bad file, an image that is missing or broken; nothing is written then.
    """
    names, batches = _names(images), embedder.embed(images)
    if append:
        width = EmbeddingFile(output).width
        return width, append_embeddings(output, batches, images, model=embedder.model, classes=names)
    return write_embeddings(output, batches, images, model=embedder.model, classes=names), len(images)


def change_gallery(gallery: str, remove: Optional[str] = None, centroids: Optional[str] = None) -> int:
    """Take the images of the list `remove` out of a gallery and write its centroids to a file; returns how many images or
    centroids there are.

    Raises:
        InputError: a bad file, an image that the gallery does not have, or one without labels for centroids.
    """
    count = remove_embeddings(gallery, read_any_list(remove).paths) if remove else 0
    return centroids_of(EmbeddingFile(gallery), centroids) if centroids else count


def open_rows(path: str, embedder: Callable[[], Embedder], flag: str = '--query') -> Rows:
    """Embeddings of an embedding file, or of images by a network, which is loaded only then.

    Raises:
        InputError: a bad file, or an image that is missing or broken.
    """
    if path.endswith(SUFFIXES):
        file = EmbeddingFile(path)
        return Rows(file.images, np.concatenate([block for _, block in file.blocks()]), file.model, file.classes)
    loaded = embedder()
    images = open_images(path, 'test', subset=loaded.subset, flag=flag, need_labels=False)
    return Rows(images, np.concatenate(list(loaded.embed(images))), loaded.model, _names(images))


@dataclass(frozen=True)
class Search:
    """How neighbours are found.

    top_k: neighbours of each query. threshold: file of the similarity below which a query is `unknown`. index: whether an
    index shortlists, made where there is none. rerank: whether neighbours are ordered by k-reciprocal re-ranking.
    """
    top_k: int = 10
    threshold: Optional[str] = None
    index: bool = False
    rerank: bool = False

    def check(self, gallery: EmbeddingFile) -> None:
        """Raise InputError where the gallery is too small for it."""
        if self.top_k > gallery.count:
            raise InputError(f'--top_k={self.top_k}: {gallery.path} holds {gallery.count} images')


def answer_queries(rows: Rows, gallery: EmbeddingFile, how: Search, picture: Optional[str] = None
                   ) -> Tuple[List[Tuple[str, int, str, float]], List[str]]:
    """The images of a gallery most similar to each query, by cosine.

    A query that is in the gallery finds itself. With a threshold a query whose nearest image is below it has one line,
    whose path is `unknown`.

    Args:
        rows: the queries. gallery: an open file. how: see Search.
        picture: where the first PICTURE_ROWS queries and their neighbours are drawn, framed right or wrong where both know
            their classes, by name or both by number.

    Returns:
        list of (query path, rank from 1, path, similarity), by query and rank; and warnings, a line each.

    Raises:
        InputError: a bad file, embeddings of another width, or more neighbours asked for than there are.
    """
    how.check(gallery)
    check_model(gallery, rows.model)
    threshold, warnings = _similarity(how.threshold, rows.model or gallery.model, gallery) if how.threshold else (-np.inf, [])
    index = (open_index(gallery) or build_index(gallery)) if how.index else None
    indices, similarities = find_neighbours(rows.embeddings, gallery, how.top_k, index=index,
                                            rerank=Rerank() if how.rerank else None)
    # The nearest image may not be among the first of the re-ranked ones.
    nearest = (find_neighbours(rows.embeddings, gallery, 1, index=index)[1] if how.rerank and how.threshold else similarities)
    known = ~unknown(nearest, threshold)
    near = [[gallery.images.paths[i] for i in row] for row in indices.tolist()]
    if picture:
        _draw(rows, gallery, indices, similarities, known, picture)
    answers = []
    for query, paths, row, is_known, best in zip(rows.images.paths, near, similarities.tolist(), known.tolist(),
                                                 nearest.max(1).tolist()):
        found = zip(paths, row) if is_known else [(UNKNOWN, best)]
        answers += [(query, rank, path, similarity) for rank, (path, similarity) in enumerate(found, 1)]
    return answers, warnings


def _draw(rows: Rows, gallery: EmbeddingFile, indices: NDArray[Any], similarities: NDArray[Any], known: NDArray[Any],
          picture: str) -> None:
    """The first queries and their neighbours; an unknown query has none."""
    own, theirs = _classes(rows.images.labels, rows.names), _classes(gallery.images.labels, gallery.classes)
    labelled = own is not None and theirs is not None and bool(rows.names) == bool(gallery.classes)
    drawn = range(min(PICTURE_ROWS, len(indices)))
    shown = [indices.shape[1] * known[row] for row in drawn]
    right = [(theirs[indices[row]] == own[row]).tolist()[:shown[row]] for row in drawn] if labelled else None
    neighbours_picture([rows.images.paths[row] for row in drawn],
                       [[gallery.images.paths[i] for i in indices[row][:shown[row]].tolist()] for row in drawn], right,
                       picture, [similarities[row, :shown[row]].tolist() for row in drawn])


def _names(images: ImageList) -> Optional[Dict[int, str]]:
    """{label: name}, None where the classes have no names."""
    return None if images.class_names is None else dict(enumerate(images.class_names))


def _classes(labels: Optional[NDArray[Any]], names: Optional[Dict[int, str]]) -> Any:
    """What the images show: (N,) names where there are any, else labels; None without labels."""
    if labels is None or not names:
        return labels
    return np.array([names.get(label, label) for label in labels.tolist()], object)


def _similarity(path: str, model: Optional[str], gallery: EmbeddingFile) -> Tuple[float, List[str]]:
    """The similarity of a threshold's file, which must be of the network `model`, and warnings."""
    if model is None:
        raise InputError(f'--threshold={path}: neither the queries nor {gallery.path} say which network wrote them; write '
                         'them as .npy, or give images as --query and a checkpoint')
    threshold = read_threshold(path, model)
    if threshold.searched is None or gallery.count <= threshold.searched:
        return threshold.similarity, []
    return threshold.similarity, [f'{path}: is for galleries of up to {threshold.searched} images; among the {gallery.count} '
                                  f'of {gallery.path} more of the unknown may be answered']


def open_classes(path: Optional[str], more: Optional[str] = None) -> NamedClasses:
    """The classes of a training of GBU or of its exported network, with those of a CSV as further unseen ones.

    Args:
        path: a checkpoint, the folder of a training, or an exported network. more: the CSV (name, numbers).

    Raises:
        InputError: no such files, files that do not belong together, or see NamedClasses.added.
    """
    path = str(find_checkpoint(path))
    if not os.path.isfile(path):
        raise InputError(f'--classes={path}: no such checkpoint, folder of a training or exported network')
    exported = path.endswith(EXPORTED)
    classes = NamedClasses.load(f'{path}.{CLASSES}' if exported else os.path.join(os.path.dirname(path), CLASSES))
    if not more and not exported:
        return classes
    if exported:
        network = open_exported(path)
        run, (batch, *widths), model = network.run, network.shapes[0], network.model
    else:
        trained = load_trained(path)
        batch, widths, model = 0, list(trained.network.input_widths), network_identity(trained.network)
        run = _caller(trained)
    if model != classes.model:
        raise InputError(f'--classes={path}: the file of classes beside it is of another network; run eval.py or export.py '
                         'again')
    return classes.added(more, run, widths[0], batch) if more else classes


def _caller(trained: Trained) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def run(rows: NDArray[Any]) -> NDArray[Any]:
        made: NDArray[Any] = trained.network(Tensor(rows)).asnumpy()
        return made
    return run


def name_images(rows: Rows, classes: NamedClasses, top_k: int, picture: Optional[str] = None
                ) -> List[Tuple[str, List[Tuple[str, float, bool]]]]:
    """The best classes for each image.

    Args:
        rows: the images and their embeddings. classes: of open_classes. top_k: classes of each image.
        picture: where the first PICTURE_ROWS images are drawn beside their names, green and red where the image's folder is
            named as a class.

    Returns:
        list of (path, [(class, calibrated score, whether unseen), the best first]).

    Raises:
        InputError: embeddings of another width than the classes were learnt on.
    """
    named, paths = best_classes(classes, rows.embeddings, top_k), rows.images.paths
    if picture:
        own = [os.path.basename(os.path.dirname(path)) for path in paths[:PICTURE_ROWS]]
        right = [name == best[0][0] for name, best in zip(own, named)] if set(own) <= set(classes.names) else None
        named_picture(paths[:PICTURE_ROWS], named[:PICTURE_ROWS], right, picture)
    return list(zip(paths, named))
