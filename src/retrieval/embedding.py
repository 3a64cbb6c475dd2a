"""Images to embeddings with a trained network."""
import sys
import time

import numpy as np

from src.checkpoints.engine import Engine
from src.common.arrays import unit_rows
from src.common.errors import InputError
from src.datasets.image_batches import eval_dataset, reading


def embed_batches(network, images, batch_size, show_progress=False, *, image_size, mirror=False, turned=False, **options):
    """The embeddings of all images, batch by batch, each image once and in order.

    Args:
        network (callable): images (batch_size, 3, H, W) float32 array -> array (batch_size, D), as Engine.
        images (ImageList): what to embed.
        batch_size (int): the network sees batches of this size alone: the last one is filled up and cut again.
        show_progress (bool): whether to write images done, rate and time left to standard error.
        mirror (bool): whether to average each embedding with that of the mirrored image.
        turned (bool): whether to embed each image turned by 0, 90, 180 and 270 degrees and put the four, each at unit length,
            side by side: cosines of what results are the mean over the turns.
        image_size: S or (H, W). options: transform, bgr, interpolation, num_workers of eval_dataset.

    Yields:
        float32 arrays (n, D), or (n, 4 D) where turned, n <= batch_size.

    Raises:
        InputError: naming an image that is missing or broken; images to be turned that are not square.
    """
    check_turned(image_size, turned)
    began = shown = time.perf_counter()
    done = 0
    dataset = eval_dataset(images, batch_size=batch_size, image_size=image_size, **options)
    iterator = dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)
    while done < len(images):
        with reading(images):
            batch, *_ = next(iterator)
        count = len(batch)
        # One shape, one graph: another for the last short batch would be compiled anew.
        filled = np.concatenate([batch, np.zeros((batch_size - count, *batch.shape[1:]), batch.dtype)])
        if turned:
            embeddings = np.concatenate([unit_rows(_embed_one_way(network, np.rot90(filled, turn, (2, 3)), mirror))
                                         for turn in range(4)], axis=1)
        else:
            embeddings = _embed_one_way(network, filled, mirror)
        yield embeddings[:count].astype(np.float32, copy=False)
        done += count
        now = time.perf_counter()
        if show_progress and (now - shown > 5 or done == len(images)):
            shown = now
            rate = done / (now - began)
            print(f'{done}/{len(images)} images, {rate:.1f} images/s, time left '
                  f'{time.strftime("%H:%M:%S", time.gmtime((len(images) - done) / rate))}', file=sys.stderr)


def check_turned(image_size, turned):
    """Raise InputError where images of image_size, S or (H, W), are to be turned and are not square."""
    height, width = np.broadcast_to(image_size, 2).tolist()
    if turned and height != width:
        raise InputError(f'turned: images of {height} x {width} pixels, only square ones can be turned; give another '
                         '--image_size, or --set=turned=False')


def _embed_one_way(network, images, mirror):
    views = [images, images[..., ::-1]] if mirror else [images]
    return sum(network(np.ascontiguousarray(view)) for view in views) / len(views)


def embed(network, images, batch_size, show_progress=False, *, engine=None, target='CPU', **options):
    """The embeddings of all images as one float32 array (N, D).

    The network is put into evaluation and then back into the mode it was in.

    Args:
        network (Cell): images (batch_size, 3, H, W) float32 -> (batch_size, D).
        engine, target: of Engine.
        others: of embed_batches.
    """
    training = network.training
    network.set_train(False)
    try:
        runs = (4 if options.get('turned') else 1) * (2 if options.get('mirror') else 1)
        run = Engine(network, engine=engine, target=target, count=runs * len(images))
        embeddings, start = None, 0
        for rows in embed_batches(run, images, batch_size, show_progress, **options):
            if embeddings is None:
                embeddings = np.empty((len(images), rows.shape[1]), np.float32)
            embeddings[start:start + len(rows)] = rows
            start += len(rows)
        return embeddings
    finally:
        network.set_train(training)
