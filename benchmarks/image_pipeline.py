"""Images per second: our training pipeline, MindSpore's fused random crop, and PIL (and cv2) in a Python generator; the
first two with affine and colour too.

    python benchmarks/image_pipeline.py [--list LIST] [--images 400] [--image_size 224] [--workers 2]

Reads the first images of a list, or of generated 480 x 400 JPEG pictures, with all ways in turn, three rounds, and
prints the median rate of each, what an image takes of the processor in this process and those it started (the limit: cores
/ that), and its ratio to ours. Then affine and colour alone, in one thread.
"""
import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import mindspore.dataset as ds
import mindspore.dataset.vision as vision
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from src.common.imagenet import DEVIATION, MEAN  # noqa: E402
from src.datasets.augmentation import AFFINE_FROM, augmenting  # noqa: E402
from src.datasets.image_batches import EpochOptions, ImageOptions, clamp_workers, random_box, train_dataset  # noqa: E402
from src.datasets.image_list import ImageList, read_image_list  # noqa: E402
from src.recipes.recipe import RECIPES  # noqa: E402

try:
    import cv2
except ImportError:
    cv2 = None

BATCH = 20


AUGMENTATION = RECIPES['SOP', 'supcon', 'many_classes']['augmentation']


def ours(**augmentation):
    def build(images, size, workers):
        batches = np.arange(len(images)).reshape(-1, BATCH)
        options = ImageOptions((size, size), 'random_resized_crop', num_workers=workers)
        return train_dataset(images, images.labels, batches, None, options, EpochOptions(augmentation=augmentation))
    return build


def fused(*augmentation):
    def build(images, size, workers):
        def rows():
            for path in images.paths:
                yield (np.fromfile(path, np.uint8),)
        scaled = [[255 * value for value in statistic] for statistic in (MEAN, DEVIATION)]
        operators = [vision.RandomCropDecodeResize(size, (0.08, 1.0), (3 / 4, 4 / 3)), vision.RandomHorizontalFlip(),
                     *augmentation, vision.Normalize(*scaled), vision.HWC2CHW()]
        dataset = ds.GeneratorDataset(rows, ['image'], shuffle=False)
        return dataset.map(operators, 'image', num_parallel_workers=clamp_workers(workers)).batch(BATCH)
    return build


def fused_augmented():
    """Its own operators of the same strengths; tints and the size that ours are turned at it does not have."""
    affine, colour = AUGMENTATION['affine'], AUGMENTATION['colour']
    return fused(vision.RandomAffine(affine['rotation'], (affine['shift'],) * 2, affine['scale'],
                                     resample=vision.Inter.BILINEAR),
                 vision.RandomColorAdjust(*([1 - colour[name], 1 + colour[name]] for name in ('brightness', 'contrast'))))


def in_python(read, resize):
    def build(images, size, workers):
        mean, std = np.array(MEAN, np.float32), np.array(DEVIATION, np.float32)

        def rows():
            rng = np.random.default_rng(0)
            for path in images.paths:
                image = read(path)
                top, left, height, width = random_box(*image.shape[:2], rng)
                image = resize(image[top:top + height, left:left + width], size)
                image = image[:, ::-1] if rng.random() < 0.5 else image
                yield (np.ascontiguousarray(((image.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)),)
        return ds.GeneratorDataset(rows, ['image'], shuffle=False).batch(BATCH)
    return build


# name -> (build, which of ours it is measured against)
WAYS = {'ours': (ours(), 'ours'), 'MindSpore fused random crop': (fused(), 'ours'),
        'PIL in a Python generator': (in_python(
            lambda path: np.asarray(Image.open(path).convert('RGB')),
            lambda image, size: np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR))), 'ours')}
if cv2 is not None:
    WAYS['cv2 in a Python generator'] = (in_python(lambda path: cv2.imread(path)[:, :, ::-1],
                                                   lambda image, size: cv2.resize(image, (size, size))), 'ours')
AUGMENTED = 'ours with affine and colour'
WAYS[AUGMENTED] = (ours(**AUGMENTATION), AUGMENTED)
WAYS['MindSpore fused with RandomAffine and RandomColorAdjust'] = (fused_augmented(), AUGMENTED)


def generated_pictures(folder, count):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        paths.append(str(Path(folder) / f'{i}.jpg'))
        coarse = Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
        coarse.resize((480, 400), Image.BICUBIC).save(paths[-1], quality=90)
    return ImageList(paths, np.zeros(count, np.int64))


def measure(work, count):
    """-> (images/s, seconds of the processor an image)."""
    start, processor = time.perf_counter(), sum(os.times()[:4])
    work()
    seconds = time.perf_counter() - start
    return count / seconds, (sum(os.times()[:4]) - processor) / count


def rate(build, images, size, workers):
    def work():
        for _ in build(images, size, workers).create_tuple_iterator(num_epochs=1, output_numpy=True):
            pass
    return measure(work, len(images))


def augmentation_rate(count, size):
    """Of one random picture."""
    given = round(AFFINE_FROM * size)
    picture = np.random.default_rng(0).integers(0, 256, (given, given, 3), np.uint8)
    augment = augmenting(AUGMENTATION, (size, size), 0)
    return measure(lambda: [augment(picture, position) for position in range(count)], count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--list')
    parser.add_argument('--images', type=int, default=400)
    parser.add_argument('--image_size', type=int, default=224)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    measured = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        images = read_image_list(args.list) if args.list else generated_pictures(folder, args.images)
        count = min(args.images, len(images)) // BATCH * BATCH
        images = ImageList(images.paths[:count], images.labels[:count])
        for _ in range(3):
            for name, (build, _) in WAYS.items():
                measured[name].append(rate(build, images, args.image_size, args.workers))
            measured['alone'].append(augmentation_rate(count, args.image_size))
    median = {name: np.median(values, axis=0) for name, values in measured.items()}
    for name, (_, own) in WAYS.items():
        print(f'{name}: {median[name][0]:.0f} images/s, {1000 * median[name][1]:.2f} ms of the processor an image, '
              f'{own} is {median[own][0] / median[name][0]:.2f} times as fast')
    print(f'affine and colour alone, one thread: {median["alone"][0]:.0f} images/s')


if __name__ == '__main__':
    main()
