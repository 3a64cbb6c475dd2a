"""Embedding images with a trained network."""
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
from mindspore import nn

from src.checkpoints.engine import Engine
from src.common.arrays import Array, unit_rows
from src.common.errors import InputError
from src.common.imagenet import DEVIATION, MEAN
from src.common.terminal import MovingLine
from src.common.values import height_width
from src.datasets.image_batches import ImageOptions, eval_dataset, reading
from src.datasets.image_list import ImageList
from src.networks import backbone_class

Run = Callable[[Array], Array]


@dataclass(frozen=True)
class EmbeddingOptions:
    """Preprocessing and test-time augmentation with which a network embeds images.

    Attributes:
        image_size: height and width in pixels.
        eval_transform: a name of EVAL_TRANSFORMS.
        interpolation: a name of src.datasets.resizing.INTERPOLATIONS.
        bgr: whether the channels are in the order blue, green, red; they are normalised by the RGB statistics all the same.
        mirror: whether each embedding is averaged with that of the mirrored image.
        turned: whether each image is embedded turned by 0, 90, 180 and 270 degrees and the four embeddings, each at unit
            length, are concatenated: the cosine of two results is the mean over the turns.
        batch_size: images per run of the network. num_workers: threads that read images. Neither changes an embedding.
        mean, deviation: statistics by which images are normalised, those of the type of the backbone.

    Raises:
        InputError: turned, but the images are not square.
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
        """The options in a recipe for images; entries that it does not have keep their defaults."""
        names = {'batch_size': 'test_batch_size'}
        values = {name: recipe[names.get(name, name)] for name in cls.__dataclass_fields__ if names.get(name, name) in recipe}
        backbone = backbone_class(recipe['backbone'])
        return cls(**{**values, 'image_size': height_width(recipe['image_size']), 'mean': backbone.mean,
                      'deviation': backbone.deviation})

    @property
    def identity(self) -> str:
        """The options that change an embedding, in words: the second part of embedding_identity."""
        height, width = self.image_size
        words = [f'{height}x{width}', self.eval_transform, self.interpolation,
                 *(name for name in ('bgr', 'mirror', 'turned') if getattr(self, name))]
        if (tuple(self.mean), tuple(self.deviation)) != (tuple(MEAN), tuple(DEVIATION)):
            words += [f'mean {self.mean}', f'deviation {self.deviation}']
        return '+'.join(words)

    @property
    def runs(self) -> int:
        """Number of runs of the network per image."""
        return (4 if self.turned else 1) * (2 if self.mirror else 1)


def embedding_identity(network: str, options: EmbeddingOptions) -> str:
    """Identity of embeddings: the network's (src.checkpoints.exported.network_identity) and the options'."""
    return f'{network}+{options.identity}'


def embed_batches(images: ImageList, network: Run, options: EmbeddingOptions, show_progress: bool = False
                  ) -> Iterator[Array]:
    """Yield the embeddings of all images in order, batch by batch.

    Args:
        images: the images to embed.
        network: images (batch_size, 3, H, W) float32 array -> array (batch_size, D), e.g. an Engine.
        options: preprocessing and test-time augmentation.
        show_progress: whether to print images done, rate and time left to standard error.

    Yields:
        float32 arrays (n, D), or (n, 4 D) if turned; n <= batch_size.

    Raises:
        InputError: an image is missing or broken; the message names it. Or different images all have the same embedding.
    """
    differ = [False, False]
    first: List[Array] = []
    began, done, line = time.perf_counter(), 0, MovingLine(show_progress)
    given = ImageOptions(options.image_size, options.eval_transform, options.interpolation, options.bgr, False, options.mean,
                         options.deviation, options.num_workers)
    dataset = eval_dataset(images, given, options.batch_size)
    iterator = dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)
    while done < len(images):
        with reading(images):
            batch, *_ = next(iterator)
        count = len(batch)
        # The last batch is padded with zeros, as another shape would compile another graph.
        filled = np.concatenate([batch, np.zeros((options.batch_size - count, *batch.shape[1:]), batch.dtype)])
        if options.turned:
            embeddings = np.concatenate([unit_rows(_embed_view(network, np.rot90(filled, turn, (2, 3)), options.mirror))
                                         for turn in range(4)], axis=1)
        else:
            embeddings = _embed_view(network, filled, options.mirror)
        rows = embeddings[:count].astype(np.float32, copy=False)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise InputError(f'{images.paths[done + int(np.argmin(finite))]}: its embedding holds NaN or Inf: weights are '
                             'damaged or training has diverged; use other weights, or train with a lower --lr')
        first = first or [batch[0], rows[0]]
        differ = [known or bool((those != one).any()) for known, those, one in zip(differ, (batch, rows), first)]
        if done + count == len(images) and differ == [True, False]:
            raise InputError(f'{images.source or images.paths[0]}: all {len(images)} images have the same embedding: weights '
                             'are damaged or training has collapsed; use other weights, or train with a lower --lr')
        yield rows
        done += count
        rate = done / (time.perf_counter() - began)
        line.tell(f'{done}/{len(images)} images, {rate:.1f} images/s, time left '
                  f'{time.strftime("%H:%M:%S", time.gmtime((len(images) - done) / rate))}', done == len(images))


def _embed_view(network: Run, images: Array, mirror: bool) -> Array:
    views = [images, images[..., ::-1]] if mirror else [images]
    total: Array = sum(network(np.ascontiguousarray(view)) for view in views)  # type: ignore[assignment]
    return total / len(views)


def embed(images: ImageList, network: nn.Cell, options: EmbeddingOptions, *, show_progress: bool = False, target: str = 'CPU'
          ) -> Array:
    """Embed all images; returns a float32 array (N, D), or (N, 4 D) if turned.

    The network runs in evaluation mode and is then put back into its mode.

    Args:
        images: from open_images.
        network: images (batch_size, 3, H, W) float32 -> (batch_size, D).
        options: preprocessing and test-time augmentation, e.g. from EmbeddingOptions.of_recipe.
        show_progress: see embed_batches. target: see Engine.

    Raises:
        InputError: an image is missing or broken; the message names it.
    """
    if target == 'CPU':  # elsewhere a batch of another size is another graph
        options = replace(options, batch_size=min(options.batch_size, len(images)))
    training = network.training
    network.set_train(False)
    try:
        run = Engine(network, target=target, count=options.runs * len(images))
        embeddings, start = np.empty((0, 0), np.float32), 0
        for rows in embed_batches(images, run, options, show_progress):
            if not start:
                embeddings = np.empty((len(images), rows.shape[1]), np.float32)
            embeddings[start:start + len(rows)] = rows
            start += len(rows)
        return embeddings
    finally:
        network.set_train(training)
