"""Data sets of rendered pictures in the published layouts, for quick starts and tests.

    python -m src.samples.image_sample products FOLDER     Stanford Online Products: lists and folders
    python -m src.samples.image_sample market FOLDER       FOLDER/market1501
    python -m src.samples.image_sample duke FOLDER         FOLDER/DukeMTMC-reID
    python -m src.samples.image_sample described FOLDER    classes with attributes, some of them without training images

`--easy` draws calmer pictures of products, with more training classes than test classes, and more persons, so that a
small network learns them in a minute.

Every picture is a function of the seed and of its number, so that the same call writes the same bytes. Results on these
pictures show that a pipeline works; they say nothing about accuracy on the real data.
"""
import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from src.common.arrays import Array
from src.common.errors import InputError
from src.common.files import replacing
from src.common.registry import check_choice
from src.common.run import run
from src.common.values import Parser, natural

Folder = Union[str, Path]
Picture = Image.Image
Colour = Tuple[int, int, int]
Counts = Dict[str, int]
Rng = np.random.Generator

SPRITE = 160   # pixels of a product drawn once for its class, before the viewpoint is applied

# Few colours for many classes, and the backgrounds use them too: a colour identifies no class.
PALETTE = np.array([(196, 52, 48), (36, 92, 168), (232, 184, 56), (52, 132, 84),
                    (240, 236, 226), (44, 44, 52), (150, 104, 68), (140, 148, 160)], np.float32)
PALETTES = 6

# Parts of each silhouette: form, index of the colour, then points, or left top right bottom, in percent, y downwards.
# The part of colour 0 has the texture.
PRODUCTS = {
    'bicycle': 'ring 1 2 48 44 90, ring 1 56 48 98 90, polygon 0 20 70 38 30 76 30 80 70 70 42 50 72, box 2 26 20 50 28',
    'cabinet': 'box 0 15 5 85 95, box 1 22 50 78 54, ellipse 2 44 20 56 32',
    'chair': 'polygon 0 20 5 36 5 40 50 84 50 84 64 24 64, polygon 1 24 64 34 64 30 97 20 97, '
             'polygon 1 74 64 84 64 88 97 78 97',
    'coffee_maker': 'polygon 0 15 5 85 5 85 25 40 25 40 95 15 95, box 1 40 85 88 95, polygon 2 48 45 80 45 84 83 44 83',
    'fan': 'box 1 46 50 54 90, ellipse 0 16 2 84 70, ellipse 2 42 28 58 44, ellipse 1 26 86 74 98',
    'kettle': 'ring 1 30 2 70 50, polygon 2 70 50 97 30 97 40 75 75, ellipse 0 12 28 82 96, '
              'polygon 1 36 26 58 26 60 33 34 33',
    'lamp': 'box 1 46 40 54 92, polygon 0 34 5 66 5 88 50 12 50, ellipse 2 28 86 72 98',
    'mug': 'ring 1 56 28 98 74, polygon 0 10 12 74 12 70 94 14 94, ellipse 2 10 5 74 20',
    'sofa': 'box 0 8 20 92 75, box 1 2 40 16 85, box 1 84 40 98 85, box 2 16 58 84 78',
    'stapler': 'box 1 5 76 97 86, polygon 0 8 32 30 20 97 50 97 64 8 64, ellipse 2 8 50 30 76',
    'table': 'polygon 1 14 36 24 36 20 95 10 95, polygon 1 76 36 86 36 90 95 80 95, polygon 0 16 14 84 14 97 38 3 38, '
             'box 2 22 60 78 68',
    'toaster': 'box 2 25 8 75 50, polygon 0 12 26 88 26 94 90 6 90, ellipse 1 70 58 84 72',
}

CLOTHES = [(190, 44, 44), (40, 70, 150), (236, 232, 224), (36, 36, 42), (228, 184, 60), (60, 124, 70),
           (120, 120, 130), (140, 90, 150), (150, 104, 70), (110, 170, 210)]
SKIN = [(236, 196, 168), (200, 150, 116), (140, 96, 68), (92, 62, 46)]
HAIR = [(30, 24, 22), (92, 60, 36), (196, 160, 90), (120, 116, 112)]
SIDES = ('front', 'back', 'side')
# Arguments of --easy.
EASY_PRODUCTS: Dict[str, Any] = {'classes': 72, 'test_classes': 24, 'size': 64, 'mess': 0.4}
EASY_DESCRIBED: Dict[str, Any] = {'mess': 0.4}
REID_FOLDERS = {'market': 'market1501', 'duke': 'DukeMTMC-reID'}
REID_PARTS = {'train': 'bounding_box_train', 'query': 'query', 'gallery': 'bounding_box_test', 'junk': 'bounding_box_test'}


def make_products(folder: Folder, classes: int = 48, images_per_class: int = 16, size: int = 96, seed: int = 0, *,
                  test_classes: Optional[int] = None, mess: float = 1) -> Counts:
    """Render a product set in the layout of Stanford Online Products.

    Args:
        folder: new or empty folder for `Ebay_train.txt`, `Ebay_test.txt` (header, then `image_id class_id super_class_id path`)
            and `<super class>_final/*.JPG`.
        classes: product classes of both lists together; the first ones are for training.
        test_classes: number of classes for the test; None: half of all, rounded up.
        images_per_class: pictures of each class.
        size: width and height in pixels.
        seed: same seed, same bytes.
        mess: share of the usual clutter, turning and changes of light, 0..1.

    Returns:
        numbers of `train_images`, `train_classes`, `test_images`, `test_classes`.

    Raises:
        InputError: the folder is not empty, or a number is too small.
    """
    if classes < 2 or images_per_class < 2 or size < 16:
        raise InputError(f'{folder}: a product set needs at least 2 classes, 2 images per class and 16 pixels, '
                         f'not {classes}, {images_per_class} and {size}')
    names, image_id, train = sorted(PRODUCTS), 0, classes // 2 if test_classes is None else classes - test_classes
    with _new_folder(folder) as root:
        for split, numbers in (('train', range(train)), ('test', range(train, classes))):
            # Class ids rise with the super class within a list, as in the real files.
            kinds = sorted(number % len(names) for number in numbers)
            rows = ['image_id class_id super_class_id path']
            for number, kind in zip(numbers, kinds):
                sprite = _product_sprite(names[kind], number, np.random.default_rng([seed, 1, number]))
                for view in range(images_per_class):
                    image_id += 1
                    name = f'{names[kind]}_final/{111000000000 + number}_{view}.JPG'
                    _save(_photograph(sprite, size, np.random.default_rng([seed, 2, number, view]), mess), root / name)
                    rows.append(f'{image_id} {number + 1} {kind + 1} {name}')
            (root / f'Ebay_{split}.txt').write_text('\n'.join(rows) + '\n')
    return {'train_images': train * images_per_class, 'train_classes': train,
            'test_images': (classes - train) * images_per_class, 'test_classes': classes - train}


def make_reid(folder: Folder, style: str = 'market', identities: int = 48, cameras: int = 0, seed: int = 0) -> Counts:
    """Render a person re-identification set: figures of 128 x 64 pixels (height x width) seen by several cameras.

    An identity is a build and its clothes; a camera is a background, an illumination and a preferred viewpoint. 1 to
    `cameras` cameras see an identity, each of them 1 to 6 times. Half of the identities are for training. Of a test identity
    seen by two or more cameras, each camera that saw it at least twice gives one query; all other pictures are gallery. So
    every query has a match from another camera, and identities of one camera are distractors.

    Args:
        folder: where `market1501` or `DukeMTMC-reID` is made, with `bounding_box_train`, `query` and `bounding_box_test`.
        style: 'market' (`0002_c1s1_000451_03.jpg`, and junk of person -1 in the gallery) or 'duke' (`0005_c2_f0046985.jpg`).
        identities: persons of training and test together.
        cameras: 2 to 9, or 0 for 6 (market) or 8 (duke).
        seed: same seed, same bytes.

    Returns:
        numbers of `train_images`, `train_identities`, `query_images`, `gallery_images` (without junk), `junk_images`,
        `test_identities`, `cameras`.

    Raises:
        InputError: unknown style, the folder is not empty, or a number is out of range.
    """
    check_choice(REID_FOLDERS, style, 'style')
    cameras = cameras or {'market': 6, 'duke': 8}[style]
    if identities < 4 or not 2 <= cameras <= 9:
        raise InputError(f'{folder}: a re-identification set needs at least 4 identities and 2 to 9 cameras, '
                         f'not {identities} and {cameras}')
    rng = np.random.default_rng([seed, 3])
    views = [_Camera(np.random.default_rng([seed, 4, camera])) for camera in range(cameras)]
    # Real person numbers have gaps and are mixed between training and test.
    persons = np.sort(rng.choice(np.arange(1, 2 * identities + 1), identities, replace=False))
    train = rng.permutation(identities)[:identities // 2]
    # The first persons of each half meet two cameras, so that even a tiny set has queries with a match.
    sure = {min(train), min(set(range(identities)) - set(train))}
    counts = {'train_images': 0, 'train_identities': len(train), 'query_images': 0, 'gallery_images': 0, 'junk_images': 0,
              'test_identities': identities - len(train), 'cameras': cameras}
    with _new_folder(Path(folder) / REID_FOLDERS[style]) as root:
        for index, person in enumerate(persons):
            rng = np.random.default_rng([seed, 5, index])
            for part, camera, frame, box, picture in _sightings(views, index in train, 2 if index in sure else 1, rng):
                _save(picture, root / REID_PARTS[part] / _reid_name(style, f'{person:04d}', camera, frame, box))
                counts[f'{part}_images'] += 1
        rng = np.random.default_rng([seed, 6])
        counts['junk_images'] = max(4, identities // 4) if style == 'market' else 0
        for junk in range(counts['junk_images']):
            camera = int(rng.integers(cameras))
            picture = views[camera].picture(_Figure(rng), rng, misplaced=True)
            _save(picture, root / REID_PARTS['junk'] / _reid_name(style, '-1', camera, 100000 + junk, 1))
    return counts


def _sightings(views: List['_Camera'], trains: bool, least: int, rng: Rng) -> Iterator[Tuple[str, int, int, int, Picture]]:
    """(part, camera, frame, number of the box, picture) for a new person, seen `least` times by `least` cameras at least."""
    figure = _Figure(rng)
    seen = rng.integers(least, len(views) + 1)
    for camera in np.sort(rng.permutation(len(views))[:seen]):
        images, frame = int(rng.integers(least, 7)), int(rng.integers(1, 90000))
        for image in range(images):
            frame += int(rng.integers(10, 60))
            part = 'train' if trains else 'query' if image == 0 < images - 1 and seen > 1 else 'gallery'
            yield part, camera, frame, 0 if part == 'query' else image + 1, views[camera].picture(figure, rng)


def _reid_name(style: str, person: str, camera: int, frame: int, box: int) -> str:
    if style == 'market':
        return f'{person}_c{camera + 1}s{1 + frame // 30000}_{frame:06d}_{box:02d}.jpg'
    return f'{person}_c{camera + 1}_f{frame:07d}.jpg'


def make_described(folder: Folder, images_per_class: int = 10, size: int = 64, seed: int = 0, mess: float = 1) -> Counts:
    """Render classes described by attributes: products in a colour; each product and each colour is in several classes.

    Args:
        folder: new or empty folder for `images/<class>/*.JPG` (30 classes); `classes.csv`, a line per class: name, 1 for its
            product and for its colour, 0 for the others; `unseen.txt`, the names of 6 classes; `added.csv` and
            `added/<class>/*.JPG`, one further class that the other files do not contain.
        images_per_class, size, seed, mess: as for make_products.

    Returns:
        numbers of `classes`, `unseen_classes`, `images`.

    Raises:
        InputError: the folder is not empty.
    """
    kinds, colours = sorted(PRODUCTS)[:6], ('red', 'blue', 'yellow', 'green', 'white', 'black')
    words = [*kinds, *colours]
    lists: Dict[str, List[str]] = {'classes.csv': ['name,' + ','.join(words)], 'added.csv': [], 'unseen.txt': []}
    with _new_folder(folder) as root:
        for number in range(len(kinds) * len(colours)):
            k, c = divmod(number, len(colours))
            name = f'{colours[c]}_{kinds[k]}'
            # Each diagonal of the table has every product and every colour once.
            diagonal = (c - k) % len(colours)
            if diagonal == 2 and k:
                continue
            if diagonal == 1:
                lists['unseen.txt'].append(name)
            file, group = ('added.csv', 'added') if diagonal == 2 else ('classes.csv', 'images')
            lists[file].append(f'{name},' + ','.join(str(int(word in (kinds[k], colours[c]))) for word in words))
            shades = [_colour(PALETTE[i]) for i in (c, c, 7)]
            sprite = _product_sprite(kinds[k], number, np.random.default_rng([seed, 5, number]), shades)
            for view in range(images_per_class):
                rng = np.random.default_rng([seed, 6, number, view])
                _save(_photograph(sprite, size, rng, mess), root / group / name / f'{view}.JPG')
        for file, rows in lists.items():
            (root / file).write_text('\n'.join(rows) + '\n')
    count = len(lists['classes.csv']) - 1
    return {'classes': count, 'unseen_classes': len(lists['unseen.txt']), 'images': count * images_per_class}


@contextmanager
def _new_folder(folder: Folder) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` when the block ends, and is removed if the block fails.

    Raises:
        InputError: `folder` is a file or not empty, or cannot be written.
    """
    folder = Path(folder).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f'{folder}: exists and is not an empty folder; remove it or name another one')
    with replacing(folder) as part:
        part.mkdir()
        yield part


def _save(picture: Picture, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, 'JPEG', quality=88)


def _picture(pixels: Array) -> Picture:
    """Picture of an array (height, width, channels) of any number type, clipped to 0..255."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colour(values: Array) -> Colour:
    return int(values[0]), int(values[1]), int(values[2])


def _product_sprite(kind: str, number: int, rng: Rng, colours: Optional[List[Colour]] = None) -> Picture:
    """Front view of a class: (SPRITE, SPRITE) RGBA, transparent around the product. colours: three, or None to draw them."""
    if colours is None:
        # Every PALETTES-th class has the same three colours; which part has which colour depends on the class.
        shared = np.random.default_rng([7, number % PALETTES]).permutation(len(PALETTE))[:3]
        colours = [_colour(PALETTE[i]) for i in rng.permutation(shared)]
    scale = SPRITE * 3
    width, height, taper, shear = rng.uniform((0.72, 0.72, -0.35, -0.15), (1, 1, 0.35, 0.15))

    def place(percent: Sequence[str]) -> List[Tuple[float, float]]:
        x, y = (np.array(percent, float) / 100).reshape(-1, 2).T - 0.5
        points = np.stack([0.5 + width * x * (1 + taper * y) + shear * y, 0.5 + height * y], 1)
        return [(across, down) for across, down in np.clip(points, 0.01, 0.99) * scale]

    body = Image.new('L', (scale, scale))
    picture = Image.new('RGBA', (scale, scale))
    texture = _texture(scale, colours[0], colours[int(rng.integers(1, 3))], rng)
    for part in PRODUCTS[kind].split(', '):
        form, role, *points = part.split()
        mask = Image.new('L', (scale, scale))
        draw = ImageDraw.Draw(mask)
        if form in ('box', 'polygon'):
            points = points if form == 'polygon' else [points[i] for i in (0, 1, 2, 1, 2, 3, 0, 3)]
            draw.polygon(place(points), fill=255)
        else:
            (x, y), (x2, y2) = place(points)
            draw.ellipse((min(x, x2), y, max(x, x2), y2), 255 if form == 'ellipse' else None, 255, width=scale // 16)
        if role == '0':
            body = mask
        picture.paste(texture if role == '0' else Image.new('RGBA', (scale, scale), (*colours[int(role)], 255)), mask=mask)
    _label(picture, body, colours, rng)
    return picture.reduce(3)


def _texture(scale: int, first: Colour, second: Colour, rng: Rng) -> Picture:
    """(scale, scale) RGBA in two colours: plain, or stripes at an angle, dots or checks of a random pitch."""
    kind = ('plain', 'stripes', 'dots', 'checks')[rng.integers(4)]
    pitch, angle = rng.uniform(0.09, 0.2), rng.uniform(0, math.pi)
    y, x = np.mgrid[0:scale, 0:scale] / scale
    u, v = (x * math.cos(angle) + y * math.sin(angle)) / pitch, (y * math.cos(angle) - x * math.sin(angle)) / pitch
    mark: Array = np.zeros_like(u, bool)
    if kind == 'stripes':
        mark = u % 1 < rng.uniform(0.3, 0.6)
    elif kind == 'dots':
        mark = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < rng.uniform(0.06, 0.14)
    elif kind == 'checks':
        mark = (u % 2 < 1) ^ (v % 2 < 1)
    return _picture(np.where(mark[..., None], (*second, 255), (*first, 255)))


def _label(picture: Picture, body: Picture, colours: List[Colour], rng: Rng) -> None:
    """Draw the class's label with its stripes on the body, clipped to it. body: the mask of the body."""
    left, top, right, bottom = body.getbbox() or (0, 0, 0, 0)
    tall, wide = (bottom - top) * rng.uniform(0.2, 0.4), (right - left) * rng.uniform(0.3, 0.6)
    x, y = left + rng.uniform(0.1, 0.9) * (right - left - wide), top + rng.uniform(0.1, 0.9) * (bottom - top - tall)
    label = picture.copy()
    draw = ImageDraw.Draw(label)
    paper, ink = (colours[1], colours[2]) if rng.random() < 0.5 else (colours[2], colours[1])
    draw.rectangle((x, y, x + wide, y + tall), fill=paper)
    stripes, upright = int(rng.integers(1, 5)), rng.random() < 0.5
    for stripe in range(stripes):
        a, b = (stripe + 0.25) / stripes, (stripe + 0.25 + rng.uniform(0.25, 0.6)) / stripes
        draw.rectangle((x + a * wide, y, x + b * wide, y + tall) if upright else (x, y + a * tall, x + wide, y + b * tall), ink)
    picture.paste(label, mask=body)


def _photograph(sprite: Picture, size: int, rng: Rng, mess: float = 1) -> Picture:
    """One view of a product: (size, size) RGB with its own background, viewpoint, light, blur and noise.

    mess: share of the clutter and of the changes of viewpoint and light, 0..1.
    """
    colours = PALETTE[rng.permutation(len(PALETTE))[:4]]
    clouds = 0.55 * colours[rng.integers(0, 2, (4, 4))] + rng.uniform(20, 95) + rng.normal(0, 14, (4, 4, 3))
    picture = _picture(clouds).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(round(mess * rng.integers(0, 4))):
        _clutter(draw, size, colours[rng.integers(2, 4)], rng)

    product = sprite.transform((size, size), Image.Transform.PERSPECTIVE, _viewpoint(size, rng, mess),
                               Image.Resampling.BILINEAR)
    picture.paste(product, mask=product.getchannel('A'))
    if rng.random() < 0.25 * mess:
        _clutter(draw, size, colours[2], rng)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.012) * size))

    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across, down = mess * rng.uniform(-0.5, 0.5, 2)
    light = rng.uniform(0.7, 1.15) ** mess * (1 + across * ramp[None, :] + down * ramp[:, None])
    tint = rng.uniform(0.85, 1.15, 3).astype(np.float32) ** np.float32(mess)
    noise = rng.standard_normal((size, size, 3), np.float32) * rng.uniform(2, 9)
    return _picture(np.asarray(picture, np.float32) * light[..., None].astype(np.float32) * tint + noise)


def _clutter(draw: ImageDraw.ImageDraw, size: int, colour: Array, rng: Rng) -> None:
    """Draw a box or disc of other goods at the edge of the picture."""
    x, y = rng.choice([rng.uniform(-0.1, 0.15), rng.uniform(0.85, 1.1)]) * size, rng.uniform(0, 1) * size
    if rng.random() < 0.5:
        x, y = y, x
    w, h = rng.uniform(0.06, 0.2, 2) * size
    shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
    shape((x - w, y - h, x + w, y + h), fill=_colour(colour))


def _viewpoint(size: int, rng: Rng, mess: float) -> Tuple[float, ...]:
    """The eight coefficients of the homography from a pixel of the picture to a pixel of the sprite."""
    angle, half = mess * rng.normal(0, 0.25), size * rng.uniform(0.36, 0.52)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    near = corners * (rng.uniform(0.7, 1) ** mess, 1)                                # turned away: foreshortened
    near[:, 1] *= 1 + mess * rng.uniform(-0.2, 0.2) * corners[:, 0]                 # and one side nearer
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    target = size / 2 + near @ turn * half + mess * rng.uniform(-0.1, 0.1, 2) * size
    source = (corners + 1) / 2 * SPRITE
    rows = [row for (x, y), (u, v) in zip(target, source)
            for row in ((x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y))]
    return tuple(np.linalg.solve(np.array(rows), source.reshape(-1)))


class _Figure:
    """Appearance of a person in all pictures: build, hair, clothes and bag."""

    def __init__(self, rng: Rng) -> None:
        colours = [CLOTHES[index] for index in rng.permutation(len(CLOTHES))]
        self.top, self.second, self.legs, self.shoes, self.bag_colour = colours[:5]
        self.pattern = ('plain', 'hoops', 'stripes', 'halves', 'print')[rng.integers(5)]
        self.pitch = rng.uniform(7, 14)
        self.lower = ('trousers', 'shorts', 'skirt')[rng.choice(3, p=(0.6, 0.2, 0.2))]
        self.sleeves = rng.random() < 0.5
        self.bag = ('none', 'backpack', 'handbag')[rng.integers(3)]
        self.skin, self.hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
        self.long_hair = rng.random() < 0.4
        self.width, self.height = rng.uniform(0.8, 1.2), rng.uniform(0.9, 1.05)


class _Camera:
    """Properties of a place in all pictures: background, light and the side from which it mostly sees persons."""

    def __init__(self, rng: Rng) -> None:
        ground, wall = (rng.uniform(80, 190) + rng.normal(0, 18, 3) for _ in range(2))
        self.scene = Image.new('RGB', (320, 288), _colour(wall))
        draw = ImageDraw.Draw(self.scene)
        for _ in range(8):
            x, y, w, h = rng.uniform(0, 320), rng.uniform(0, 160), rng.uniform(10, 50), rng.uniform(20, 110)
            colour = np.clip(wall + rng.uniform(-60, 60) + rng.normal(0, 20, 3), 0, 255)
            draw.rectangle((x, y, x + w, y + h), fill=_colour(colour))
        horizon = rng.uniform(110, 190)
        draw.rectangle((0, horizon, 320, 288), fill=_colour(ground))
        for _ in range(5):
            y = rng.uniform(horizon, 288)
            draw.line((0, y, 320, y + rng.uniform(-30, 30)), fill=_colour(ground * 0.8), width=3)
        self.scene = self.scene.filter(ImageFilter.GaussianBlur(2))
        self.gain, self.gamma = rng.uniform(0.75, 1.1) * rng.uniform(0.9, 1.1, 3), rng.uniform(0.7, 1.4)
        self.side = SIDES[rng.integers(3)]
        self.blur, self.noise = rng.uniform(0, 0.9), rng.uniform(2, 8)

    def picture(self, figure: _Figure, rng: Rng, misplaced: bool = False) -> Picture:
        """Picture of a figure, 128 x 64 RGB; misplaced like a failed detection, if wanted."""
        x, y = rng.integers(0, 320 - 128), rng.integers(0, 288 - 256)
        picture = self.scene.crop((x, y, x + 128, y + 256))     # twice the size, halved below: smooth edges
        side = self.side if rng.random() < 0.6 else SIDES[rng.integers(3)]
        centre, top = 64 + rng.normal(0, 5), 16 + rng.normal(0, 5)
        if misplaced:
            centre, top = centre + rng.choice([-1, 1]) * rng.uniform(45, 70), top + rng.uniform(40, 120)
        tall = 222 * figure.height * rng.uniform(0.92, 1.04)
        _draw_figure(ImageDraw.Draw(picture), figure, side, centre, top, tall, rng)
        picture = picture.reduce(2).filter(ImageFilter.GaussianBlur(self.blur))
        pixels = 255 * (np.asarray(picture, np.float32) / 255) ** np.float32(self.gamma)
        pixels *= (self.gain * rng.uniform(0.9, 1.1)).astype(np.float32)
        pixels += rng.standard_normal(pixels.shape, np.float32) * self.noise
        return _picture(pixels)


def _draw_figure(draw: ImageDraw.ImageDraw, figure: _Figure, side: str, centre: float, top: float, tall: float,
                 rng: Rng) -> None:
    """Draw a walking person `tall` pixels high whose head begins at (centre, top)."""
    unit = tall / 100
    wide = 13 * unit * figure.width * (0.7 if side == 'side' else 1)
    stride, swing = rng.uniform(0, 9) * unit * (1.3 if side == 'side' else 0.6), rng.uniform(-6, 6) * unit
    neck, waist, knee, foot = (top + at * unit for at in (16, 50, 72, 97))

    def box(half: float, above: float, below: float, middle: float = centre) -> Tuple[float, float, float, float]:
        return middle - half, above, middle + half, below

    def limb(points: List[Tuple[float, float]], colour: Colour, width: float) -> None:
        draw.line(points, fill=colour, width=int(width * unit), joint='curve')

    def bag() -> None:
        if figure.bag == 'backpack' and side != 'front':
            middle = centre - wide * 0.9 if side == 'side' else centre
            draw.rounded_rectangle(box(wide * 0.7, neck + 3 * unit, neck + 27 * unit, middle), 4 * unit, figure.bag_colour)
        elif figure.bag == 'handbag':
            left = centre + wide * 0.9
            draw.rectangle((left, waist, left + 11 * unit, waist + 12 * unit), figure.bag_colour)

    if side == 'side':
        bag()
    upper = figure.legs if figure.lower != 'skirt' else figure.skin
    lower = figure.legs if figure.lower == 'trousers' else figure.skin
    for sign in (-1, 1):
        hip, at = centre + sign * wide * 0.45, centre + sign * (wide * 0.45 + stride)
        limb([(hip, waist), ((hip + at) / 2, knee)], upper, 9 * figure.width)
        limb([((hip + at) / 2, knee), (at, foot)], lower, 7.5 * figure.width)
        draw.ellipse(box(6 * unit, foot - 3 * unit, foot + 3 * unit, at), figure.shoes)
    if figure.lower == 'skirt':
        draw.polygon([(centre - wide * 0.9, waist - unit), (centre + wide * 0.9, waist - unit),
                      (centre + wide * 1.3, knee), (centre - wide * 1.3, knee)], fill=figure.legs)

    draw.rounded_rectangle(box(wide, neck, waist + 3 * unit), 3 * unit, figure.top)
    _draw_pattern(draw, figure, side, (centre - wide + unit, neck, centre + wide - unit, waist + 2 * unit), centre, unit)

    for sign in (-1, 1):
        shoulder, hand = centre + sign * wide * 0.95, centre + sign * (wide * 1.15 + swing * sign)
        elbow = ((shoulder + hand) / 2 + sign * 2 * unit, (neck + waist) / 2 + 2 * unit)
        limb([(shoulder, neck + 3 * unit), elbow], figure.top, 6.5)
        limb([elbow, (hand, waist + 4 * unit)], figure.top if figure.sleeves else figure.skin, 5)
    if side != 'side':
        bag()

    if figure.long_hair:
        draw.ellipse(box(8 * unit, top, neck + 5 * unit), figure.hair)
    draw.ellipse(box(6.5 * unit, top + unit, neck + unit), figure.skin)
    crown = {'front': top + 6 * unit, 'side': top + 8 * unit, 'back': neck}[side]
    draw.chord(box(7 * unit, top, max(crown, top + 7 * unit) + 4 * unit), 180 if side != 'back' else 0, 360, figure.hair)


def _draw_pattern(draw: ImageDraw.ImageDraw, figure: _Figure, side: str, box: Tuple[float, float, float, float],
                  centre: float, unit: float) -> None:
    """Draw the pattern of the top in a box (left, top, right, bottom)."""
    left, neck, right, bottom = box
    step, colour = figure.pitch * unit, figure.second
    if figure.pattern == 'hoops':
        for y in np.arange(neck + step / 2, bottom - step / 2, step):
            draw.rectangle((left, y, right, y + step / 2), fill=colour)
    elif figure.pattern == 'stripes':
        for x in np.arange(left + step / 4, right - step / 4, step / 1.5):
            draw.rectangle((x, neck + unit, x + step / 3, bottom), fill=colour)
    elif figure.pattern == 'halves':
        draw.rectangle((left, (neck + bottom) / 2, right, bottom), fill=colour)
    elif figure.pattern == 'print' and side != 'back':
        draw.ellipse((centre - step, neck + 7 * unit, centre + step, neck + 7 * unit + 2 * step), fill=colour)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = Parser(prog='python -m src.samples.image_sample', description='Render a dataset in a published layout.')
    parser.add_argument('kind', choices=['products', 'described', *REID_FOLDERS],
                        help='products: as Stanford Online Products; described: with attributes; market, duke: persons')
    parser.add_argument('folder', help='new or empty folder to write')
    parser.add_argument('--seed', type=natural, default=0, help='the same seed renders the same pictures; default: 0')
    parser.add_argument('--easy', action='store_true', help='calmer pictures of products, more persons: data that a '
                        'small network learns in a minute')
    args = parser.parse_args(arguments)
    if args.kind in REID_FOLDERS:
        counts = make_reid(args.folder, args.kind, 96 if args.easy else 48, seed=args.seed)
    else:
        make, easy = (make_products, EASY_PRODUCTS) if args.kind == 'products' else (make_described, EASY_DESCRIBED)
        counts = make(args.folder, seed=args.seed, **(easy if args.easy else {}))
    where = Path(args.folder, REID_FOLDERS.get(args.kind, ''))
    print(f'{where}: ' + ', '.join(f'{count} {name.replace("_", " ")}' for name, count in counts.items()))


if __name__ == '__main__':
    run(main)
