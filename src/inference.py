"""Embeddings of images from a checkpoint or an exported model, and the nearest neighbours in a file of them."""
import os
from typing import Callable, NamedTuple

import numpy as np

from src.config import create_recipe
from src.datasets.any_images import read_images
from src.embedding_file import SUFFIXES, EmbeddingFile, check_output, write_embeddings
from src.errors import InputError
from src.exported import READABLE as EXPORTED
from src.exported import Engine, open_exported
from src.networks import create_network
from src.networks.weights import SUFFIXES as WEIGHT_SUFFIXES
from src.networks.weights import load_weights
from src.search import search
from src.systems import find_checkpoint, recipe_of
from src.systems.embed import embed_batches
from src.systems.image_system import for_device
from src.training.distributed import set_up
from src.training.plots import check_picture, neighbours_picture

PICTURE_ROWS = 20  # queries in a picture: more make it too tall to look at


class Embedder(NamedTuple):
    """A network and how images are given to it.

    run: images (batch_size, 3, H, W) float32 array -> array (batch_size, D). options: of embed_batches.
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
        exported = open_exported(path)
        run, (batch, *fixed) = exported.run, exported.image_shape
        asked = [args.image_size] * 2 if isinstance(args.image_size, int) else args.image_size
        if asked and fixed != asked:
            raise InputError(f'--image_size={args.image_size}: {path} was exported for {fixed[0]} x {fixed[1]} pixels')
        batch_size, size = batch or batch_size, tuple(fixed)
    else:
        network = create_network(recipe.network, **recipe.network_options)
        load_weights(network, path)
        run = Engine(for_device(network, place.target).set_train(False), target=place.target)
    options = dict(transform=recipe.get('eval_transform', 'resize'), image_size=size, bgr=recipe.get('bgr', False),
                   num_workers=recipe.num_workers)
    return Embedder(run, batch_size, options)
