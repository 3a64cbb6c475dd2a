"""Inference as functions of values, for infer.py: embed images, change and search galleries, name images."""
import os
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
from mindspore import Tensor

from src.accuracy import Rerank
from src.checkpoints.checkpoint import find_checkpoint
from src.checkpoints.engine import Engine
from src.checkpoints.exported import READABLE as EXPORTED
from src.checkpoints.exported import network_identity, open_exported
from src.checkpoints.weights import SUFFIXES as SUFFIXES_OF_WEIGHTS
from src.common.arrays import Array
from src.common.errors import InputError
from src.common.records import as_table
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
from src.retrieval.search import build_index, check_model, find_neighbours, open_index
from src.retrieval.thresholds import read_threshold
from src.systems.trained import RecipeFor, Trained, load_trained
from src.training.precision import level_for, mixed_precision

UNKNOWN = 'unknown'
PICTURE_ROWS = 20  # queries in a picture; with more it would be too tall


@dataclass(frozen=True)
class Embedder:
    """A network, ready to embed images.

    run: images (batch_size, 3, H, W) float32 array -> array (batch_size, D). subset: of Stanford Online Products.
    model: identity of the embeddings (src.retrieval.embedding.embedding_identity).
    """
    run: Callable[[Array], Array]
    options: EmbeddingOptions
    subset: str
    model: str

    def embed(self, images: ImageList) -> Iterator[Array]:
        """Yield the embeddings of images batch by batch, see embed_batches; prints progress to standard error."""
        return embed_batches(images, self.run, self.options, True)


@dataclass(frozen=True)
class Rows:
    """Embeddings in memory: images, embeddings (N, D) float32; their identity and {label: name}, or None."""
    images: ImageList
    embeddings: Array
    model: Optional[str]
    names: Optional[Dict[int, str]]


def load_embedder(path: Optional[str], recipe_for: RecipeFor, *, engine: Optional[str] = None, target: str = 'CPU') -> Embedder:
    """Load the network of a checkpoint or an exported model.

    Args:
        path: the file, or the folder of a training.
        recipe_for: see load_trained; for an exported model it gets the preprocessing of the model's card.
        engine: see Engine. target: the device.

    Raises:
        InputError: no such file, a file of another kind, or a network that does not take images.
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
    network = mixed_precision(trained.network, level_for(trained.recipe.amp_level, target)).set_train(False)
    run = Engine(network, engine=engine, target=target)
    return Embedder(run, trained.options, trained.recipe.get('subset', 'full'), trained.identity)


def _open_model(path: str, recipe_for: RecipeFor, engine: Optional[str]) -> Embedder:
    runs = 'onnxruntime' if path.endswith('.onnx') else 'mindspore'
    if engine not in (None, runs):
        raise InputError(f'--engine={engine}: {path} runs with {runs}; leave the flag out')
    exported = open_exported(path)
    batch, *size = exported.image_shape
    # The card takes precedence over the defaults, flags over both.
    card = as_table(exported.card) if exported.card else {}
    statistics = {name: card[name] for name in ('mean', 'deviation') if name in card}
    told = {name: card[name] for name in EmbeddingOptions.__dataclass_fields__ if name in card and name not in statistics}
    recipe = recipe_for(None, '', {**told, 'image_size': size})
    if height_width(recipe.image_size) != tuple(size):
        raise InputError(f'--image_size={recipe.image_size}: {path} was exported for {size[0]} x {size[1]} pixels')
    options = EmbeddingOptions.of_recipe(recipe)
    options = replace(options, batch_size=batch or options.batch_size, **statistics)
    return Embedder(exported.run, options, recipe.get('subset', 'full'), embedding_identity(exported.model, options))


def embed_to_file(images: ImageList, embedder: Embedder, output: str, append: bool = False) -> Tuple[int, int]:
    """Write the embeddings of images to a new file, or append them to an existing .npy.

    Args:
        images, embedder: the images, and the network that embeds them.
        output: .npy or .npz.
        append: whether to append.

    Returns:
        (width of an embedding, number of images now in the file).

    Raises:
        InputError: a bad file, or an image that is missing or broken; nothing is written then.
    """
    names, batches = _names(images), embedder.embed(images)
    if append:
        width = EmbeddingFile(output).width
        return width, append_embeddings(output, batches, images, model=embedder.model, classes=names)
    return write_embeddings(output, batches, images, model=embedder.model, classes=names), len(images)


def change_gallery(gallery: str, remove: Optional[str] = None, centroids: Optional[str] = None) -> int:
    """Remove the images in the list `remove` from a gallery, then write its class centroids to the file `centroids`.

    Returns the number of centroids, or of the images left if none are written.

    Raises:
        InputError: a bad file, an image that the gallery does not have, or centroids of a gallery without labels.
    """
    count = remove_embeddings(gallery, read_any_list(remove).paths) if remove else 0
    return centroids_of(EmbeddingFile(gallery), centroids) if centroids else count


def open_rows(path: str, embedder: Callable[[], Embedder], flag: str = '--query') -> Rows:
    """Read an embedding file, or embed images.

    Args:
        path: an embedding file, or images as for open_images.
        embedder: loads the network; called only for images.
        flag: the flag that gave `path`, for errors.

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
    """Settings of a search.

    top_k: neighbours per query.
    threshold: file with the similarity below which a query is `unknown`.
    index: whether to search by an index, which is built if the gallery has none.
    rerank: whether neighbours are ordered by k-reciprocal re-ranking.
    """
    top_k: int = 10
    threshold: Optional[str] = None
    index: bool = False
    rerank: bool = False

    def check(self, gallery: EmbeddingFile) -> None:
        """Raise InputError if the gallery has fewer than top_k images."""
        if self.top_k > gallery.count:
            raise InputError(f'--top_k={self.top_k}: {gallery.path} holds {gallery.count} images')


def answer_queries(rows: Rows, gallery: EmbeddingFile, how: Search, picture: Optional[str] = None
                   ) -> Tuple[List[Tuple[str, int, str, float]], List[str]]:
    """Find the images of a gallery that are most similar to each query by cosine.

    A query that is in the gallery finds itself. With a threshold, a query whose nearest image is below it has one answer,
    whose path is `unknown`.

    Args:
        rows: the queries.
        gallery: an open embedding file.
        how: settings of the search.
        picture: file to which the first PICTURE_ROWS queries and their neighbours are drawn, framed right or wrong if queries
            and gallery both know their classes by name, or both by number.

    Returns:
        list of (query path, rank from 1, path, similarity), by query and rank; and a list of warnings, one line each.

    Raises:
        InputError: a bad file, embeddings of another width or identity, or fewer than top_k images in the gallery.
    """
    check_model(gallery, rows.model)
    threshold, warnings = _similarity(how.threshold, rows.model or gallery.model, gallery) if how.threshold else (-np.inf, [])
    index = (open_index(gallery) or build_index(gallery)) if how.index else None
    indices, similarities = find_neighbours(rows.embeddings, gallery, how.top_k, index=index,
                                            rerank=Rerank() if how.rerank else None)
    # The nearest image by cosine may not be among the first after re-ranking.
    nearest = (find_neighbours(rows.embeddings, gallery, 1, index=index)[1] if how.rerank and how.threshold else similarities)
    known = nearest.max(1) >= threshold
    near = [[gallery.images.paths[i] for i in row] for row in indices.tolist()]
    if picture:
        _draw(rows, gallery, indices, similarities, known, picture)
    answers = []
    for query, paths, row, is_known, best in zip(rows.images.paths, near, similarities.tolist(), known.tolist(),
                                                 nearest.max(1).tolist()):
        found = zip(paths, row) if is_known else [(UNKNOWN, best)]
        answers += [(query, rank, path, similarity) for rank, (path, similarity) in enumerate(found, 1)]
    return answers, warnings


def _draw(rows: Rows, gallery: EmbeddingFile, indices: Array, similarities: Array, known: Array,
          picture: str) -> None:
    """Draw the first queries and their neighbours; an unknown query has none."""
    own, theirs = _classes(rows.images.labels, rows.names), _classes(gallery.images.labels, gallery.classes)
    labelled = own is not None and theirs is not None and bool(rows.names) == bool(gallery.classes)
    drawn = range(min(PICTURE_ROWS, len(indices)))
    shown = [indices.shape[1] * known[row] for row in drawn]
    right = [(theirs[indices[row]] == own[row]).tolist()[:shown[row]] for row in drawn] if labelled else None
    neighbours_picture([rows.images.paths[row] for row in drawn],
                       [[gallery.images.paths[i] for i in indices[row][:shown[row]].tolist()] for row in drawn], right,
                       picture, [similarities[row, :shown[row]].tolist() for row in drawn])


def _names(images: ImageList) -> Optional[Dict[int, str]]:
    """{label: name}; None if the classes have no names."""
    return None if images.class_names is None else dict(enumerate(images.class_names))


def _classes(labels: Optional[Array], names: Optional[Dict[int, str]]) -> Any:
    """The classes of images (N,): their names if there are any, else their labels; None without labels."""
    if labels is None or not names:
        return labels
    return np.array([names.get(label, label) for label in labels.tolist()], object)


def _similarity(path: str, model: Optional[str], gallery: EmbeddingFile) -> Tuple[float, List[str]]:
    """The similarity in a threshold file, which must be for embeddings of identity `model`, and warnings."""
    if model is None:
        raise InputError(f'--threshold={path}: neither the queries nor {gallery.path} say which network wrote them; write '
                         'them as .npy, or give images as --query and a checkpoint')
    threshold = read_threshold(path, model)
    if threshold.searched is None or gallery.count <= threshold.searched:
        return threshold.similarity, []
    return threshold.similarity, [f'{path}: is for galleries of up to {threshold.searched} images; among the {gallery.count} '
                                  f'of {gallery.path} more unknown queries may be answered']


def open_classes(path: Optional[str], more: Optional[str] = None) -> NamedClasses:
    """Open the classes of a generalised zero-shot training or of its exported network, and add those of a CSV as unseen ones.

    Args:
        path: a checkpoint, the folder of a training, or an exported network.
        more: the CSV (name, numbers).

    Raises:
        InputError: no such files, files that do not belong together, or a CSV that NamedClasses.added refuses.
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
        raise InputError(f'--classes={path}: the file of classes beside it belongs to another network; run eval.py or '
                         'export.py again')
    return classes.added(more, run, widths[0], batch) if more else classes


def _caller(trained: Trained) -> Callable[[Array], Array]:
    def run(rows: Array) -> Array:
        made: Array = trained.network(Tensor(rows)).asnumpy()
        return made
    return run


def name_images(rows: Rows, classes: NamedClasses, top_k: int, picture: Optional[str] = None
                ) -> List[Tuple[str, List[Tuple[str, float, bool]]]]:
    """Find the best classes of each image.

    Args:
        rows: the images and their embeddings.
        classes: from open_classes.
        top_k: classes per image.
        picture: file to which the first PICTURE_ROWS images and their classes are drawn, in green and red if the folders of
            the images have names of classes.

    Returns:
        list of (path, [(class, calibrated score, whether unseen)], best first).

    Raises:
        InputError: embeddings of another width than the classes were learnt on.
    """
    named, paths = best_classes(classes, rows.embeddings, top_k), rows.images.paths
    if picture:
        own = [os.path.basename(os.path.dirname(path)) for path in paths[:PICTURE_ROWS]]
        right = [name == best[0][0] for name, best in zip(own, named)] if set(own) <= set(classes.names) else None
        named_picture(paths[:PICTURE_ROWS], named[:PICTURE_ROWS], right, picture)
    return list(zip(paths, named))
