"""Images per second: our training pipeline, MindSpore's fused random crop, and PIL (and cv2) in a Python generator.

    python benchmarks/image_pipeline.py [--list LIST] [--images 400] [--image_size 224] [--workers 2]

Reads the first images of a list, or of generated 480 x 400 JPEG pictures, with all ways in turn, three rounds, and
prints the median rate of each and its ratio to ours.
"""
import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import mindspore.dataset as ds
import mindspore.dataset.vision as vision
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from src.datasets.image_batches import MEAN, STD, clamp_workers, random_box, train_dataset  # noqa: E402
from src.datasets.image_list import ImageList, read_image_list  # noqa: E402

try:
    import cv2
except ImportError:
    cv2 = None

BATCH = 20


def ours(images, size, workers):
    batches = np.arange(len(images)).reshape(-1, BATCH)
    return train_dataset(images, images.labels, batches, transform='random_resized_crop', image_size=size,
                         num_workers=workers)


def fused(images, size, workers):
    def rows():
        for path in images.paths:
            yield (np.fromfile(path, np.uint8),)
    scaled = [[255 * value for value in statistic] for statistic in (MEAN, STD)]
    operators = [vision.RandomCropDecodeResize(size, (0.08, 1.0), (3 / 4, 4 / 3)), vision.RandomHorizontalFlip(),
                 vision.Normalize(*scaled), vision.HWC2CHW()]
    dataset = ds.GeneratorDataset(rows, ['image'], shuffle=False)
    return dataset.map(operators, 'image', num_parallel_workers=clamp_workers(workers)).batch(BATCH)


def in_python(read, resize):
    def build(images, size, workers):
        mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

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


WAYS = {'ours': ours, 'MindSpore fused random crop': fused,
        'PIL in a Python generator': in_python(
            lambda path: np.asarray(Image.open(path).convert('RGB')),
            lambda image, size: np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR)))}
if cv2 is not None:
    WAYS['cv2 in a Python generator'] = in_python(lambda path: cv2.imread(path)[:, :, ::-1],
                                                  lambda image, size: cv2.resize(image, (size, size)))


def generated_pictures(folder, count):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        paths.append(str(Path(folder) / f'{i}.jpg'))
        coarse = Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
        coarse.resize((480, 400), Image.BICUBIC).save(paths[-1], quality=90)
    return ImageList(paths, np.zeros(count, np.int64))


def rate(build, images, size, workers):
    start = time.perf_counter()
    for _ in build(images, size, workers).create_tuple_iterator(num_epochs=1, output_numpy=True):
        pass
    return len(images) / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--list')
    parser.add_argument('--images', type=int, default=400)
    parser.add_argument('--image_size', type=int, default=224)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = read_image_list(args.list) if args.list else generated_pictures(folder, args.images)
        count = min(args.images, len(images)) // BATCH * BATCH
        images = ImageList(images.paths[:count], images.labels[:count])
        rates = {name: [] for name in WAYS}
        for _ in range(3):
            for name, build in WAYS.items():
                rates[name].append(rate(build, images, args.image_size, args.workers))
    median = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in median.items():
        print(f'{name}: {value:.0f} images/s, ours is {median["ours"] / value:.2f} times as fast')


if __name__ == '__main__':
    main()
