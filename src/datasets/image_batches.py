"""Images on disk -> batches for the network.

What is random (where to crop, whether to flip) is drawn in numpy from (seed, position of the image in the epoch), not by
MindSpore's random operators: those take their seed from a global when the iterator is made, and give other
pictures with another number of workers. So an epoch is the same to the last bit whatever the number of
workers and however often it is read, and skipping steps reads nothing.
"""
import contextlib
import glob
import io
import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import cpu_count
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import mindspore.dataset as ds
import mindspore.dataset.vision as vision
import numpy as np
from PIL import Image

from src.common.errors import InputError
from src.datasets.augmentation import AFFINE_FROM, MEAN, MEAN_COLOUR, augmenting, known
from src.datasets.augmentation_processes import POSSIBLE, AugmentationProcesses
from src.datasets.image_list import ImageList

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

STD = (0.229, 0.224, 0.225)
# The same for pixels of 0..255, to broadcast over (B, 3, H, W).
PIXEL_MEAN = np.array([255 * value for value in MEAN], np.float32).reshape(3, 1, 1)
PIXEL_STD = np.array([255 * value for value in STD], np.float32).reshape(3, 1, 1)
INTERPOLATIONS = {'bilinear': vision.Inter.BILINEAR, 'bicubic': vision.Inter.BICUBIC}
PAD = 10
# batches made ahead of the network; MindSpore's default of 16 would hold 2.5 GB at 256 float32 images of 224 x 224
PREFETCH = 4
# pictures a decoding thread makes ahead of what follows
DECODED_AHEAD = 8
# Pixels of a picture from which processes augment: of smaller ones a thread makes more than 700 a second.
PROCESSES_FROM = 128 * 128
Size = Union[int, Sequence[int]]


def train_dataset(images: ImageList, labels: np.ndarray, indices: np.ndarray, mask: Optional[np.ndarray] = None, *,
                  transform: str = 'random_resized_crop', image_size: Size = 224, seed: int = 0, flip: float = 0.5,
                  augmentation: Optional[Dict[str, Dict[str, Any]]] = None, interpolation: str = 'bilinear',
                  bgr: bool = False, as_uint8: bool = False, num_workers: int = 2, skip: int = 0, rank: int = 0,
                  size: int = 1) -> ds.Dataset:
    """One epoch of training batches as a mindspore.dataset.

    Args:
        images: what the indices point into.
        labels: (N,) ids 0..C-1.
        indices, mask: int (steps, B) and float32 (steps, B) or None, from a sampler.
        transform: a name of TRAIN_TRANSFORMS.
        image_size: S or (H, W).
        seed: of this epoch; the caller derives it from the run's seed and the epoch.
        flip: probability of a horizontal flip.
        augmentation: name of AUGMENTATIONS -> its options, applied in this order to the pictures of image_size; with affine
            they come AFFINE_FROM times as high and wide from the transform, and affine brings them to image_size.
        interpolation: 'bilinear' or 'bicubic', of crops and resizing.
        bgr: channels in the order blue, green, red, still through the RGB statistics.
        as_uint8: leave pixels as they are; the networks of src.networks normalise them on the device.
        num_workers: clamped to the machine's cores. As many processes augment pictures of PROCESSES_FROM pixels and more.
        skip: leave out this many first batches, 0 <= skip < steps; the rest is what the whole epoch would have given.
        rank, size: of the sampler; the chance of an image hangs on its position in the epoch of all ranks, so that they
            augment as one process with size times the batch does.

    Returns:
        Columns image, float32 (B, 3, H, W), scaled to 0..1 and normalised by the ImageNet mean and deviation, or uint8;
        label int32 (B,); mask float32 (B,) when given. A missing or broken image raises RuntimeError from the
        iterator; take batches from it within `reading`.

    Raises:
        InputError: an unknown transform, augmentation or interpolation.
        ValueError: skip out of range.
    """
    steps, batch_size = np.shape(indices)
    if not 0 <= skip < steps:
        raise ValueError(f'cannot skip {skip} of {steps} batches')
    build = known('train_transform', transform, TRAIN_TRANSFORMS)
    height_width, augmentation = _height_width(image_size), augmentation or {}
    # To turn small pictures blurs them; larger ones are turned and brought to their size in one step.
    cut_to = tuple(round(AFFINE_FROM * side) for side in height_width) if 'affine' in augmentation else height_width
    before, cut, after = build(cut_to, flip, _resizing(interpolation))
    augment = augmenting(augmentation, height_width, seed)
    workers = clamp_workers(num_workers)
    processes = workers if augmentation and math.prod(height_width) >= PROCESSES_FROM and POSSIBLE else 1
    if processes > 1:
        augment = AugmentationProcesses(processes, augmentation, cut_to, height_width, seed)
    columns = ['image', 'label'] + ([] if mask is None else ['mask'])
    positions = np.arange(steps * size * batch_size).reshape(steps, size, batch_size)[:, rank].reshape(-1)

    def cut_one(image, position):
        image = cut(image, np.random.default_rng((seed, int(position))))
        return image if after else augment(image, position)

    rows = [np.asarray(column).reshape(-1)[skip * batch_size:] for column in (
        indices, np.asarray(labels, np.int32)[np.asarray(indices)],
        *([] if mask is None else [np.asarray(mask, np.float32)]), positions)]
    # what comes first needs no step of its own
    source = _Source(images, workers, *rows, prepare=None if before else cut_one)
    dataset = _generate(source, columns + ['position'])
    if before:
        dataset = _map_in_python(dataset.map(before, 'image', num_parallel_workers=workers), cut_one, processes)
    if after:
        dataset = dataset.map(after, 'image', num_parallel_workers=workers)
        if augmentation:
            dataset = _map_in_python(dataset, augment, processes)
    dataset = dataset.map(_to_network(bgr, as_uint8), 'image', num_parallel_workers=workers)
    return _batch(dataset.project(columns), batch_size)


def eval_dataset(images: ImageList, *, batch_size: int, transform: str = 'resize', image_size: Size = 224,
                 interpolation: str = 'bilinear', bgr: bool = False, as_uint8: bool = False,
                 num_workers: int = 2) -> ds.Dataset:
    """Every image of the list exactly once, in its order, without augmentation; the last batch may be short.

    transform: a name of EVAL_TRANSFORMS. Other arguments, errors and the column image (B, 3, H, W) as for
    train_dataset.
    """
    build = known('eval_transform', transform, EVAL_TRANSFORMS)
    resize = build(_height_width(image_size), _resizing(interpolation))
    workers = clamp_workers(num_workers)
    dataset = _generate(_Source(images, workers, np.arange(len(images))), ['image'])
    dataset = dataset.map(resize + _to_network(bgr, as_uint8), 'image', num_parallel_workers=workers)
    return _batch(dataset, batch_size)


def clamp_workers(num_workers: int) -> int:
    """At least one, at most the machine's cores, above which MindSpore raises."""
    return max(1, min(num_workers, cpu_count()))


class reading:  # named like the block that it opens
    """Around next(iterator) of a dataset of `images`: its RuntimeError becomes an InputError when an image is to blame.

    Around nothing else: an error of the network or the device must stay what it is. One may serve many blocks.

    MindSpore says that an image cannot be read but not which; the images are then read again one by one (some
    hundreds a second) until the first that cannot. A RuntimeError of another cause passes unchanged.
    """

    def __init__(self, images: ImageList):
        self.images = images
        self.before = _decoder_dumps()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None or not issubclass(kind, RuntimeError):
            return
        broken = find_broken_image(self.images)
        for dump in _decoder_dumps() - self.before:
            with contextlib.suppress(OSError):  # another rank may have been here first
                os.remove(dump)
        if broken is not None:
            raise InputError(broken) from error


def find_broken_image(images: ImageList) -> Optional[str]:
    """One line that names the first image that is missing or cannot be decoded, or None when all can."""
    for path in images.paths:
        if not os.path.isfile(path):
            return f'{path}: no such image; restore it or remove it from the list'
    for path in images.paths:
        try:
            decode(np.fromfile(path, np.uint8))
        except OSError as error:
            return f'{path}: cannot be read: {error.strerror}'
        except RuntimeError:
            return f'{path}: is no image that can be decoded; repair it or remove it from the list'
    return None


def _decoder_dumps():
    """The copies of what it could not decode that MindSpore leaves in the working folder."""
    return set(glob.glob('abnormal_image.*') + glob.glob('unsupported_image.*'))


class _Source:
    """Pictures of a list by index, each with its row of the columns, of which the last is its position in the epoch.

    workers: threads that decode. They are Python's own, since decoding leaves Python's lock: two of MindSpore's threads
        behind a GeneratorDataset are half as fast as one.
    prepare: None or function(picture, position) -> picture.
    """

    def __init__(self, images, workers, indices, *columns, prepare=None):
        self.images, self.workers, self.indices, self.columns, self.prepare = images, workers, indices, columns, prepare

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        pool, waiting = ThreadPoolExecutor(self.workers), deque()
        try:
            for row in range(len(self)):
                waiting.append(pool.submit(self._read, row))
                if len(waiting) > DECODED_AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # of an epoch that is left early
            pool.shutdown(cancel_futures=True)

    def _read(self, row):
        index, turns = self.indices[row], self.images.turns
        picture = decode(np.fromfile(self.images.paths[index], np.uint8))
        if turns is not None:
            picture = np.ascontiguousarray(np.rot90(picture, turns[index]))
        if self.prepare:
            picture = self.prepare(picture, self.columns[-1][row])
        return (picture, *(column[row] for column in self.columns))


def decode(content: np.ndarray) -> np.ndarray:
    """The bytes (n,) uint8 of an image file -> pixels (h, w, 3) uint8, RGB.

    Colour JPEG, by the faster libjpeg-turbo of simplejpeg where that is installed, or of PIL: equal to MindSpore's to
    the last bit, in a half or two thirds of its time. All else, and what these refuse, is MindSpore's own decoder's.

    Raises:
        RuntimeError: no image that can be decoded.
    """
    if simplejpeg is not None:
        with contextlib.suppress(ValueError):  # no JPEG, or damaged
            if simplejpeg.decode_jpeg_header(content)[2] == 'YCbCr':
                return simplejpeg.decode_jpeg(content)
    with contextlib.suppress(OSError, SyntaxError, Image.DecompressionBombError):
        picture = Image.open(io.BytesIO(content.tobytes()), formats=['JPEG'])
        if picture.mode == 'RGB':
            return np.asarray(picture)
    return vision.Decode()(content)


def _random_resized_crop(size, flip, resize):
    """A random box of 0.08..1 of the area and aspect ratio 3/4..4/3, resized to H x W, flipped."""
    def cut(image, rng):
        return _flip(_crop(image, *random_box(*image.shape[:2], rng)), flip, rng)
    return [], cut, [resize(size)]


def _resize_crop(size, flip, resize):
    """Resized to 1.125 times H x W (72 for 64), a random H x W crop of it, flipped."""
    larger = tuple(round(1.125 * side) for side in size)

    def cut(image, rng):
        return _flip(_random_crop(image, size, rng), flip, rng)
    return [resize(larger)], cut, []


def _resize_flip(size, flip, resize):
    """Resized to H x W, flipped."""
    return [resize(size)], lambda image, rng: _flip(image, flip, rng), []


def _reid(size, flip, resize):
    """Resized to H x W, flipped, padded by 10 black pixels, a random H x W crop, a box erased with probability 0.5."""
    def cut(image, rng):
        image = np.pad(_flip(image, flip, rng), ((PAD, PAD), (PAD, PAD), (0, 0)))
        image = _random_crop(image, size, rng)
        return _erase(image, rng) if rng.random() < 0.5 else image
    return [resize(size)], cut, []


def _resize(size, resize):
    return [resize(size)]


def _center_crop(size, resize):
    """The short side resized to the longer of H and W, then the H x W centre."""
    return [resize(max(size)), vision.CenterCrop(size)]


Transform = Tuple[List[Any], Callable[..., np.ndarray], List[Any]]
# name -> function(size, flip, resize) -> (operators before, function(image uint8 (h, w, 3), rng), operators after);
# resize(size) makes the operator
TRAIN_TRANSFORMS: Dict[str, Callable[..., Transform]] = {
    'random_resized_crop': _random_resized_crop, 'resize_crop': _resize_crop, 'resize': _resize_flip, 'reid': _reid}
# name -> function(size, resize) -> operators
EVAL_TRANSFORMS: Dict[str, Callable[..., List[Any]]] = {'resize': _resize, 'center_crop': _center_crop}


def random_box(height, width, rng, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """(top, left, height, width) of a random box: share of the area uniform in `scale`, width / height log-uniform
    in `ratio`; after ten that do not fit, the largest centred box whose ratio is allowed (Szegedy et al., CVPR 2015).
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


def _crop(image, top, left, height, width):
    return np.ascontiguousarray(image[top:top + height, left:left + width])


def _random_crop(image, size, rng):
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(image.shape, size))
    return _crop(image, top, left, *size)


def _flip(image, probability, rng):
    if rng.random() >= probability:
        return image
    flipped = np.empty_like(image)
    # channel by channel in a third of the time of all at once
    for channel in range(3):
        flipped[..., channel] = image[:, ::-1, channel]
    return flipped


def _erase(image, rng):
    """Paint a box of 0.02..0.4 of the area, ratio 0.3..1/0.3, in the mean colour (Zhong et al., arXiv 1708.04896)."""
    top, left, height, width = random_box(*image.shape[:2], rng, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3))
    image = image.copy()
    image[top:top + height, left:left + width] = MEAN_COLOUR
    return image


def _generate(source, columns):
    return ds.GeneratorDataset(source, columns, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def _map_in_python(dataset, function, threads):
    return dataset.map(lambda image, position: (function(image, position), position), ['image', 'position'],
                       ['image', 'position'], num_parallel_workers=threads)


def _batch(dataset, batch_size):
    # MindSpore has this for the whole process only, and reads it when the iterator is made
    ds.config.set_prefetch_size(PREFETCH)
    return dataset.batch(batch_size, num_parallel_workers=1)


def _resizing(interpolation):
    chosen = known('interpolation', interpolation, INTERPOLATIONS)
    return lambda size: vision.Resize(size, chosen)


def _to_network(bgr, as_uint8):
    swap = [vision.ConvertColor(vision.ConvertMode.COLOR_RGB2BGR)] if bgr else []
    scaled = [[255 * value for value in statistic] for statistic in (MEAN, STD)]
    return swap + ([] if as_uint8 else [vision.Normalize(*scaled)]) + [vision.HWC2CHW()]


def _height_width(image_size):
    return (image_size, image_size) if np.isscalar(image_size) else tuple(image_size)
