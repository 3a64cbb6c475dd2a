"""The pipelines on small generated pictures, against PIL and numpy."""
import os
import subprocess
import threading
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.dataset import vision
from PIL import Image

from src.common.errors import InputError
from src.common.imagenet import DEVIATION, MEAN
from src.common.values import height_width
from src.datasets import image_batches
from src.datasets.decoding import read_picture
from src.datasets.image_batches import (
    EpochOptions,
    ImageOptions,
    _Source,
    random_box,
    reading,
)
from src.datasets.image_list import ImageList
from src.datasets.resizing import INTERPOLATIONS
from src.networks.heads import ImageNetwork

COUNT = 320
TORCH = Path.home() / '.cache/torch-peer/bin/python'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(0)
    paths = []
    for i in range(COUNT):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        paths.append(str(folder / f'picture {i}.jpg'))
        Image.fromarray(coarse).resize((60 + i % 37, 50 + i % 23), Image.BICUBIC).save(paths[-1], quality=90)
    return ImageList(paths, np.arange(COUNT) // 4)


def train_dataset(images, labels, indices, mask=None, transform='random_resized_crop', image_size=224, **options):
    """The dataset with the options of both kinds by name."""
    of_epoch = {name: options.pop(name) for name in EpochOptions.__dataclass_fields__ if name in options}
    return image_batches.train_dataset(images, labels, indices, mask, ImageOptions(
        height_width(image_size), transform, **options), EpochOptions(**of_epoch))


def eval_dataset(images, batch_size, transform='resize', image_size=224, **options):
    return image_batches.eval_dataset(images, ImageOptions(height_width(image_size), transform, **options), batch_size)


def read(dataset):
    return [tuple(batch) for batch in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)]


def same(first, second):
    return len(first) == len(second) and all(
        len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b)) for a, b in zip(first, second))


def normalised(picture):
    return ((picture / 255 - np.array(MEAN)) / np.array(DEVIATION)).transpose(2, 0, 1).astype(np.float32)


def bilinear(picture, size):
    """Bilinear interpolation between the four pixels around each centre, edges repeated."""
    def around(have, want):
        centre = np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, have - 1)
        low = np.floor(centre).astype(int)
        return low, np.minimum(low + 1, have - 1), centre - low
    picture = picture.astype(float)
    top, bottom, down = around(picture.shape[0], size[0])
    left, right, along = around(picture.shape[1], size[1])
    rows = picture[top] * (1 - down)[:, None, None] + picture[bottom] * down[:, None, None]
    return rows[:, left] * (1 - along)[:, None] + rows[:, right] * along[:, None]


def pixels(path):
    return np.asarray(Image.open(path).convert('RGB'))


def assert_close(image, picture, levels=1.0):
    """Equal up to `levels` of 255: resized pictures are rounded to integers."""
    assert np.abs(image - normalised(picture)).max() <= levels / 255 / min(DEVIATION) + 1e-5


BOTH = {'affine': {}, 'colour': {'brightness': 0.3, 'contrast': 0.3, 'saturation': 0.3, 'tint': 0.2, 'grey': 0.2}}
BATCHES = np.random.default_rng(1).permutation(COUNT).reshape(10, 32)
# Where whole epochs are read again and again.
SMALL = BATCHES[:, :8]


@pytest.mark.parametrize('transform, augmentation', [
    ('random_resized_crop', {}), ('resize_crop', {}), ('reid', {}), ('random_resized_crop', BOTH), ('resize', BOTH),
    ('reid', BOTH)])
def test_same_arguments_same_epoch_and_skip(images, transform, augmentation):
    options = dict(transform=transform, image_size=(48, 40), mask=(SMALL % 3 > 0), augmentation=augmentation)
    labels = images.labels * 2
    epoch = read(train_dataset(images, labels, SMALL, seed=5, num_workers=1, **options))
    assert len(epoch) == 10
    for (image, label, mask), rows in zip(epoch, SMALL):
        assert image.shape == (8, 3, 48, 40) and image.dtype == np.float32
        assert label.dtype == np.int32 and (label == labels[rows]).all()
        assert mask.dtype == np.float32 and (mask == (rows % 3 > 0)).all()
    for workers in (1, 2, 2, 64):
        assert same(epoch, read(train_dataset(images, labels, SMALL, seed=5, num_workers=workers, **options)))
    for skip in (1, 4, 9):
        assert same(epoch[skip:], read(train_dataset(images, labels, SMALL, seed=5, skip=skip, **options)))
    other = read(train_dataset(images, labels, SMALL, seed=6, **options))
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(epoch, other))
    with pytest.raises(ValueError, match='skip'):
        train_dataset(images, labels, SMALL, skip=10)


def test_ranks_augment_as_one_process_with_all_their_batches(images):
    def read_epoch(batches, **options):
        return read(train_dataset(images, images.labels, batches, transform='resize_crop', image_size=16, seed=5, **options))

    whole, shares = read_epoch(SMALL), SMALL.reshape(10, 2, 4)
    for rank in range(2):
        for skip in (0, 3):
            mine = read_epoch(shares[:, rank], rank=rank, size=2, skip=skip)
            part = [[column[4 * rank:4 * rank + 4] for column in columns] for columns in whole[skip:]]
            assert same(mine, part)


@pytest.mark.parametrize('workers', [1, 2])
def test_an_augmentation_that_fails_is_no_broken_image(images, workers):
    few = ImageList(images.paths[:40], images.labels[:40])
    dataset = train_dataset(few, few.labels, np.arange(40).reshape(10, 4), image_size=16, num_workers=workers,
                            augmentation={'affine': {'rotation': float('inf')}})
    with pytest.raises(RuntimeError, match='ValueError'):
        with reading(few):
            read(dataset)


def test_random_state_of_others_is_left_alone(images):
    np.random.seed(3)
    expected = np.random.RandomState(3).random_sample(4)
    read(train_dataset(images, images.labels, BATCHES[:1], seed=5, image_size=16))
    assert (np.random.random_sample(4) == expected).all()


def test_random_resized_crop_is_the_box_it_says(images):
    """Whole pipeline against numpy: the box drawn from (seed, position), resized by hand, flipped."""
    flipped = 0
    (image, label), = read(train_dataset(images, images.labels, BATCHES[:1], image_size=(24, 20), seed=9))
    for place, index in enumerate(BATCHES[0]):
        rng = np.random.default_rng((9, place))
        picture = pixels(images.paths[index])
        top, left, height, width = random_box(*picture.shape[:2], rng)
        expected = bilinear(picture[top:top + height, left:left + width], (24, 20))
        if rng.random() < 0.5:
            expected, flipped = expected[:, ::-1], flipped + 1
        assert_close(image[place], expected)
    assert 4 < flipped < 28


def test_random_box_statistics():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(100, 100, rng) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 100).all() and (left + width <= 100).all()
    area, ratio = height * width / 1e4, width / height
    assert area.min() > 0.07 and area.max() > 0.9 and 0.45 < area.mean() < 0.56
    assert ratio.min() > 0.7 and ratio.max() < 1.4 and abs(np.log(ratio).mean()) < 0.02
    assert random_box(10, 1000, rng, scale=(0.9, 1.0)) == (0, 493, 10, 13)
    assert random_box(1000, 10, rng, scale=(0.9, 1.0)) == (493, 0, 13, 10)


def solid(tmp_path, colour, size=(64, 64), name='solid.png'):
    Image.new('RGB', size, colour).save(tmp_path / name)
    return ImageList([str(tmp_path / name)], np.array([0]))


def test_resize_crop_positions(tmp_path):
    """A picture whose red is its column and green its row tells where each crop was taken."""
    ramp = np.zeros((72, 72, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(72), np.arange(72)[:, None]
    Image.fromarray(ramp).save(tmp_path / 'ramp.png')
    images = ImageList([str(tmp_path / 'ramp.png')], np.array([0]))
    batches = np.zeros((1, 400), int)
    (image, _), = read(train_dataset(images, images.labels, batches, transform='resize_crop', image_size=64, seed=2))
    colours = (image.transpose(0, 2, 3, 1) * np.array(DEVIATION) + np.array(MEAN)) * 255
    columns, rows = np.rint(colours[:, 0, :, 0]), np.rint(colours[:, :, 0, 1])
    flipped = columns[:, 0] > columns[:, -1]
    assert 150 < flipped.sum() < 250
    columns[flipped] = columns[flipped, ::-1]
    assert (np.diff(columns) == 1).all() and (np.diff(rows) == 1).all()
    assert set(columns[:, 0]) == set(range(9)) and set(rows[:, 0]) == set(range(9))
    (straight, _), = read(train_dataset(images, images.labels, batches, transform='resize_crop', image_size=64, seed=2, flip=0))
    assert (straight[:, 0, 0, 0] < straight[:, 0, 0, -1]).all()


def test_reid_pads_and_erases(tmp_path):
    white = solid(tmp_path, (255, 255, 255), (32, 64))
    (image, _), = read(train_dataset(white, [0], np.zeros((1, 300), int), transform='reid', image_size=(64, 32), seed=4))
    black, light = normalised(np.zeros((1, 1, 3))), normalised(np.full((1, 1, 3), 255.))
    is_black, is_light = (np.abs(image - value).max(1) < 1e-4 for value in (black, light))
    erased = np.abs(image).max(1) < 0.02
    assert (is_black | is_light | erased).all()
    assert 110 < erased.any((1, 2)).sum() < 190
    for area in erased[erased.any((1, 2))]:
        rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
        assert area[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()
        assert 0.015 < area.mean() < 0.42
    plain = is_black[~erased.any((1, 2))]
    borders = plain[:, :, 16].sum(1)
    assert borders.max() == 10 and borders.min() == 0 and len(set(borders)) == 11


def test_eval_resize_every_image_once_in_order(images):
    few = ImageList(images.paths[:21], images.labels[:21])
    batches = read(eval_dataset(few, batch_size=8, transform='resize', image_size=(24, 20)))
    assert [len(image) for image, in batches] == [8, 8, 5]
    for image, path in zip(np.concatenate([image for image, in batches]), few.paths):
        assert_close(image, bilinear(pixels(path), (24, 20)))
    assert same(batches, read(eval_dataset(few, batch_size=8, transform='resize', image_size=(24, 20), num_workers=64)))
    # without resizing there is no rounding: only the decoder and the statistics remain
    height, width = pixels(few.paths[0]).shape[:2]
    (image,), = read(eval_dataset(ImageList(few.paths[:1], [0]), batch_size=4, transform='resize', image_size=(height, width)))
    np.testing.assert_allclose(image[0], normalised(pixels(few.paths[0])), atol=1e-5)


@pytest.mark.parametrize('wanted', [(32, 32), (32, 16), (16, 32)])
def test_eval_center_crop(images, wanted):
    for path in images.paths[:5]:
        (image,), = read(eval_dataset(ImageList([path], [0]), batch_size=1, transform='center_crop', image_size=wanted))
        picture = pixels(path)
        height, width = picture.shape[:2]
        short = min(height, width)
        resized = bilinear(picture, (height * 32 // short, width * 32 // short))
        # where an odd pixel is left over, either centre is a centre
        tops, lefts = ({(side - own) // 2, (side - own + 1) // 2} for side, own in zip(resized.shape[:2], wanted))
        errors = [np.abs(image[0] - normalised(resized[top:top + wanted[0], left:left + wanted[1]])).max()
                  for top in tops for left in lefts]
        assert min(errors) <= 1 / 255 / min(DEVIATION) + 1e-5


def test_bgr_goes_through_rgb_statistics(tmp_path):
    colour = solid(tmp_path, (200, 100, 20))
    expected = normalised(np.array([[[20, 100, 200]]]))
    (image,), = read(eval_dataset(colour, batch_size=1, image_size=8, bgr=True))
    np.testing.assert_allclose(image[0], np.broadcast_to(expected, (3, 8, 8)), atol=1e-5)
    (image, _), = read(train_dataset(colour, [0], [[0]], image_size=8, bgr=True))
    np.testing.assert_allclose(image[0], np.broadcast_to(expected, (3, 8, 8)), atol=1e-5)


@pytest.mark.parametrize('mode, name', [('L', 'a.jpg'), ('CMYK', 'a.jpg'), ('RGB', 'a.png'), ('RGBA', 'a.png'),
                                        ('L', 'a.png'), ('P', 'a.png'), ('RGB', 'a.bmp'), ('RGB', 'a.tiff')])
def test_other_images_become_rgb(images, tmp_path, mode, name):
    path = str(tmp_path / name)
    Image.open(images.paths[0]).convert(mode).save(path)
    picture = pixels(path)
    (image,), = read(eval_dataset(ImageList([path], [0]), batch_size=1, image_size=picture.shape[:2]))
    # decoders convert CMYK and grey with their own rounding
    assert_close(image[0], picture, levels=2)


@pytest.mark.parametrize('damage', ['truncated', 'text', 'empty', 'missing'])
@pytest.mark.parametrize('door', ['train', 'augmented', 'eval'])
def test_broken_image_is_named(images, tmp_path, monkeypatch, damage, door):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'broken.jpg'
    if damage != 'missing':
        with open(images.paths[0], 'rb') as whole:
            content = whole.read()
        path.write_bytes({'truncated': content[:len(content) // 2], 'text': b'no image', 'empty': b''}[damage])
    listed = ImageList(images.paths[:20] + [str(path)] + images.paths[20:40], np.zeros(41, int))
    if door != 'eval':
        dataset = train_dataset(listed, listed.labels, np.arange(40).reshape(10, 4), image_size=16,
                                augmentation=BOTH if door == 'augmented' else {})
    else:
        dataset = eval_dataset(listed, batch_size=4, image_size=16)
    with pytest.raises(InputError, match='broken.jpg') as caught:
        with reading(listed):
            read(dataset)
    assert '\n' not in str(caught.value)
    assert [name for name in os.listdir(tmp_path) if name != 'broken.jpg'] == []


def test_other_errors_pass(images):
    few = ImageList(images.paths[:3], images.labels[:3])
    with pytest.raises(RuntimeError, match='not an image'):
        with reading(few):
            raise RuntimeError('not an image')


def test_unknown_transform(images):
    with pytest.raises(InputError, match='random_resized_crop'):
        train_dataset(images, images.labels, BATCHES, transform='rotate')
    with pytest.raises(InputError, match='center_crop'):
        eval_dataset(images, batch_size=4, transform='reid')
    with pytest.raises(InputError, match='affine, colour'):
        train_dataset(images, images.labels, BATCHES, augmentation={'blur': {}})
    with pytest.raises(InputError, match="augmentation colour: .*'hue'; its options are brightness, contrast"):
        train_dataset(images, images.labels, BATCHES, augmentation={'colour': {'hue': 1}})
    with pytest.raises(InputError, match='border or mean'):
        train_dataset(images, images.labels, BATCHES, augmentation={'affine': {'fill': 'red'}})
    for options, message in (({'affine': {'rotation': 'x'}}, "rotation='x': expected a number"), ({'affine': 5}, '5: give its'),
                             ({'affine': {'shift': -1}}, 'shift=-1: give numbers'), ({'colour': {'grey': 7}}, 'grey=7: give')):
        with pytest.raises(InputError, match=message):
            train_dataset(images, images.labels, BATCHES, augmentation=options)
    for scale in ([0.0, 0.0], [1.2, 0.8], [1.0], [float('nan'), 1.0], 1.2, ['a', 'b'], [None, 1]):
        with pytest.raises(InputError, match='two positive factors'):
            train_dataset(images, images.labels, BATCHES, augmentation={'affine': {'scale': scale}})
    with pytest.raises(InputError, match='bilinear, bicubic'):
        eval_dataset(images, batch_size=4, interpolation='cubic')


def test_an_epoch_that_is_left_early_leaves_no_threads(images):
    def decoding():
        # threading counts threads of MindSpore too that are long gone
        return {thread for thread in threading.enumerate() if thread.name.startswith('ThreadPoolExecutor')}

    before = decoding()
    rows = iter(_Source(images, 3, np.zeros(100, int)))
    next(rows)
    assert decoding() - before
    rows.close()
    assert not decoding() - before


def test_reading_lets_the_end_pass(images):
    few = images.select(slice(3))
    iterator = iter(eval_dataset(few, batch_size=2, image_size=8).create_tuple_iterator())
    sizes = []
    with pytest.raises(StopIteration):
        while True:
            with reading(few):
                sizes.append(len(next(iterator)[0]))
    assert sizes == [2, 1]


@pytest.mark.parametrize('mode, levels', [('RGB', 0), ('L', 0), ('CMYK', 1)])
def test_decode_is_mindspores(images, tmp_path, mode, levels):
    """To the last bit, but of CMYK, which each rounds in its way."""
    for number, path in enumerate(images.paths[:8]):
        name = tmp_path / f'{number}.jpg'
        Image.open(path).convert(mode).save(name, quality=50 + 6 * number, subsampling=number % 3, progressive=number > 4)
        content = np.fromfile(name, np.uint8)
        picture = read_picture(str(name))
        assert picture.dtype == np.uint8
        assert np.abs(picture.astype(int) - vision.Decode()(content)).max() <= levels


def test_uint8_batches_are_normalised_on_the_device(images):
    options = dict(transform='resize_crop', image_size=16, seed=3)
    nothing = nn.Identity()
    nothing.out_channels, nothing.new_layers, nothing.mean, nothing.deviation = 3, (), MEAN, DEVIATION
    device = ImageNetwork(nothing, nothing)
    for bgr in (False, True):
        (whole, _), = read(train_dataset(images, images.labels, BATCHES[:1], bgr=bgr, **options))
        (pixel, _), = read(train_dataset(images, images.labels, BATCHES[:1], bgr=bgr, as_uint8=True, **options))
        assert pixel.dtype == np.uint8 and pixel.shape == whole.shape
        np.testing.assert_allclose(device(ms.Tensor(pixel)).asnumpy(), whole, atol=1e-5)
        np.testing.assert_array_equal(device(ms.Tensor(whole)).asnumpy(), whole)
    (pixel,), = read(eval_dataset(images.select([0]), batch_size=1, image_size=16, as_uint8=True))
    (whole,), = read(eval_dataset(images.select([0]), batch_size=1, image_size=16))
    np.testing.assert_allclose((pixel / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(DEVIATION, (3, 1, 1)), whole, atol=1e-5)


def test_normalisation_by_a_backbone_of_its_own_statistics(tmp_path):
    colour = solid(tmp_path, (200, 100, 20))
    own = dict(image_size=8, mean=(0.5, 0.4, 0.3), deviation=(0.5, 0.25, 1.0))
    expected = [(200 / 255 - 0.5) / 0.5, (100 / 255 - 0.4) / 0.25, (20 / 255 - 0.3) / 1.0]
    (image,), = read(eval_dataset(colour, batch_size=1, **own))
    (trained, _), = read(train_dataset(colour, [0], [[0]], **own))
    for one in (image, trained):
        np.testing.assert_allclose(one[0], np.broadcast_to(np.reshape(expected, (3, 1, 1)), (3, 8, 8)), atol=1e-5)


def test_bicubic_resizes_otherwise_but_crops_the_same(images):
    first, second = (read(train_dataset(images, images.labels, BATCHES[:1], image_size=80, seed=1, as_uint8=True,
                                        interpolation=name))[0][0].astype(int) for name in ('bilinear', 'bicubic'))
    assert 0 < np.abs(first - second).mean() < 4


def antialiased(picture, size):
    """A triangle as wide as two new pixels over the old ones around each centre, of weights that sum to 1."""
    def filters(have, want):
        scale = have / want
        away = (np.arange(want)[:, None] + 0.5) * scale - (np.arange(have) + 0.5)
        weights = np.maximum(0, 1 - np.abs(away) / max(scale, 1))
        return weights / weights.sum(1, keepdims=True)
    down, along = (filters(have, want) for have, want in zip(picture.shape, size))
    return np.einsum('ih,jw,hwc->ijc', down, along, picture.astype(float), optimize=True)


@pytest.mark.parametrize('wanted', [(24, 20), (150, 160)])
def test_antialias_is_the_filter_that_it_says_in_training_and_evaluation(images, wanted):
    options = dict(image_size=wanted, interpolation='antialias')
    (seen,), = read(eval_dataset(images.select(slice(0, 3)), batch_size=3, **options))
    for image, path in zip(seen, images.paths):
        assert_close(image, antialiased(pixels(path), wanted), levels=1.01)
    (cropped, _), = read(train_dataset(images, images.labels, BATCHES[:1], seed=9, flip=0, **options))
    for place, index in enumerate(BATCHES[0][:3]):
        picture = pixels(images.paths[index])
        top, left, height, width = random_box(*picture.shape[:2], np.random.default_rng((9, place)))
        assert_close(cropped[place], antialiased(picture[top:top + height, left:left + width], wanted), levels=1.01)
    (centre,), = read(eval_dataset(images.select([0]), batch_size=1, transform='center_crop', **options))
    height, width = pixels(images.paths[0]).shape[:2]
    short, long = min(height, width), max(wanted)
    whole = antialiased(pixels(images.paths[0]), (height * long // short, width * long // short))
    top, left = ((have - want) // 2 for have, want in zip(whole.shape, wanted))
    assert_close(centre[0], whole[top:top + wanted[0], left:left + wanted[1]], levels=1.01)


@pytest.mark.by_hand
@pytest.mark.skipif(not TORCH.exists(), reason='needs PyTorch')
def test_antialias_is_pytorchs(tmp_path):
    """640 x 427 to 64 px, as torchvision's resize of tensors: two ways to round 8 bits may differ by a level."""
    picture = np.random.default_rng(0).integers(0, 256, (427, 640, 3), dtype=np.uint8)
    np.save(tmp_path / 'x.npy', picture)
    subprocess.run([TORCH, '-c', 'import sys, numpy as np, torch; x = torch.from_numpy(np.load(sys.argv[1])).permute(2, 0, 1)'
                    '[None]; y = torch.nn.functional.interpolate(x, (64, 64), mode="bilinear", antialias=True); '
                    'np.save(sys.argv[1], y[0].permute(1, 2, 0).numpy())', tmp_path / 'x.npy'], check=True)
    ours = INTERPOLATIONS['antialias'](picture, (64, 64)).astype(int)
    assert np.abs(ours - np.load(tmp_path / 'x.npy')).max() <= 1
    assert np.abs(ours - INTERPOLATIONS['bilinear'](picture, (64, 64))).max() > 50


def augmented(images, augmentation, count=200, size=(40, 48), **options):
    """uint8 (count, H, W, 3) of the first image."""
    dataset = train_dataset(images, images.labels, np.zeros((1, count), int), transform='resize', image_size=size, flip=0,
                            augmentation=augmentation, as_uint8=True, **options)
    return read(dataset)[0][0].transpose(0, 2, 3, 1)


def test_augmentations_of_no_strength_change_nothing(images):
    plain = augmented(images, {}, 4)
    assert (augmented(images, {'colour': {}}, 4) == plain).all()
    # By way of larger pictures: the same up to interpolation.
    still = augmented(images, {'affine': {'rotation': 0, 'scale': [1, 1], 'shift': 0}, 'colour': {}}, 4)
    assert still.shape == plain.shape and np.abs(still.astype(float) - plain).mean() < 0.1 * plain.std()


def test_affine_turns_scales_and_shifts_about_the_centre(tmp_path):
    """A white square on grey: its area tells the scale, its centre the shift, its second moments the angle."""
    picture = np.full((81, 81, 3), 100, np.uint8)
    picture[34:47, 22:59] = 255
    Image.fromarray(picture).save(tmp_path / 'a.png')
    images = ImageList([str(tmp_path / 'a.png')], np.array([0]))
    options = {'rotation': 15, 'scale': [0.75, 1.25], 'shift': 0.1}
    weight = (augmented(images, {'affine': options}, 300, (81, 81))[..., 0].astype(float) - 100) / 155
    assert weight.min() > -0.01
    area = weight.sum((1, 2))
    y, x = np.mgrid[:81, :81] - 40.0
    across, down = ((weight * axis).sum((1, 2)) / area for axis in (x, y))
    dx, dy = (axis - centre[:, None, None] for axis, centre in ((x, across), (y, down)))
    angle = 0.5 * np.arctan2(2 * (weight * dx * dy).sum((1, 2)), (weight * (dx ** 2 - dy ** 2)).sum((1, 2)))
    scale = np.sqrt(area / (13 * 37))
    for values, low, high in ((np.degrees(angle), -15, 15), (scale, 0.75, 1.25), (across / 81, -0.1, 0.1),
                              (down / 81, -0.1, 0.1)):
        width = high - low
        assert values.min() > low - 0.03 * width and values.max() < high + 0.03 * width
        assert values.min() < low + 0.1 * width and values.max() > high - 0.1 * width
        assert abs(values.mean() - (low + high) / 2) < 0.1 * width
    filled = augmented(images, {'affine': dict(options, fill='mean')}, 20, (81, 81))
    assert (filled.reshape(-1, 3) == np.round(np.array(MEAN) * 255)).all(1).any()


def test_colour_is_what_it_says(images):
    """Each strength against a loop over the definition with the same draws."""
    plain = augmented(images, {}, 1)[0].astype(float)
    luminance = np.array([0.299, 0.587, 0.114])
    strengths = {'brightness': 0.4, 'contrast': 0.5, 'saturation': 0.6, 'tint': 0.2, 'grey': 0.3}
    greys = 0
    for position, picture in enumerate(augmented(images, {'colour': strengths}, 40, seed=7)):
        rng = np.random.default_rng((7, position, 1))
        bright, against, vivid, *tints = (1 + strength * draw for strength, draw in zip(
            [0.4, 0.5, 0.6, 0.2, 0.2, 0.2], rng.uniform(-1, 1, 6)))
        expected = bright * (against * plain + (1 - against) * (plain.mean((0, 1)) @ luminance))
        expected = vivid * expected + (1 - vivid) * (expected @ luminance)[..., None]
        expected = expected * tints
        if rng.random() < 0.3:
            greys += 1
            expected = np.repeat((expected @ luminance)[..., None], 3, axis=2)
        # half a level of rounding, and what rounding the mean colour adds
        assert np.abs(picture - np.clip(expected, 0, 255)).max() < 1.1
    assert 4 < greys < 24


@pytest.mark.skipif(not os.path.isdir('/proc/self/task'), reason='counts the threads of Linux')
def test_an_augmented_epoch_that_is_left_early_leaves_nothing(images):
    def threads():
        return len(os.listdir('/proc/self/task'))

    def leave(taken):
        batches = train_dataset(images, images.labels, BATCHES, image_size=32, augmentation=BOTH).create_tuple_iterator(
            num_epochs=1, output_numpy=True)
        for _ in range(taken):
            next(batches)
        return threads()
    leave(1)
    before = threads()
    assert max(leave(taken) for taken in (0, 1, 3)) > before
    # the decoding threads end with the source, which may take as long as a picture
    until = time.monotonic() + 10
    while threads() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert threads() <= before
