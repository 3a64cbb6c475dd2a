"""Embeddings of images from a checkpoint or an exported model, and the nearest neighbours in a file of them."""
import os
import sys
from contextlib import redirect_stdout
from typing import Callable, NamedTuple, Optional

import numpy as np
from mindspore import Tensor

from src.accuracy import Rerank
from src.checkpoints.checkpoint import find_checkpoint
from src.checkpoints.engine import Engine
from src.checkpoints.exported import READABLE as EXPORTED
from src.checkpoints.exported import Card, network_identity, open_exported
from src.checkpoints.records import as_table
from src.checkpoints.weights import SUFFIXES as SUFFIXES_OF_WEIGHTS
from src.common.device import set_up
from src.common.errors import InputError
from src.datasets.images import open_images, read_any_list
from src.pictures import check_picture, named_picture, neighbours_picture
from src.recipes.config import Change
from src.recipes.set_parser import Command, make_recipe
from src.retrieval.embedding import embed_batches
from src.retrieval.embedding_file import (
    SUFFIXES,
    EmbeddingFile,
    append_embeddings,
    centroids_of,
    check_output,
    embedding_identity,
    remove_embeddings,
    write_embeddings,
)
from src.retrieval.naming import CLASSES, NamedClasses, best_classes
from src.retrieval.search import build_index, check_model, open_index, open_threshold, search, unknown
from src.systems.images import EMBEDDING, embedding_options, for_device
from src.systems.trained import load_trained, no_images

UNKNOWN = 'unknown'
PICTURE_ROWS = 20  # queries in a picture: more make it too tall to look at


class Embedder(NamedTuple):
    """A network and how images are given to it.

    run: images (batch_size, 3, H, W) float32 array -> array (batch_size, D). options: of embed_batches. subset: of
    Stanford Online Products. model: embedding_identity, None where it is not
    known.
    """
    run: Callable
    batch_size: int
    options: dict
    subset: str
    model: Optional[str] = None

    def embed(self, images):
        """Embeddings of an ImageList, batch by batch; progress on standard error. See embed_batches."""
        return embed_batches(self.run, images, self.batch_size, True, **self.options)


def load_embedder(command: Command) -> Embedder:
    """The network of --save_ckpt, a checkpoint or an exported model, ready to embed.

    Raises:
        InputError: no such file, one of another kind, or a network that takes no images.
    """
    options = command.options
    path = str(find_checkpoint(options.save_ckpt))
    if not os.path.exists(path):
        raise InputError(f'{path}: no such checkpoint or exported model')
    if os.path.isfile(path) and not path.endswith(SUFFIXES_OF_WEIGHTS + EXPORTED):
        raise InputError(f'{path}: neither a checkpoint ({", ".join(SUFFIXES_OF_WEIGHTS)}) nor an exported model '
                         f'({", ".join(EXPORTED)})')
    process = set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
    if path.endswith(EXPORTED):
        runs = 'onnxruntime' if path.endswith('.onnx') else 'mindspore'
        if options.engine not in (None, runs):
            raise InputError(f'--engine={options.engine}: {path} runs with {runs}; leave the flag out')
        exported = open_exported(path)
        # What the file beside it says of the images goes before the defaults; flags go before both.
        told = [Change('', {name: value}) for name, value in as_table(exported.card or Card()).items()
                if name in EMBEDDING]
        recipe = make_recipe(command._replace(changes=told + command.changes))[0]
        no_images(recipe, path)
        run, (batch, *fixed) = exported.run, exported.image_shape
        asked = recipe.image_size if any('image_size' in change.flag for change in command.changes) else fixed
        if ([asked] * 2 if isinstance(asked, int) else list(asked)) != fixed:
            raise InputError(f'--image_size={asked}: {path} was exported for {fixed[0]} x {fixed[1]} pixels')
        batch_size, size = batch or recipe.test_batch_size, tuple(fixed)
        network = exported.model
    else:
        trained = load_trained(command)
        recipe = trained.recipe
        no_images(recipe, path)
        batch_size, size = recipe.test_batch_size, recipe.image_size
        network = network_identity(trained.network)
        run = Engine(for_device(trained.network, process.target).set_train(False), engine=options.engine,
                     target=process.target)
    taken = {**embedding_options(recipe), 'image_size': size}
    return Embedder(run, batch_size, taken, recipe.get('subset', 'full'), network and embedding_identity(network, taken))


def _load_aside(command):
    """load_embedder, where what is said of the device and the weights must not be among the answers, which a program may
    be reading."""
    with redirect_stdout(sys.stderr):
        return load_embedder(command)


# What infer.py does, by the flags that say so, and for what each of the other flags is; else it would be without effect.
NAME, CHANGE, SEARCH, EMBED = 'name', 'change', 'search', 'embed'
_A_SEARCH = ((SEARCH,), 'is for a search; give --query and --gallery')
_A_FILE = ((CHANGE,), 'is for an embedding file; give --gallery, without --query')
_ANSWERS = ((SEARCH, NAME), 'is for a search or for --classes; give --query and --gallery, or --classes')
FLAGS_FOR = {
    'threshold': _A_SEARCH, 'index': _A_SEARCH, 'rerank': _A_SEARCH, 'remove': _A_FILE, 'centroids': _A_FILE,
    'top_k': _ANSWERS, 'picture': _ANSWERS,
    'gallery': ((SEARCH, CHANGE), 'is not for --classes; leave one of them out'),
    'query': ((SEARCH, NAME), 'is for a search or for --classes; leave --remove and --centroids out'),
    'append': ((EMBED,), 'adds images to --output; leave --query and --gallery out'),
    'output': ((EMBED,), 'is for the embeddings of --dataset_path; leave the flags of searching, naming and changing out'),
    'dataset_path': ((EMBED, NAME), 'is for images to embed or to name; those of a search are --query'),
    'add_classes': ((NAME,), 'is for --classes'),
}


def check_flags(command: Command) -> None:
    """Raise InputError where flags of infer.py do not go together."""
    options = command.options
    mode = (NAME if options.classes else CHANGE if options.remove or options.centroids
            else SEARCH if options.query or options.gallery else EMBED)
    for name, (modes, advice) in FLAGS_FOR.items():
        if name in command.given and mode not in modes:
            raise InputError(f'--{name}: {advice}')
    if mode == CHANGE and not options.gallery:
        raise InputError(f'--{"remove" if options.remove else "centroids"}: {_A_FILE[1]}')
    if mode == NAME and options.query and 'dataset_path' in command.given:
        raise InputError('--query, --dataset_path: both name images for --classes; leave one of them out')


def embed_to_file(command: Command):
    """Write the embedding of every image of --dataset_path to --output, or append it to what is there.

    Returns:
        (number of images embedded, width of an embedding, number of images in the file now).

    Raises:
        InputError: a bad flag or file, an image that is missing or broken; nothing is written then.
    """
    options = command.options
    check_output(options.output)
    if options.append:
        gallery = EmbeddingFile(options.output)
    embedder = load_embedder(command)
    images = open_images(options.dataset_path, 'test', subset=embedder.subset, need_labels=False)
    classes, batches, model = _names(images), embedder.embed(images), embedder.model
    if options.append:
        total = append_embeddings(options.output, batches, images, model=model, classes=classes)
        return len(images), gallery.width, total
    return len(images), write_embeddings(options.output, batches, images, model=model, classes=classes), len(images)


def change_gallery(command: Command) -> int:
    """Take the images of --remove out of --gallery and write its --centroids; returns the images or centroids there are.

    Raises:
        InputError: a bad file, an image that the gallery does not have, or one without labels for centroids.
    """
    options = command.options
    if options.centroids:
        check_output(options.centroids, '--centroids')
    if options.remove:
        count = remove_embeddings(options.gallery, read_any_list(options.remove).paths)
    if options.centroids:
        count = centroids_of(EmbeddingFile(options.gallery), options.centroids)
    return count


def find_neighbours(command: Command):
    """The --top_k images of the embedding file --gallery most similar to each image of --query, by cosine.

    A query that is in the gallery finds itself. With --threshold a query whose nearest image is below it has one line,
    whose path is `unknown`; in a gallery larger than the threshold was found for more queries are answered than should
    be, which is told on standard error. With --index=ivf the index is made where there is none. With --picture the first
    PICTURE_ROWS queries and their neighbours are drawn, framed right or wrong where both know their classes, by name or both
    by number. --query is an embedding file, or images for the network of --save_ckpt.

    Returns:
        list of (query path, rank from 1, path, similarity), by query and rank.

    Raises:
        InputError: a bad flag or file, embeddings of another width, or more neighbours asked for than there are.
    """
    options = command.options
    if not options.query or not options.gallery:
        raise InputError('--query and --gallery: give both or neither')
    check_picture(options.picture)
    gallery = EmbeddingFile(options.gallery)
    if options.top_k > gallery.count:
        raise InputError(f'--top_k={options.top_k}: {gallery.path} holds {gallery.count} images')
    if options.query.endswith(SUFFIXES):
        query = EmbeddingFile(options.query)
        images, queries, model = query.images, np.concatenate([block for _, block in query.blocks()]), query.model
        names = query.classes
    else:
        embedder = _load_aside(command)
        images = open_images(options.query, 'test', subset=embedder.subset, flag='--query', need_labels=False)
        queries, model = np.concatenate(list(embedder.embed(images))), embedder.model
        names = _names(images)
    check_model(gallery, model)
    threshold = _threshold(options.threshold, model or gallery.model, gallery) if options.threshold else -np.inf
    index = (open_index(gallery) or build_index(gallery)) if options.index == 'ivf' else None
    indices, similarities = search(queries, gallery, options.top_k, index=index, rerank=Rerank() if options.rerank else None)
    # The nearest image may not be among the first of the re-ranked ones.
    nearest = search(queries, gallery, 1, index=index)[1] if options.rerank and options.threshold else similarities
    known = ~unknown(nearest, threshold)
    near = [[gallery.images.paths[i] for i in row] for row in indices.tolist()]
    if options.picture:
        own, theirs = _classes(images.labels, names), _classes(gallery.images.labels, gallery.classes)
        labelled = own is not None and theirs is not None and bool(names) == bool(gallery.classes)
        drawn = range(min(PICTURE_ROWS, len(near)))
        # An unknown query has no neighbours in the picture either.
        shown = [options.top_k * known[row] for row in drawn]
        right = [(theirs[indices[row]] == own[row]).tolist()[:shown[row]]
                 for row in drawn] if labelled else None
        neighbours_picture([images.paths[row] for row in drawn], [near[row][:shown[row]] for row in drawn], right,
                           options.picture, [similarities[row, :shown[row]].tolist() for row in drawn])
    answers = []
    for query, paths, row, is_known, best in zip(images.paths, near, similarities.tolist(), known.tolist(),
                                                 nearest.max(1).tolist()):
        found = zip(paths, row) if is_known else [(UNKNOWN, best)]
        answers += [(query, rank, path, similarity) for rank, (path, similarity) in enumerate(found, 1)]
    return answers


def _names(images):
    """{label: name} of an ImageList, None where its classes have none."""
    return None if images.class_names is None else dict(enumerate(images.class_names))


def _classes(labels, names):
    """What the images show: (N,) names where there are any, else labels; None without labels."""
    if labels is None or not names:
        return labels
    return np.array([names.get(label, label) for label in labels.tolist()], object)


def _threshold(path, model, gallery):
    """The similarity in a file, which must be of the network `model`."""
    if model is None:
        raise InputError(f'--threshold={path}: neither the queries nor {gallery.path} say which network wrote them; write '
                         'them as .npy, or give images as --query and a checkpoint')
    values = open_threshold(path, model=model)
    if gallery.count > values.get('searched', gallery.count):
        print(f'{path}: is for galleries of up to {values["searched"]} images; among the {gallery.count} of {gallery.path} '
              'more of the unknown may be answered', file=sys.stderr)
    return values['similarity']


def open_classes(command: Command) -> NamedClasses:
    """The classes of --classes, with those of --add_classes.

    Raises:
        InputError: no such files, files that do not belong together, or see NamedClasses.added.
    """
    path, more = str(find_checkpoint(command.options.classes)), command.options.add_classes
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
        trained = load_trained(command._replace(options=type(command.options)(
            {**command.options, 'save_ckpt': path, 'dataset': None, 'train_mode': None}), changes=[]))
        batch, widths, model = 0, trained.network.input_widths, network_identity(trained.network)

        def run(rows):
            return trained.network(Tensor(rows)).asnumpy()
    if model != classes.model:
        raise InputError(f'--classes={path}: the file of classes beside it is of another network; run eval.py or export.py '
                         'again')
    return classes.added(more, run, widths[0], batch) if more else classes


def name_images(command: Command):
    """The --top_k best classes of --classes for each image of --dataset_path, or of the embedding file --query.

    With --picture the first PICTURE_ROWS images are drawn beside their names, green and red where the image's folder is
    named as a class.

    Returns:
        list of (path, [(class, calibrated score, whether unseen), the best first]).

    Raises:
        InputError: a bad flag or file, or embeddings of another width than the classes were learnt on.
    """
    options = command.options
    check_picture(options.picture)
    with redirect_stdout(sys.stderr):
        set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
        classes = open_classes(command)
    if options.query and options.query.endswith(SUFFIXES):
        file = EmbeddingFile(options.query)
        images, features = file.images, np.concatenate([block for _, block in file.blocks()])
    else:
        embedder = _load_aside(command)
        images = open_images(options.query or options.dataset_path, 'test', subset=embedder.subset,
                             flag='--query' if options.query else '--dataset_path', need_labels=False)
        features = np.concatenate(list(embedder.embed(images)))
    named = best_classes(classes, features, options.top_k)
    if options.picture:
        own = [os.path.basename(os.path.dirname(path)) for path in images.paths[:PICTURE_ROWS]]
        right = [name == best[0][0] for name, best in zip(own, named)] if set(own) <= set(classes.names) else None
        named_picture(images.paths[:PICTURE_ROWS], named[:PICTURE_ROWS], right, options.picture)
    return list(zip(images.paths, named))
