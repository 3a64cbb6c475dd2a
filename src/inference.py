"""Embeddings of images from a checkpoint or an exported model, and the nearest neighbours in a file of them."""
import importlib.util
import os
from typing import Callable, NamedTuple

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore import Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto

from src.accuracy.recall import nearest_neighbours
from src.config import create_recipe
from src.datasets.any_images import read_images
from src.embedding_file import SUFFIXES, EmbeddingFile, check_output, write_embeddings
from src.errors import InputError
from src.networks import create_network
from src.networks.weights import SUFFIXES as WEIGHT_SUFFIXES
from src.networks.weights import load_weights
from src.systems import find_checkpoint, recipe_of
from src.systems.embed import embed_batches
from src.systems.image_system import for_device
from src.training.distributed import set_up
from src.training.plots import check_picture, neighbours_picture

EXPORTED = ('.mindir', '.onnx')
PICTURE_ROWS = 20  # queries in a picture: more make it too tall to look at


class Embedder(NamedTuple):
    """A network and how images are given to it.

    run: images Tensor (batch_size, 3, H, W) float32 -> Tensor (batch_size, D). options: of embed_batches.
    """
    run: Callable
    batch_size: int
    options: dict

    def embed(self, images):
        """Embeddings of an ImageList, batch by batch; progress on standard error. See embed_batches."""
        return embed_batches(self.run, images, self.batch_size, True, **self.options)


def embed_to_file(args):
    """Write the embedding of every image of --dataset_path to --output.

    Args:
        args (Namespace): flags of infer.py.

    Returns:
        (number of images, width of an embedding).

    Raises:
        InputError: a bad flag or file, an image that is missing or broken; nothing is written then.
    """
    check_output(args.output)
    path, recipe = _model_and_recipe(args)
    images = read_images(args.dataset_path, recipe.get('subset', 'full'))
    embedder = _load_embedder(path, recipe, args)
    return len(images), write_embeddings(args.output, embedder.embed(images), images)


def find_neighbours(args):
    """The --top_k images of the embedding file --gallery most similar to each image of --query, by cosine.

    A query that is in the gallery finds itself. With --picture the first PICTURE_ROWS queries and their neighbours are
    drawn, framed right or wrong where both have labels.

    Args:
        args (Namespace): flags of infer.py; --query is an embedding file, or images for the network of --save_ckpt.

    Returns:
        list of (query path, rank from 1, path, similarity), by query and rank.

    Raises:
        InputError: a bad flag or file, embeddings of another width, or more neighbours asked for than there are.
    """
    if not args.query or not args.gallery:
        raise InputError('--query and --gallery: give both or neither')
    check_picture(args.picture)
    gallery = EmbeddingFile(args.gallery)
    if args.top_k > gallery.count:
        raise InputError(f'--top_k={args.top_k}: {gallery.path} holds {gallery.count} images')
    if args.query.endswith(SUFFIXES):
        query = EmbeddingFile(args.query)
        images, queries = query.images, np.concatenate([block for _, block in query.blocks()])
    else:
        path, recipe = _model_and_recipe(args)
        images = read_images(args.query, recipe.get('subset', 'full'))
        queries = np.concatenate(list(_load_embedder(path, recipe, args).embed(images)))
    indices, similarities = search(queries, gallery, args.top_k)
    near = [[gallery.images.paths[i] for i in row] for row in indices.tolist()]
    if args.picture:
        known = images.labels is not None and gallery.images.labels is not None
        drawn = slice(0, PICTURE_ROWS)
        right = (gallery.images.labels[indices[drawn]] == images.labels[drawn, None]).tolist() if known else None
        neighbours_picture(images.paths[drawn], near[drawn], right, args.picture, similarities[drawn].tolist())
    return [(query, rank, path, similarity) for query, paths, row in zip(images.paths, near, similarities.tolist())
            for rank, (path, similarity) in enumerate(zip(paths, row), 1)]


def search(queries, gallery, k):
    """The k rows of an EmbeddingFile most similar to each query by cosine; equal ones: the lower row first.

    Memory: the queries, one block of the file and (N, k).

    Args:
        queries: (N, D) float32.
        gallery (EmbeddingFile): at least k rows.

    Returns:
        (indices (N, k) int64, similarities (N, k) float32).

    Raises:
        InputError: the widths differ, a row is NaN or Inf, or the file is cut short.
    """
    if queries.shape[1] != gallery.width:
        raise InputError(f'{gallery.path}: embeddings of {gallery.width} values, those of --query have '
                         f'{queries.shape[1]}; write both with the same network')
    indices, best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start, block in gallery.blocks():
        more, similarities = nearest_neighbours(queries, block, min(k, len(block)))
        indices, best = np.hstack([indices, more + start]), np.hstack([best, similarities])
        order = np.argsort(-best, axis=1, kind='stable')[:, :k]
        indices, best = np.take_along_axis(indices, order, 1), np.take_along_axis(best, order, 1)
    return indices, best


def _model_and_recipe(args):
    """The file of the model and the recipe it is used by: the checkpoint's own, else what the flags say."""
    path = str(find_checkpoint(args.save_ckpt))
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such checkpoint or exported model')
    if not path.endswith(WEIGHT_SUFFIXES + EXPORTED):
        raise InputError(f'{path}: neither a checkpoint ({", ".join(WEIGHT_SUFFIXES)}) nor an exported model '
                         f'({", ".join(EXPORTED)})')
    recipe = create_recipe(args) if path.endswith(EXPORTED) else recipe_of(path, args)
    if recipe.system == 'zero_shot':
        raise InputError(f'{path}: a network of class semantics (DEM), which has no images; use eval.py')
    return path, recipe


def _load_embedder(path, recipe, args):
    place = set_up(args.device_target, args.device_id)
    batch_size, size = recipe.test_batch_size, recipe.image_size
    if path.endswith(EXPORTED):
        run, (batch, *fixed) = (_load_onnx if path.endswith('.onnx') else _load_mindir)(path)
        asked = [args.image_size] * 2 if isinstance(args.image_size, int) else args.image_size
        if asked and fixed != asked:
            raise InputError(f'--image_size={args.image_size}: {path} was exported for {fixed[0]} x {fixed[1]} pixels')
        batch_size, size = batch or batch_size, tuple(fixed)
    else:
        network = create_network(recipe.network, **recipe.network_options)
        load_weights(network, path)
        run = for_device(network, place.target).set_train(False)
    options = dict(transform=recipe.get('eval_transform', 'resize'), image_size=size, bgr=recipe.get('bgr', False),
                   num_workers=recipe.num_workers)
    return Embedder(run, batch_size, options)


def _load_mindir(path):
    # MindSpore has no call that tells the input of a MINDIR, and prints its own words about a damaged one.
    model = ModelProto()
    try:
        with open(path, 'rb') as file:
            model.ParseFromString(file.read())
        shapes = [list(put.tensor[0].dims) for put in model.graph.input]
        run = nn.GraphCell(ms.load(path))
    except (DecodeError, IndexError, RuntimeError, ValueError) as error:
        raise _unreadable(path) from error
    return run, _image_shape(path, shapes)


def _load_onnx(path):
    if importlib.util.find_spec('onnxruntime') is None:
        raise InputError(f'{path} needs onnxruntime to run: pip install onnxruntime, or export a MINDIR')
    import onnxruntime  # not a requirement
    try:
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions have no base class of their own
        raise _unreadable(path) from error
    shape = _image_shape(path, [put.shape for put in session.get_inputs()])
    name = session.get_inputs()[0].name
    return lambda images: Tensor(session.run(None, {name: images.asnumpy()})[0]), shape


def _unreadable(path):
    return InputError(f'{path}: damaged or no exported model; export it again')


def _image_shape(path, shapes):
    """[batch (0 for any), height, width] of the one input of a network of images."""
    sizes = [[size if isinstance(size, int) and size > 0 else 0 for size in shape] for shape in shapes]
    if len(sizes) != 1 or len(sizes[0]) != 4 or sizes[0][1] != 3 or 0 in sizes[0][2:]:
        raise InputError(f'{path}: takes inputs of shape {", ".join(map(str, shapes))}, not images (batch, 3, height, '
                         'width); export a network of images')
    batch, _, height, width = sizes[0]
    return [batch, height, width]
