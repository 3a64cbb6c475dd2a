"""Images on disk -> batches for the network.

Crops, flips and augmentation are drawn in numpy from (seed, position of the image in the epoch), not by MindSpore's random
operators, which take their seed from a global when the iterator is made and whose pictures depend on the number of workers.
So an epoch is the same to the last bit for any number of workers and however often it is read, and skipping steps reads
nothing.
"""
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import cpu_count
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import mindspore.dataset as ds
import mindspore.dataset.vision as vision
import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.common.imagenet import DEVIATION, MEAN
from src.common.registry import lookup
from src.datasets.augmentation import AFFINE_FROM, MEAN_COLOUR, augmenting
from src.datasets.broken import without_broken
from src.datasets.decoding import Pixels, read_picture
from src.datasets.image_list import ImageList
from src.datasets.resizing import INTERPOLATIONS, Resize, Size, short_side

# Crops and flips a picture by random numbers; the result has the size that the function was built for.
Cut = Callable[[Pixels, np.random.Generator], Pixels]
PAD = 10
# Batches made ahead of the network. MindSpore's default of 16 would hold 2.5 GB at 256 float32 images of 224 x 224.
PREFETCH = 4
# Pictures that each decoding thread makes ahead of the next stage.
DECODED_AHEAD = 8


@dataclass(frozen=True)
class ImageOptions:
    """How an image file becomes the array (3, H, W) that the network sees.

    Attributes:
        size: (H, W).
        transform: a name of TRAIN_TRANSFORMS or EVAL_TRANSFORMS.
        interpolation: a name of src.datasets.resizing.INTERPOLATIONS, of crops and resizing.
        bgr: channels in the order blue, green, red, still normalised by the statistics of R, G, B.
        as_uint8: leave pixels as they are; the networks of src.networks normalise them on the device.
        mean, deviation: of normalisation, three values each, of pixels of 0..1; a backbone's own.
        num_workers: threads, at most one per core of the machine.
    """
    size: Size = (224, 224)
    transform: str = 'resize'
    interpolation: str = 'bilinear'
    bgr: bool = False
    as_uint8: bool = False
    mean: Sequence[float] = MEAN
    deviation: Sequence[float] = DEVIATION
    num_workers: int = 2

    def resizing(self) -> Resize:
        """Resizing function. Raises InputError for an unknown interpolation."""
        return lookup(INTERPOLATIONS, self.interpolation, 'interpolation')

    def to_network(self) -> List[Any]:
        """Operators from pixels (H, W, 3) to the network's input."""
        swap = [vision.ConvertColor(vision.ConvertMode.COLOR_RGB2BGR)] if self.bgr else []
        scaled = [[255 * value for value in statistic] for statistic in (self.mean, self.deviation)]
        return swap + ([] if self.as_uint8 else [vision.Normalize(*scaled)]) + [vision.HWC2CHW()]


@dataclass(frozen=True)
class EpochOptions:
    """Options of a training epoch, beside ImageOptions.

    Attributes:
        seed: seed of this epoch; the caller derives it from the run's seed and the epoch.
        flip: probability of a horizontal flip.
        augmentation: name of AUGMENTATIONS -> its options, applied in this order to the pictures of the network's size.
        skip: number of first batches to leave out, 0 <= skip < steps; the other batches do not change.
        rank, size: as for the sampler. Random numbers depend on an image's position in the epoch of all ranks, so that `size`
            ranks augment as one process with `size` times the batch does.
    """
    seed: int = 0
    flip: float = 0.5
    augmentation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skip: int = 0
    rank: int = 0
    size: int = 1


def train_dataset(images: ImageList, labels: ArrayLike, indices: ArrayLike, mask: Optional[ArrayLike],
                  options: ImageOptions, epoch: EpochOptions) -> ds.Dataset:
    """One epoch of training batches as a mindspore.dataset.

    Args:
        images: the images that the indices point into.
        labels: (N,) ids 0..C-1.
        indices, mask: int (steps, B) and float32 (steps, B) or None, from a sampler.
        options: with a name of TRAIN_TRANSFORMS.
        epoch: random numbers and batches of the epoch.

    Returns:
        Columns image, float32 (B, 3, H, W) or uint8; label int32 (B,); mask float32 (B,) if given. A missing or broken
        image raises RuntimeError from the iterator; take batches from it within `reading`.

    Raises:
        InputError: an unknown transform, augmentation or interpolation.
        ValueError: skip out of range.
    """
    steps, batch_size = np.shape(indices)
    if not 0 <= epoch.skip < steps:
        raise ValueError(f'cannot skip {epoch.skip} of {steps} batches')
    build = lookup(TRAIN_TRANSFORMS, options.transform, 'train_transform')
    height, width = options.size
    # Rotating small images blurs them; affine rotates larger images and resizes them in one step.
    cut_to = (round(AFFINE_FROM * height), round(AFFINE_FROM * width)) if 'affine' in epoch.augmentation else options.size
    cut = build(cut_to, epoch.flip, options.resizing())
    augment = augmenting(epoch.augmentation, options.size, epoch.seed)

    def prepare(image: Pixels, position: int) -> Pixels:
        return augment(cut(image, np.random.default_rng((epoch.seed, int(position)))), position)

    columns = {'label': np.asarray(labels, np.int32)[np.asarray(indices)]}
    if mask is not None:
        columns['mask'] = np.asarray(mask, np.float32)
    positions = np.arange(steps * epoch.size * batch_size).reshape(steps, epoch.size, batch_size)[:, epoch.rank]
    rows = [np.reshape(column, -1)[epoch.skip * batch_size:] for column in (indices, *columns.values(), positions)]
    source = _Source(images, clamp_workers(options.num_workers), *rows, prepare=prepare)
    return _batch(source, ['image', *columns], options, batch_size)


def eval_dataset(images: ImageList, options: ImageOptions, batch_size: int) -> ds.Dataset:
    """Batches of every image of the list once, in order, without augmentation; the last batch may be short.

    options: with a name of EVAL_TRANSFORMS. Errors and the column image (B, 3, H, W) are as for train_dataset.
    """
    build = lookup(EVAL_TRANSFORMS, options.transform, 'eval_transform')
    resize = build(options.size, options.resizing())
    rows = np.arange(len(images))
    source = _Source(images, clamp_workers(options.num_workers), rows, rows, prepare=lambda image, _: resize(image))
    return _batch(source, ['image'], options, batch_size)


def clamp_workers(num_workers: int) -> int:
    """Limit a number of workers to 1 .. number of cores, above which MindSpore raises."""
    return max(1, min(num_workers, cpu_count()))


@contextmanager
def reading(images: ImageList) -> Iterator[None]:
    """Block around next(iterator) of a dataset of `images`: a RuntimeError becomes an InputError that names broken images.

    Put nothing else into the block: errors of the network or the device must stay as they are.

    MindSpore does not say which image cannot be read. All are decoded again; if none fails, the RuntimeError passes unchanged.
    """
    try:
        yield
    except RuntimeError:
        without_broken(images, whole=True)
        raise


class _Source:
    """Images of a list by index, each with its row of all columns but the last, which is its position in the epoch.

    workers: threads that decode and prepare. They are Python threads, since decoding and resizing release Python's lock; two
        of MindSpore's threads behind a GeneratorDataset are half as fast as one.
    prepare: None or function(picture, position) -> picture.
    """

    def __init__(self, images: ImageList, workers: int, indices: NDArray[Any], *columns: NDArray[Any],
                 prepare: Optional[Callable[[Pixels, int], Pixels]] = None):
        self.images, self.workers, self.indices, self.columns, self.prepare = images, workers, indices, columns, prepare

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Tuple[Any, ...]]:
        pool = ThreadPoolExecutor(self.workers)
        waiting: Deque['Future[Tuple[Any, ...]]'] = deque()
        try:
            for row in range(len(self)):
                waiting.append(pool.submit(self._read, row))
                if len(waiting) > DECODED_AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # An epoch may be left early.
            pool.shutdown(cancel_futures=True)

    def _read(self, row: int) -> Tuple[Any, ...]:
        picture = read_picture(self.images.paths[self.indices[row]])
        if self.prepare:
            picture = self.prepare(picture, self.columns[-1][row])
        return (picture, *(column[row] for column in self.columns[:-1]))


def _random_resized_crop(size: Size, flip: float, resize: Resize) -> Cut:
    """A random box of 0.08..1 of the area and aspect ratio 3/4..4/3, flipped, resized to H x W."""
    def cut(image: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = image.shape[:2]
        return resize(_flip(_crop(image, *random_box(height, width, rng)), flip, rng), size)
    return cut


def _resize_crop(size: Size, flip: float, resize: Resize) -> Cut:
    """Resized to 1.125 times H x W (72 for 64), a random H x W crop of it, flipped."""
    larger = round(1.125 * size[0]), round(1.125 * size[1])
    return lambda image, rng: _flip(_random_crop(resize(image, larger), size, rng), flip, rng)


def _resize_flip(size: Size, flip: float, resize: Resize) -> Cut:
    """Resized to H x W, flipped."""
    return lambda image, rng: _flip(resize(image, size), flip, rng)


def _reid(size: Size, flip: float, resize: Resize) -> Cut:
    """Resized to H x W, flipped, padded by 10 black pixels, a random H x W crop, a box erased with probability 0.5."""
    def cut(image: Pixels, rng: np.random.Generator) -> Pixels:
        image = np.pad(_flip(resize(image, size), flip, rng), ((PAD, PAD), (PAD, PAD), (0, 0)))
        image = _random_crop(image, size, rng)
        return _erase(image, rng) if rng.random() < 0.5 else image
    return cut


def _center_crop(size: Size, resize: Resize) -> Callable[[Pixels], Pixels]:
    """The short side resized to the longer of H and W, then the H x W centre."""
    def crop(image: Pixels) -> Pixels:
        image = resize(image, short_side(image, max(size)))
        return _crop(image, (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2, *size)
    return crop


TRAIN_TRANSFORMS: Dict[str, Callable[[Size, float, Resize], Cut]] = {
    'random_resized_crop': _random_resized_crop, 'resize_crop': _resize_crop, 'resize': _resize_flip, 'reid': _reid}
EVAL_TRANSFORMS: Dict[str, Callable[[Size, Resize], Callable[[Pixels], Pixels]]] = {
    'resize': lambda size, resize: lambda image: resize(image, size), 'center_crop': _center_crop}


def random_box(height: int, width: int, rng: np.random.Generator, scale: Tuple[float, float] = (0.08, 1.0),
               ratio: Tuple[float, float] = (3 / 4, 4 / 3)) -> Tuple[int, int, int, int]:
    """(top, left, height, width) of a random box: share of the area uniform in `scale`, width / height log-uniform
    in `ratio`; after ten boxes that do not fit, the largest centred one of an allowed ratio (Szegedy et al., CVPR 2015).
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        box_width, box_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            return (int(rng.integers(height - box_height + 1)), int(rng.integers(width - box_width + 1)),
                    box_height, box_width)
    box_height = min(height, max(1, round(width / ratio[0])))
    box_width = min(width, max(1, round(height * ratio[1])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def _crop(image: Pixels, top: int, left: int, height: int, width: int) -> Pixels:
    return np.ascontiguousarray(image[top:top + height, left:left + width])


def _random_crop(image: Pixels, size: Size, rng: np.random.Generator) -> Pixels:
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(image.shape, size))
    return _crop(image, top, left, *size)


def _flip(image: Pixels, probability: float, rng: np.random.Generator) -> Pixels:
    if rng.random() >= probability:
        return image
    flipped = np.empty_like(image)
    # Channel by channel takes a third of the time of all at once.
    for channel in range(3):
        flipped[..., channel] = image[:, ::-1, channel]
    return flipped


def _erase(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Paint a box of 0.02..0.4 of the area, ratio 0.3..1/0.3, in the mean colour (Zhong et al., arXiv 1708.04896)."""
    height, width = image.shape[:2]
    top, left, height, width = random_box(height, width, rng, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3))
    image = image.copy()
    image[top:top + height, left:left + width] = MEAN_COLOUR
    return image


def _batch(source: _Source, columns: List[str], options: ImageOptions, batch_size: int) -> ds.Dataset:
    dataset = ds.GeneratorDataset(source, columns, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)
    dataset = dataset.map(options.to_network(), 'image', num_parallel_workers=clamp_workers(options.num_workers))
    # A setting of the whole process, which MindSpore reads when it makes the iterator.
    ds.config.set_prefetch_size(PREFETCH)
    return dataset.batch(batch_size, num_parallel_workers=1)
