"""Images per second of our training pipeline, of MindSpore's fused random crop, and of PIL and cv2 in a Python generator.

    python benchmarks/image_pipeline.py [--list LIST] [--images 400] [--image_size 224] [--workers 2]

Reads the first images of a list, or generated 480 x 400 JPEG pictures, in all ways in turn, three rounds; the first two ways
also with affine and colour. Prints the median rate of each, the processor time of an image in this process and those that it
started (the limit of the rate is the cores divided by it), and its ratio to ours. Then affine and colour alone, in one
thread.
"""
import gc
import tempfile
from pathlib import Path

import mindspore.dataset as ds
import mindspore.dataset.vision as vision
import numpy as np
import tools
from PIL import Image

from src.common.imagenet import DEVIATION, MEAN
from src.datasets.augmentation import AFFINE_FROM, augmenting
from src.datasets.image_batches import EpochOptions, ImageOptions, clamp_workers, random_box, train_dataset
from src.datasets.image_list import ImageList, read_image_list
from src.recipes.recipe import make_recipe

try:
    import cv2
except ImportError:
    cv2 = None

BATCH = 20
AUGMENTATION = make_recipe('SOP', 'norm_softmax', 'pretrained').augmentation


def ours(augmentation=None):
    def build(images, size, workers):
        batches = np.arange(len(images)).reshape(-1, BATCH)
        options = ImageOptions((size, size), 'random_resized_crop', num_workers=workers)
        return train_dataset(images, images.labels, batches, None, options, EpochOptions(augmentation=augmentation or {}))
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
    """MindSpore's operators at the same strengths. They have no tint, and turn the image at its final size."""
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


# Name -> (build, which of ours it is compared with).
WAYS = {'ours': (ours(), 'ours'), 'MindSpore fused random crop': (fused(), 'ours'),
        'PIL in a Python generator': (in_python(
            lambda path: np.asarray(Image.open(path).convert('RGB')),
            lambda image, size: np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR))), 'ours')}
if cv2 is not None:
    WAYS['cv2 in a Python generator'] = (in_python(lambda path: cv2.imread(path)[:, :, ::-1],
                                                   lambda image, size: cv2.resize(image, (size, size))), 'ours')
AUGMENTED = 'ours with affine and colour'
WAYS[AUGMENTED] = (ours(AUGMENTATION), AUGMENTED)
WAYS['MindSpore fused with RandomAffine and RandomColorAdjust'] = (fused_augmented(), AUGMENTED)


def generated_pictures(folder, count):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        paths.append(str(Path(folder) / f'{i}.jpg'))
        coarse = Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
        coarse.resize((480, 400), Image.BICUBIC).save(paths[-1], quality=90)
    return ImageList(paths, np.zeros(count, np.int64))


def read_all(build, images, size, workers):
    for _ in build(images, size, workers).create_tuple_iterator(num_epochs=1, output_numpy=True):
        pass


def augment_alone(count, size):
    """Augment `count` random pictures in one thread."""
    given = round(AFFINE_FROM * size)
    picture = np.random.default_rng(0).integers(0, 256, (given, given, 3), np.uint8)
    augment = augmenting(AUGMENTATION, (size, size), 0)
    for position in range(count):
        augment(picture, position)


def main():
    args = tools.parser(__doc__, list='', images=400, image_size=224, workers=2).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = read_image_list(args.list) if args.list else generated_pictures(folder, args.images)
        count = min(args.images, len(images)) // BATCH * BATCH
        images = ImageList(images.paths[:count], images.labels[:count])
        # Collecting ends the processes of a pipeline: the time of children counts when they have ended.
        taken = tools.in_turns({name: lambda build=build: read_all(build, images, args.image_size, args.workers)
                                for name, (build, _) in WAYS.items()}, 3, finish=gc.collect)
    for name, (_, own) in WAYS.items():
        wall, cpu = taken[name]
        print(f'{name}: {count / wall:.0f} images/s, {1000 * cpu / count:.2f} ms of the processor an image, '
              f'{own} is {wall / taken[own].wall:.2f} times as fast')
    wall, cpu = tools.in_turns({'alone': lambda: augment_alone(count, args.image_size)}, 3)['alone']
    print(f'affine and colour alone, one thread: {count / wall:.0f} images/s, '
          f'{1000 * cpu / count:.2f} ms of the processor an image')


if __name__ == '__main__':
    main()
