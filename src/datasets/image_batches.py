"""Images on disk -> batches for the network, decoded and resized by MindSpore's C++ operators.

What is random (where to crop, whether to flip) is drawn in numpy from (seed, place of the image in the epoch), not by
MindSpore's random operators: those take their seed from a global when the iterator is made, and give other
pictures with another number of workers. So an epoch is the same to the last bit whatever the number of
workers and however often it is read, and skipping steps reads nothing.
"""
import contextlib
import glob
import os
from multiprocessing import cpu_count

import mindspore.dataset as ds
import mindspore.dataset.vision as vision
import numpy as np

from src.errors import InputError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# erased pixels: the mean colour, 0 after normalisation up to rounding
MEAN_COLOUR = np.round(np.array(MEAN) * 255).astype(np.uint8)
PAD = 10
# batches made ahead of the network; MindSpore's default of 16 would hold 2.5 GB at 256 float32 images of 224 x 224
PREFETCH = 4


def create_train_dataset(images, batches, labels, transform='random_resized_crop', image_size=224, seed=0,
                         num_workers=2, skip=0, mask=None, flip=0.5, bgr=False, rank=0, size=1):
    """One epoch of training batches as a mindspore.dataset.

    images: ImageList. batches: int (steps, B) indices into it, from a sampler. labels: (N,) ids 0..C-1.
    transform: a name of TRAIN_TRANSFORMS. image_size: S or (H, W). seed: of this epoch, the caller derives it
    from the run's seed and the epoch. num_workers: clamped to the machine's cores. skip: leave out this many first
    batches, 0 <= skip < steps; the rest is what the whole epoch would have given. mask: (steps, B) or None. flip:
    probability of a horizontal flip. bgr: channels in the order blue, green, red, still through the RGB statistics.
    rank, size: of the sampler; the chance of an image hangs on its place in the epoch of all ranks, so that they
    augment as one process with size times the batch does.

    Columns: image float32 (B, 3, H, W), scaled to 0..1 and normalised by the ImageNet mean and deviation; label
    int32 (B,); mask float32 (B,) when given. A missing or broken image raises RuntimeError while iterating; wrap
    the loop in naming_broken_images.
    """
    steps, batch_size = np.shape(batches)
    if not 0 <= skip < steps:
        raise ValueError(f'cannot skip {skip} of {steps} batches')
    before, augment, after = TRAIN_TRANSFORMS[_known(transform, TRAIN_TRANSFORMS)](_height_width(image_size), flip)
    workers = clamp_workers(num_workers)
    columns = ['image', 'label'] + ([] if mask is None else ['mask'])
    places = np.arange(steps * size * batch_size).reshape(steps, size, batch_size)[:, rank].reshape(-1)
    source = _TrainSource(images.paths, np.asarray(batches).reshape(-1), labels, mask, places, skip * batch_size)
    dataset = ds.GeneratorDataset(source, columns + ['place'], shuffle=False, num_parallel_workers=1)
    dataset = dataset.map([vision.Decode()] + before, 'image', num_parallel_workers=workers)
    # one worker: this is Python, more of them would only wait for each other
    dataset = dataset.map(lambda image, place: augment(image, np.random.default_rng((seed, int(place)))),
                          ['image', 'place'], ['image'], num_parallel_workers=1)
    dataset = dataset.map(after + _to_network(bgr), 'image', num_parallel_workers=workers)
    return _batch(dataset.project(columns), batch_size)


def create_eval_dataset(images, batch_size, transform='resize', image_size=224, num_workers=2, bgr=False):
    """Every image of the list exactly once, in its order, without augmentation; the last batch may be short.

    transform: a name of EVAL_TRANSFORMS. Other arguments, errors and the column image float32 (B, 3, H, W) as for
    create_train_dataset.
    """
    size = _height_width(image_size)
    resize = EVAL_TRANSFORMS[_known(transform, EVAL_TRANSFORMS)](size)
    dataset = ds.GeneratorDataset(_EvalSource(images.paths), ['image'], shuffle=False, num_parallel_workers=1)
    dataset = dataset.map([vision.Decode()] + resize + _to_network(bgr), 'image',
                          num_parallel_workers=clamp_workers(num_workers))
    return _batch(dataset, batch_size)


def clamp_workers(num_workers):
    """At least one, at most the machine's cores, above which MindSpore raises."""
    return max(1, min(num_workers, cpu_count()))


@contextlib.contextmanager
def naming_broken_images(images):
    """Around a loop over a dataset of `images`: its RuntimeError becomes an InputError when an image is to blame.

    MindSpore says that an image cannot be read but not which; the images are then read again one by one (some
    hundreds a second) until the first that cannot. A RuntimeError of another cause passes unchanged.
    """
    before = _decoder_dumps()
    try:
        yield
    except RuntimeError as error:
        broken = find_broken_image(images)
        for dump in _decoder_dumps() - before:
            with contextlib.suppress(OSError):  # another rank may have been here first
                os.remove(dump)
        if broken is None:
            raise
        raise InputError(broken) from error


def find_broken_image(images):
    """One line that names the first image that is missing or cannot be decoded, or None when all can."""
    for path in images.paths:
        if not os.path.isfile(path):
            return f'{path}: no such image; restore it or remove it from the list'
    decode = vision.Decode()
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


class _TrainSource:
    """Bytes, label (, mask) and place in the epoch of the images, from row `first` on."""

    def __init__(self, paths, indices, labels, mask, places, first):
        self.paths, self.indices, self.places, self.first = paths, indices, places, first
        self.labels = np.asarray(labels, np.int32)
        self.mask = None if mask is None else np.asarray(mask, np.float32).reshape(-1)

    def __len__(self):
        return len(self.indices) - self.first

    def __getitem__(self, row):
        row += self.first
        index = self.indices[row]
        mask = () if self.mask is None else (self.mask[row],)
        return (np.fromfile(self.paths[index], np.uint8), self.labels[index], *mask, np.int64(self.places[row]))


class _EvalSource:
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        return (np.fromfile(self.paths[row], np.uint8),)


def _random_resized_crop(size, flip):
    """A random box of 0.08..1 of the area and aspect ratio 3/4..4/3, resized to H x W, flipped."""
    def augment(image, rng):
        return _flip(_crop(image, *random_box(*image.shape[:2], rng)), flip, rng)
    return [], augment, [vision.Resize(size)]


def _resize_crop(size, flip):
    """Resized to 1.125 times H x W (72 for 64), a random H x W crop of it, flipped."""
    larger = tuple(round(1.125 * side) for side in size)

    def augment(image, rng):
        return _flip(_random_crop(image, size, rng), flip, rng)
    return [vision.Resize(larger)], augment, []


def _reid(size, flip):
    """Resized to H x W, flipped, padded by 10 black pixels, a random H x W crop, a box erased with probability 0.5."""
    def augment(image, rng):
        image = np.pad(_flip(image, flip, rng), ((PAD, PAD), (PAD, PAD), (0, 0)))
        image = _random_crop(image, size, rng)
        return _erase(image, rng) if rng.random() < 0.5 else image
    return [vision.Resize(size)], augment, []


def _resize(size):
    return [vision.Resize(size)]


def _center_crop(size):
    """The short side resized to the longer of H and W, then the H x W centre."""
    return [vision.Resize(max(size)), vision.CenterCrop(size)]


# name -> function(size, flip) -> (operators before, function(image uint8 (h, w, 3), rng), operators after)
TRAIN_TRANSFORMS = {'random_resized_crop': _random_resized_crop, 'resize_crop': _resize_crop, 'reid': _reid}
# name -> function(size) -> operators
EVAL_TRANSFORMS = {'resize': _resize, 'center_crop': _center_crop}


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
    return np.ascontiguousarray(image[:, ::-1]) if rng.random() < probability else image


def _erase(image, rng):
    """Paint a box of 0.02..0.4 of the area, ratio 0.3..1/0.3, in the mean colour (Zhong et al., arXiv 1708.04896)."""
    top, left, height, width = random_box(*image.shape[:2], rng, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3))
    image = image.copy()
    image[top:top + height, left:left + width] = MEAN_COLOUR
    return image


def _batch(dataset, batch_size):
    # MindSpore has this for the whole process only, and reads it when the iterator is made
    ds.config.set_prefetch_size(PREFETCH)
    return dataset.batch(batch_size, num_parallel_workers=1)


def _to_network(bgr):
    swap = [vision.ConvertColor(vision.ConvertMode.COLOR_RGB2BGR)] if bgr else []
    scaled = [[255 * value for value in statistic] for statistic in (MEAN, STD)]
    return swap + [vision.Normalize(*scaled), vision.HWC2CHW()]


def _height_width(image_size):
    return (image_size, image_size) if np.isscalar(image_size) else tuple(image_size)


def _known(transform, table):
    if transform not in table:
        raise InputError(f'transform {transform!r}: unknown; choose from {", ".join(table)}')
    return transform
