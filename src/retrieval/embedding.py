"""Images to embeddings with a trained network."""
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np
from mindspore import nn
from numpy.typing import NDArray

from src.checkpoints.engine import Engine
from src.common.arrays import unit_rows
from src.common.errors import InputError
from src.common.imagenet import DEVIATION, MEAN
from src.common.values import height_width
from src.datasets.image_batches import ImageOptions, eval_dataset, reading
from src.datasets.image_list import ImageList
from src.networks import backbone_class

Run = Callable[[NDArray[Any]], NDArray[Any]]
# Seconds from one line of progress to the next.
SHOWN_EVERY = 5


@dataclass(frozen=True)
class EmbeddingOptions:
    """How images become embeddings, beside the network: preprocessing and test-time augmentation.

    Attributes:
        image_size: height and width.
        eval_transform: a name of EVAL_TRANSFORMS. interpolation: 'bilinear' or 'bicubic'. bgr: whether the channels are in
            the order blue, green, red, still through the RGB statistics.
        mirror: whether each embedding is averaged with that of the mirrored image.
        turned: whether each image is embedded turned by 0, 90, 180 and 270 degrees and the four embeddings, each at unit
            length, stand side by side: cosines of what results are the mean over the turns.
        batch_size: the network sees batches of this size alone. num_workers: threads that read images. These two do not
            change an embedding.
        mean, deviation: statistics by which images are normalised, those of the backbone's type.

    Raises:
        InputError: images to be turned that are not square.
    """
    image_size: Tuple[int, int]
    eval_transform: str = 'resize'
    interpolation: str = 'bilinear'
    bgr: bool = False
    mirror: bool = False
    turned: bool = False
    batch_size: int = 50
    num_workers: int = 8
    mean: Sequence[float] = MEAN
    deviation: Sequence[float] = DEVIATION

    def __post_init__(self) -> None:
        height, width = self.image_size
        if self.turned and height != width:
            raise InputError(f'turned: images of {height} x {width} pixels, only square ones can be turned; give another '
                             '--image_size, or --set=turned=False')

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> 'EmbeddingOptions':
        """As a recipe of images says; an entry that it does not have has its default."""
        names = {'batch_size': 'test_batch_size'}
        values = {name: recipe[names.get(name, name)] for name in cls.__dataclass_fields__ if names.get(name, name) in recipe}
        backbone = backbone_class(recipe['backbone'])
        return cls(**{**values, 'image_size': height_width(recipe['image_size']), 'mean': backbone.mean,
                      'deviation': backbone.deviation})

    @property
    def identity(self) -> str:
        """What changes an embedding, in words: a part of embedding_identity."""
        height, width = self.image_size
        words = [f'{height}x{width}', self.eval_transform, self.interpolation,
                 *(name for name in ('bgr', 'mirror', 'turned') if getattr(self, name))]
        if (tuple(self.mean), tuple(self.deviation)) != (tuple(MEAN), tuple(DEVIATION)):
            words += [f'mean {self.mean}', f'deviation {self.deviation}']
        return '+'.join(words)

    @property
    def runs(self) -> int:
        """How often the network is run for one image."""
        return (4 if self.turned else 1) * (2 if self.mirror else 1)


def embedding_identity(network: str, options: EmbeddingOptions) -> str:
    """The identity of embeddings: that of the network (src.checkpoints.exported.network_identity) and of its options."""
    return f'{network}+{options.identity}'


def network_of(identity: str) -> str:
    """The network's identity within that of embeddings."""
    return identity.partition('+')[0]


def embed_batches(images: ImageList, network: Run, options: EmbeddingOptions, show_progress: bool = False
                  ) -> Iterator[NDArray[np.float32]]:
    """The embeddings of all images, batch by batch, each image once and in order.

    Args:
        images: what to embed.
        network: images (batch_size, 3, H, W) float32 array -> array (batch_size, D), as Engine.
        options: how; the last batch is filled up and cut again.
        show_progress: whether to write images done, rate and time left to standard error.

    Yields:
        float32 arrays (n, D), or (n, 4 D) where turned, n <= batch_size.

    Raises:
        InputError: naming an image that is missing or broken.
    """
    began = shown = time.perf_counter()
    done = 0
    given = ImageOptions(options.image_size, options.eval_transform, options.interpolation, options.bgr, False, options.mean,
                         options.deviation, options.num_workers)
    dataset = eval_dataset(images, given, options.batch_size)
    iterator = dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)
    while done < len(images):
        with reading(images):
            batch, *_ = next(iterator)
        count = len(batch)
        # One shape, one graph: another for the last short batch would be compiled anew.
        filled = np.concatenate([batch, np.zeros((options.batch_size - count, *batch.shape[1:]), batch.dtype)])
        if options.turned:
            embeddings = np.concatenate([unit_rows(_embed_view(network, np.rot90(filled, turn, (2, 3)), options.mirror))
                                         for turn in range(4)], axis=1)
        else:
            embeddings = _embed_view(network, filled, options.mirror)
        yield embeddings[:count].astype(np.float32, copy=False)
        done += count
        now = time.perf_counter()
        if show_progress and (now - shown > SHOWN_EVERY or done == len(images)):
            shown = now
            rate = done / (now - began)
            print(f'{done}/{len(images)} images, {rate:.1f} images/s, time left '
                  f'{time.strftime("%H:%M:%S", time.gmtime((len(images) - done) / rate))}', file=sys.stderr)


def _embed_view(network: Run, images: NDArray[Any], mirror: bool) -> NDArray[Any]:
    views = [images, images[..., ::-1]] if mirror else [images]
    total: NDArray[Any] = sum(network(np.ascontiguousarray(view)) for view in views)  # type: ignore[assignment]
    return total / len(views)


def embed(images: ImageList, network: nn.Cell, options: EmbeddingOptions, *, show_progress: bool = False,
          engine: Optional[str] = None, target: str = 'CPU') -> NDArray[np.float32]:
    """The embeddings of all images as one float32 array (N, D).

    The network is put into evaluation and then back into the mode it was in.

    Args:
        images: of open_images.
        network: images (batch_size, 3, H, W) float32 -> (batch_size, D).
        options: how images are given to it, see EmbeddingOptions.of_recipe.
        show_progress: of embed_batches. engine, target: of Engine.

    Raises:
        InputError: naming an image that is missing or broken.
    """
    training = network.training
    network.set_train(False)
    try:
        run = Engine(network, engine=engine, target=target, count=options.runs * len(images))
        embeddings, start = np.empty((0, 0), np.float32), 0
        for rows in embed_batches(images, run, options, show_progress):
            if not start:
                embeddings = np.empty((len(images), rows.shape[1]), np.float32)
            embeddings[start:start + len(rows)] = rows
            start += len(rows)
        return embeddings
    finally:
        network.set_train(training)
