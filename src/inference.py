"""Inference as functions of values, for infer.py: embed images, change and search galleries, name images."""
import os
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterator, List, Optional, Tuple

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
from src.common.values import height_width, in_milvus
from src.datasets.broken import without_broken
from src.datasets.image_list import ImageList
from src.datasets.images import open_images, read_any_list
from src.page import Page, Shown
from src.pictures import named_picture, neighbours_picture
from src.retrieval.embedding import EmbeddingOptions, embed_batches, embedding_identity
from src.retrieval.embedding_file import SUFFIXES, EmbeddingFile, check_output, write_embeddings
from src.retrieval.gallery import (
    Card,
    Gallery,
    Neighbours,
    check_model,
    classes_of,
    in_parts,
    open_collection,
    open_gallery,
)
from src.retrieval.milvus import read_index
from src.retrieval.naming import CLASSES, NamedClasses, best_classes
from src.retrieval.search import TOP_K, centroids_of, check_size, find_neighbours
from src.retrieval.thresholds import KeptThreshold, parse_threshold, read_threshold
from src.systems.trained import RecipeFor, load_trained
from src.training.precision import level_for, mixed_precision

UNKNOWN, KEPT = 'unknown', 'gallery'
PICTURE_ROWS = 20  # queries in a picture; with more it would be too tall


@dataclass(frozen=True)
class Embedder:
    """A network, ready to embed images.

    run: images (batch_size, 3, H, W) float32 array -> array (batch_size, D). subset: of Stanford Online Products.
    model: identity of the embeddings (src.retrieval.embedding.embedding_identity). any_batch: whether smaller batches than
    options.batch_size are as good; then memory is reserved for no more images than there are.
    """
    run: Callable[[Array], Array]
    options: EmbeddingOptions
    subset: str
    model: str
    any_batch: bool = False

    def embed(self, images: ImageList) -> Iterator[Array]:
        """Yield the embeddings of images batch by batch, see embed_batches; prints progress to standard error."""
        size = min(self.options.batch_size, len(images)) if self.any_batch else self.options.batch_size
        return embed_batches(images, self.run, replace(self.options, batch_size=size), True)


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
    options = trained.options  # refuses a network that takes no images
    network = mixed_precision(trained.network, level_for(trained.recipe.amp_level, target)).set_train(False)
    run = Engine(network, engine=engine, target=target)
    return Embedder(run, options, trained.recipe.get('subset', 'full'), trained.identity, target == 'CPU')


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
    return Embedder(exported.run, options, recipe.get('subset', 'full'), embedding_identity(exported.model, options), not batch)


def embed_images(path: str, output: str, embedder: Callable[[], Embedder], *, encoding: str = 'utf-8',
                 skip_broken: float = 0.0) -> Tuple[int, int]:
    """Write the embeddings of images to a new embedding file, or add them to a Milvus gallery; prints their number and rate.

    Args:
        path: images as for open_images.
        output: NAME.npy, NAME.npz, NAME.db or http://HOST:PORT.
        embedder: loads the network; called once the output is known to be writable.
        encoding: of lists.
        skip_broken: largest share of unreadable images to leave out.

    Returns:
        (number of images, width of an embedding).

    Raises:
        InputError: a bad output, an image that is missing or broken, or embeddings of another network in the gallery.
    """
    gallery = open_collection(output, new=True) if in_milvus(output) else None
    if gallery is None:
        check_output(output)
    loaded = embedder()
    listed = open_images(path, 'test', subset=loaded.subset, need_labels=False, encoding=encoding)
    # No result is kept, so damage that only decoding reveals must be found now.
    images = without_broken(listed, skip_broken, whole=skip_broken > 0, keep=False, show_progress=True)
    for why, count in images.left_out.items():
        print(f'{count} {why}: left out')
    began = time.perf_counter()
    if gallery:
        card = Card.of(images, loaded.model, bool(images.names))
        width = gallery.add(in_parts(images, images.names, loaded.embed(images)), card)
    else:
        width = write_embeddings(output, loaded.embed(images), images, model=loaded.model, classes=images.names)
    seconds = time.perf_counter() - began
    print(f'{output}: {len(images)} embeddings of {width} values in {seconds:.1f} s, {len(images) / seconds:.1f} images/s')
    return len(images), width


def load_gallery(gallery: str, output: str) -> int:
    """Load a gallery of either kind into a Milvus gallery, without the network; returns the number of images now in it.

    Raises:
        InputError: a bad gallery, the same one twice, or embeddings of another network in the output.
    """
    if os.path.realpath(output) == os.path.realpath(gallery):
        raise InputError(f'--output={output}: is the same file as --gallery; give another name')
    began, source = time.perf_counter(), open_gallery(gallery)
    loaded = open_collection(output, new=True)
    loaded.add(source.parts(), source.card)
    count = loaded.size()
    print(f'{output}: {count} images now; {gallery} loaded in {time.perf_counter() - began:.1f} s')
    return count


def change_gallery(path: str, *, remove: Optional[str] = None, threshold: Optional[str] = None, index: Optional[str] = None,
                   centroids: Optional[str] = None, listed: bool = False, encoding: str = 'utf-8') -> Iterator[str]:
    """Make changes in the order of the arguments, and yield a line about each. All files are read before the first change.

    Args:
        path: of the gallery, which must be one of Milvus for all changes but centroids and listed.
        remove: list of images to remove. encoding: of this list.
        threshold: file of the threshold to keep with the gallery.
        index: as for read_index.
        centroids: embedding file for the mean embedding of each class.
        listed: whether to yield the classes and their sizes.

    Raises:
        InputError: a bad file, an image that the gallery does not have, or an embedding file that would have to change.
    """
    if centroids:
        check_output(centroids, '--centroids')
    build = read_index(index) if index else None
    removed = read_any_list(remove, encoding).paths if remove else []
    kept = read_threshold(threshold) if threshold else None
    if kept:
        kept.check(str(threshold), open_collection(path).model or '')
    if removed:
        yield f'{path}: {open_collection(path).remove(removed)} images'
    if kept:
        open_collection(path).keep_threshold(as_table(kept))
        yield f'{path}: keeps the threshold {kept.similarity:.4f}'
    if build:
        yield open_collection(path).build_index(*build)
    if centroids:
        yield f'{centroids}: {centroids_of(open_gallery(path), centroids)} classes'
    if listed:
        shown = open_gallery(path)
        sizes = shown.class_sizes()
        yield f'{path}: {shown.size()} images of {len(sizes) or "unknown"} classes, {shown.width} values each'
        yield from (f'{name}\t{count}' for name, count in sizes.items())


def open_rows(path: str, embedder: Callable[[], Embedder], check: Callable[[Optional[str]], None], flag: str = '--query',
              encoding: str = 'utf-8') -> Rows:
    """Read an embedding file, or embed images.

    Args:
        path: an embedding file, or images as for open_images.
        embedder: loads the network; called only for images.
        check: called with the identity of the embeddings before images are embedded; refuses those that cannot be used.
        flag: the flag that gave `path`, for errors.
        encoding: of lists.

    Raises:
        InputError: a bad file, or an image that is missing or broken.
    """
    if in_milvus(path):
        raise InputError(f'{flag}={path}: is a gallery in Milvus; give images or an embedding file')
    if path.endswith(SUFFIXES):
        file = EmbeddingFile(path)
        check(file.model)
        return Rows(file.images, np.concatenate([block for _, block in file.blocks()]), file.model, file.classes)
    loaded = embedder()
    check(loaded.model)
    images = open_images(path, 'test', subset=loaded.subset, flag=flag, need_labels=False, encoding=encoding)
    return Rows(images, np.concatenate(list(loaded.embed(images))), loaded.model, images.names)


@dataclass(frozen=True)
class Search:
    """A search in a gallery.

    top_k: neighbours per query.
    where: filter on the gallery, see Gallery.search.
    rerank: settings of k-reciprocal re-ranking, by which the neighbours are ordered; None: not.
    threshold: the threshold below which a query is `unknown`. threshold_path: its source, for errors.
    """
    gallery: Gallery
    top_k: int = TOP_K
    where: Optional[str] = None
    rerank: Optional[Rerank] = None
    threshold: Optional[KeptThreshold] = None
    threshold_path: str = ''

    @classmethod
    def open(cls, path: str, top_k: Optional[int] = None, where: Optional[str] = None, rerank: Optional[Rerank] = None,
             threshold: Optional[str] = None) -> 'Search':
        """Open a gallery and a threshold for a search.

        Args:
            path: see open_gallery. top_k: see check_size.
            threshold: a file of read_threshold; KEPT: the one that the gallery keeps.

        Raises:
            InputError: a bad gallery or threshold, or fewer than top_k images.
        """
        gallery = open_gallery(path)
        search = cls(gallery, check_size(gallery, top_k, where), where, rerank)
        if threshold == KEPT:
            if not gallery.card.threshold:
                raise InputError(f'--threshold={KEPT}: {path} keeps none; keep one with infer.py --gallery={path} '
                                 '--threshold=FILE')
            return replace(search, threshold=parse_threshold(gallery.card.threshold, path), threshold_path=path)
        return replace(search, threshold=read_threshold(threshold), threshold_path=threshold) if threshold else search

    def check(self, model: Optional[str]) -> None:
        """Raise InputError if queries of identity `model`, None if unknown, do not fit the gallery or the threshold."""
        check_model(self.gallery, model)
        model = model or self.gallery.model
        if self.threshold and model is None:
            raise InputError(f'--threshold={self.threshold_path}: neither the queries nor {self.gallery.path} say which '
                             'network wrote them; write them with infer.py, or give images as --query and a checkpoint')
        if self.threshold:
            self.threshold.check(self.threshold_path, str(model))

    def warnings(self) -> List[str]:
        """Warnings about the threshold."""
        searched = self.threshold.searched if self.threshold else None
        size = self.gallery.size(self.where)
        if searched is None or size <= searched:
            return []
        return [f'{self.threshold_path}: is for galleries of up to {searched} images; among the {size} of {self.gallery.path} '
                'more unknown queries may be answered']


def answer_queries(rows: Rows, search: Search, picture: Optional[str] = None, report: Optional[str] = None
                   ) -> List[Tuple[str, int, str, float]]:
    """Find the images of a gallery that are most similar to each query by cosine.

    A query that is in the gallery finds itself. With a threshold, a query whose nearest image is below it has one answer,
    whose path is `unknown`.

    Args:
        rows: the queries.
        search: the gallery and the settings.
        picture: file to which the first PICTURE_ROWS queries and their neighbours are drawn, framed right or wrong if queries
            and gallery both know their classes by name, or both by number.
        report: page of src.page that is written.

    Returns:
        list of (query path, rank from 1, path, similarity), by query and rank.

    Raises:
        InputError: a bad file, embeddings of another width or identity, or fewer than top_k images in the gallery.
    """
    search.check(rows.model)
    gallery, threshold = search.gallery, search.threshold
    near = find_neighbours(rows.embeddings, gallery, search.top_k, where=search.where, rerank=search.rerank)
    # The nearest image by cosine may not be among the first after re-ranking.
    best = (gallery.search(rows.embeddings, 1, search.where) if search.rerank and threshold else near).similarities.max(1)
    known = best >= (threshold.similarity if threshold else -np.inf)
    # An index may find fewer than there are.
    shown = [row[row >= 0].tolist() if is_known else [] for row, is_known in zip(near.rows, known)]
    if picture:
        _draw(rows, near, shown[:PICTURE_ROWS], picture)
    if report:
        _report(rows, near, known, gallery.path, report)
    answers = []
    for query, numbers, row, is_known, first in zip(rows.images.paths, shown, near.similarities.tolist(), known, best.tolist()):
        found = zip((near.images.paths[i] for i in numbers), row) if is_known else [(UNKNOWN, first)]
        answers += [(query, rank, path, similarity) for rank, (path, similarity) in enumerate(found, 1)]
    return answers


def _classes(rows: Rows, near: Neighbours) -> Tuple[Optional[Array], Optional[Array]]:
    """The classes of queries and neighbours, both names or both labels; None where they cannot be compared."""
    own, theirs = classes_of(rows.images, rows.names), near.classes
    same = own is not None and theirs is not None and (own.dtype == object) == (theirs.dtype == object)
    return (own, theirs) if same else (None, None)


def _draw(rows: Rows, near: Neighbours, shown: List[List[int]], picture: str) -> None:
    """Draw the first queries and the neighbours `shown`, numbers of near.images."""
    (own, theirs), right = _classes(rows, near), None
    if own is not None and theirs is not None:
        right = [(theirs[numbers] == own[row]).tolist() for row, numbers in enumerate(shown)]
    neighbours_picture(rows.images.paths[:len(shown)], [[near.images.paths[i] for i in numbers] for numbers in shown], right,
                       picture, [row[:len(numbers)].tolist() for row, numbers in zip(near.similarities, shown)])


def _report(rows: Rows, near: Neighbours, known: Array, gallery: str, path: str) -> None:
    """Write the page of a search; a query that is not known has no neighbours."""
    own, theirs = _classes(rows, near)
    if own is not None and theirs is not None and own.dtype != object:
        own, theirs = (np.array([f'class {label}' for label in labels.tolist()], object) for labels in (own, theirs))
    page = Page('Search', {'queries': len(known), 'gallery': gallery, 'unknown': int(np.count_nonzero(~known))})
    # A gallery may be larger than memory: the map is of the queries.
    page.add_search(Shown(rows.embeddings, rows.images.paths, own), Shown(None, near.images.paths, theirs),
                    np.where(known[:, None], near.rows, -1), near.similarities)
    page.write(path)


def open_classes(path: Optional[str], more: Optional[str] = None, encoding: str = 'utf-8') -> NamedClasses:
    """Open the classes of a generalised zero-shot training or of its exported network, and add those of a CSV as unseen ones.

    Args:
        path: a checkpoint, the folder of a training, or an exported network.
        more: the CSV (name, numbers). encoding: of the CSV.

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

        def run(rows: Array) -> Array:
            made: Array = trained.network(Tensor(rows)).asnumpy()
            return made
    if model != classes.model:
        raise InputError(f'--classes={path}: the file of classes beside it belongs to another network; run eval.py or '
                         'export.py again')
    return classes.added(more, run, widths[0], batch, encoding) if more else classes


def name_images(rows: Rows, classes: NamedClasses, top_k: int = TOP_K, picture: Optional[str] = None,
                report: Optional[str] = None) -> List[Tuple[str, List[Tuple[str, float, bool]]]]:
    """Find the best classes of each image.

    Args:
        rows: the images and their embeddings.
        classes: from open_classes.
        top_k: classes per image.
        picture: file to which the first PICTURE_ROWS images and their classes are drawn, in green and red if the folders of
            the images have names of classes.
        report: page of src.page that is written.

    Returns:
        list of (path, [(class, calibrated score, whether unseen)], best first).

    Raises:
        InputError: embeddings of another width or identity than the classes were learnt on.
    """
    classes.check_model(rows.model)
    named, paths = best_classes(classes, rows.embeddings, top_k), rows.images.paths
    own = [os.path.basename(os.path.dirname(path)) for path in paths]
    known = set(own) <= set(classes.names)
    if picture:
        right = [name == best[0][0] for name, best in zip(own, named[:PICTURE_ROWS])] if known else None
        named_picture(paths[:PICTURE_ROWS], named[:PICTURE_ROWS], right, picture)
    if report:
        page = Page('Names for pictures', {'images': len(paths), 'classes': len(classes.names),
                                           'unseen classes': int(classes.unseen.sum())})
        page.add_named(Shown(rows.embeddings, paths, np.array(own, object) if known else None), named)
        page.write(report)
    return list(zip(paths, named))
