"""Pictures the project renders itself, in the published data sets' layouts, for quick starts and tests.

    python -m src.samples.image_sample products FOLDER     Stanford Online Products lists and folders
    python -m src.samples.image_sample market FOLDER       FOLDER/market1501
    python -m src.samples.image_sample duke FOLDER         FOLDER/DukeMTMC-reID
    python -m src.samples.image_sample described FOLDER    classes with attributes, some of them without training images

Every picture is a function of the seed and of its own number, so the same call writes the same bytes. The
pictures are no substitute for the real sets: their figures say that a pipeline works, never how good it is.
"""
import argparse
import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from src.common.errors import InputError
from src.common.values import natural

SPRITE = 160   # pixels of a product drawn once for its class, before the viewpoint is applied

# Few colours for many classes, and the backgrounds use them too: a colour names no class.
PALETTE = np.array([(196, 52, 48), (36, 92, 168), (232, 184, 56), (52, 132, 84),
                    (240, 236, 226), (44, 44, 52), (150, 104, 68), (140, 148, 160)], np.float32)
PALETTES = 6

# Silhouettes in a unit square, y downwards: (form, role of its colour, points or box). Role 0 carries the texture.
PRODUCTS = {
    'bicycle': [('ring', 1, (0.02, 0.48, 0.44, 0.9)), ('ring', 1, (0.56, 0.48, 0.98, 0.9)),
                ('polygon', 0, (0.2, 0.7, 0.38, 0.3, 0.76, 0.3, 0.8, 0.7, 0.7, 0.42, 0.5, 0.72)),
                ('polygon', 2, (0.26, 0.2, 0.5, 0.2, 0.5, 0.28, 0.26, 0.28))],
    'cabinet': [('polygon', 0, (0.15, 0.05, 0.85, 0.05, 0.85, 0.95, 0.15, 0.95)),
                ('polygon', 1, (0.22, 0.5, 0.78, 0.5, 0.78, 0.54, 0.22, 0.54)),
                ('ellipse', 2, (0.44, 0.2, 0.56, 0.32))],
    'chair': [('polygon', 0, (0.2, 0.05, 0.36, 0.05, 0.4, 0.5, 0.84, 0.5, 0.84, 0.64, 0.24, 0.64)),
              ('polygon', 1, (0.24, 0.64, 0.34, 0.64, 0.3, 0.97, 0.2, 0.97)),
              ('polygon', 1, (0.74, 0.64, 0.84, 0.64, 0.88, 0.97, 0.78, 0.97))],
    'coffee_maker': [('polygon', 0, (0.15, 0.05, 0.85, 0.05, 0.85, 0.25, 0.4, 0.25, 0.4, 0.95, 0.15, 0.95)),
                     ('polygon', 1, (0.4, 0.85, 0.88, 0.85, 0.88, 0.95, 0.4, 0.95)),
                     ('polygon', 2, (0.48, 0.45, 0.8, 0.45, 0.84, 0.83, 0.44, 0.83))],
    'fan': [('polygon', 1, (0.46, 0.5, 0.54, 0.5, 0.54, 0.9, 0.46, 0.9)), ('ellipse', 0, (0.16, 0.02, 0.84, 0.7)),
            ('ellipse', 2, (0.42, 0.28, 0.58, 0.44)), ('ellipse', 1, (0.26, 0.86, 0.74, 0.98))],
    'kettle': [('ring', 1, (0.3, 0.02, 0.7, 0.5)), ('polygon', 2, (0.7, 0.5, 0.97, 0.3, 0.97, 0.4, 0.75, 0.75)),
               ('ellipse', 0, (0.12, 0.28, 0.82, 0.96)),
               ('polygon', 1, (0.36, 0.26, 0.58, 0.26, 0.6, 0.33, 0.34, 0.33))],
    'lamp': [('polygon', 1, (0.46, 0.4, 0.54, 0.4, 0.54, 0.92, 0.46, 0.92)),
             ('polygon', 0, (0.34, 0.05, 0.66, 0.05, 0.88, 0.5, 0.12, 0.5)), ('ellipse', 2, (0.28, 0.86, 0.72, 0.98))],
    'mug': [('ring', 1, (0.56, 0.28, 0.98, 0.74)), ('polygon', 0, (0.1, 0.12, 0.74, 0.12, 0.7, 0.94, 0.14, 0.94)),
            ('ellipse', 2, (0.1, 0.05, 0.74, 0.2))],
    'sofa': [('polygon', 0, (0.08, 0.2, 0.92, 0.2, 0.92, 0.75, 0.08, 0.75)),
             ('polygon', 1, (0.02, 0.4, 0.16, 0.4, 0.16, 0.85, 0.02, 0.85)),
             ('polygon', 1, (0.84, 0.4, 0.98, 0.4, 0.98, 0.85, 0.84, 0.85)),
             ('polygon', 2, (0.16, 0.58, 0.84, 0.58, 0.84, 0.78, 0.16, 0.78))],
    'stapler': [('polygon', 1, (0.05, 0.76, 0.97, 0.76, 0.97, 0.86, 0.05, 0.86)),
                ('polygon', 0, (0.08, 0.32, 0.3, 0.2, 0.97, 0.5, 0.97, 0.64, 0.08, 0.64)),
                ('ellipse', 2, (0.08, 0.5, 0.3, 0.76))],
    'table': [('polygon', 1, (0.14, 0.36, 0.24, 0.36, 0.2, 0.95, 0.1, 0.95)),
              ('polygon', 1, (0.76, 0.36, 0.86, 0.36, 0.9, 0.95, 0.8, 0.95)),
              ('polygon', 0, (0.16, 0.14, 0.84, 0.14, 0.97, 0.38, 0.03, 0.38)),
              ('polygon', 2, (0.22, 0.6, 0.78, 0.6, 0.78, 0.68, 0.22, 0.68))],
    'toaster': [('polygon', 2, (0.25, 0.08, 0.75, 0.08, 0.75, 0.5, 0.25, 0.5)),
                ('polygon', 0, (0.12, 0.26, 0.88, 0.26, 0.94, 0.9, 0.06, 0.9)),
                ('ellipse', 1, (0.7, 0.58, 0.84, 0.72))],
}

CLOTHES = [(190, 44, 44), (40, 70, 150), (236, 232, 224), (36, 36, 42), (228, 184, 60), (60, 124, 70),
           (120, 120, 130), (140, 90, 150), (150, 104, 70), (110, 170, 210)]
SKIN = [(236, 196, 168), (200, 150, 116), (140, 96, 68), (92, 62, 46)]
HAIR = [(30, 24, 22), (92, 60, 36), (196, 160, 90), (120, 116, 112)]
REID_FOLDERS = {'market': 'market1501', 'duke': 'DukeMTMC-reID'}


def make_products(folder, classes=48, images_per_class=16, size=96, seed=0):
    """Render a product set in the layout of Stanford Online Products.

    Args:
        folder: new or empty folder for `Ebay_train.txt`, `Ebay_test.txt` (header, then
            `image_id class_id super_class_id path`) and `<super class>_final/*.JPG`.
        classes (int): product classes of both lists together; the first half trains, the others test.
        images_per_class (int): pictures of each class.
        size (int): width and height in pixels.
        seed (int): same seed, same bytes.

    Returns:
        dict: number of `train_images`, `train_classes`, `test_images`, `test_classes`.

    Raises:
        InputError: the folder holds files already, or a number is too small.
    """
    if classes < 2 or images_per_class < 2 or size < 16:
        raise InputError(f'{folder}: a product set needs at least 2 classes, 2 images a class and 16 pixels, '
                         f'not {classes}, {images_per_class} and {size}')
    with _NewFolder(folder) as root:
        names = sorted(PRODUCTS)
        image_id = 0
        for split, numbers in (('train', range(classes // 2)), ('test', range(classes // 2, classes))):
            # Class ids rise with the super class inside a list, as in the real files.
            kinds = sorted(number % len(names) for number in numbers)
            rows = ['image_id class_id super_class_id path']
            for number, kind in zip(numbers, kinds):
                sub = root / f'{names[kind]}_final'
                sub.mkdir(exist_ok=True)
                sprite = _product_sprite(PRODUCTS[names[kind]], number, np.random.default_rng([seed, 1, number]))
                for view in range(images_per_class):
                    image_id += 1
                    name = f'{111000000000 + number}_{view}.JPG'
                    rng = np.random.default_rng([seed, 2, number, view])
                    _photograph(sprite, size, rng).save(sub / name, 'JPEG', quality=88)
                    rows.append(f'{image_id} {number + 1} {kind + 1} {sub.name}/{name}')
            (root / f'Ebay_{split}.txt').write_text('\n'.join(rows) + '\n')
    train = classes // 2
    return {'train_images': train * images_per_class, 'train_classes': train,
            'test_images': (classes - train) * images_per_class, 'test_classes': classes - train}


def make_reid(folder, style='market', identities=48, cameras=None, seed=0):
    """Render a person re-identification set: figures of 128 x 64 pixels seen by several cameras.

    An identity is a build and its clothes; a camera is a background, an illumination and a preferred viewpoint.
    Identities are seen by 1 to `cameras` cameras, 1 to 6 times by each. Half of them train. Of a test identity
    that two or more cameras saw, each camera that saw it twice or more gives one query; all the rest is gallery,
    so every query has a match in another camera and identities of one camera are distractors.

    Args:
        folder: where `market1501` or `DukeMTMC-reID` is made, with `bounding_box_train`, `query` and
            `bounding_box_test`.
        style (str): 'market' (`0002_c1s1_000451_03.jpg`, and junk of person -1 in the gallery) or
            'duke' (`0005_c2_f0046985.jpg`).
        identities (int): persons of training and test together.
        cameras (int): 6 for market and 8 for duke by default.
        seed (int): same seed, same bytes.

    Returns:
        dict: number of `train_images`, `train_identities`, `query_images`, `gallery_images` (junk not counted),
        `junk_images`, `test_identities`, `cameras`.

    Raises:
        InputError: unknown style, the folder holds files already, or a number is too small.
    """
    if style not in REID_FOLDERS:
        raise InputError(f'style {style}: choose one of {", ".join(REID_FOLDERS)}')
    cameras = cameras or {'market': 6, 'duke': 8}[style]
    if identities < 4 or not 2 <= cameras <= 9:
        raise InputError(f'{folder}: a re-identification set needs at least 4 identities and 2 to 9 cameras, '
                         f'not {identities} and {cameras}')
    rng = np.random.default_rng([seed, 3])
    views = [_Camera(np.random.default_rng([seed, 4, camera])) for camera in range(cameras)]
    # Real person numbers have gaps and are mixed between training and test.
    persons = np.sort(rng.choice(np.arange(1, 2 * identities + 1), identities, replace=False))
    trains = np.zeros(identities, bool)
    trains[rng.permutation(identities)[:identities // 2]] = True
    counts = dict.fromkeys(('train_images', 'train_identities', 'query_images', 'gallery_images', 'junk_images',
                            'test_identities', 'cameras'), 0)
    counts['cameras'] = cameras
    with _NewFolder(Path(folder) / REID_FOLDERS[style]) as root:
        for sub in ('bounding_box_train', 'query', 'bounding_box_test'):
            (root / sub).mkdir()
        # The first persons of each half meet two cameras, so that even a tiny set has queries with a match.
        sure = {int(np.flatnonzero(trains)[0]), int(np.flatnonzero(~trains)[0])}
        for index, person in enumerate(persons):
            rng = np.random.default_rng([seed, 5, index])
            figure = _Figure(rng)
            seen = rng.integers(2 if index in sure else 1, cameras + 1)
            counts['train_identities' if trains[index] else 'test_identities'] += 1
            for camera in np.sort(rng.permutation(cameras)[:seen]):
                images = int(rng.integers(2 if index in sure else 1, 7))
                frame = int(rng.integers(1, 90000))
                for image in range(images):
                    frame += int(rng.integers(10, 60))
                    part = 'train' if trains[index] else 'query' if image == 0 < images - 1 and seen > 1 else 'gallery'
                    sub = {'train': 'bounding_box_train', 'query': 'query', 'gallery': 'bounding_box_test'}[part]
                    name = _reid_name(style, f'{person:04d}', camera, frame, 0 if part == 'query' else image + 1)
                    views[camera].picture(figure, rng).save(root / sub / name, 'JPEG', quality=88)
                    counts[f'{part}_images'] += 1
        if style == 'market':
            rng = np.random.default_rng([seed, 6])
            for junk in range(max(4, identities // 4)):
                camera = int(rng.integers(cameras))
                picture = views[camera].picture(_Figure(rng), rng, misplaced=True)
                name = _reid_name(style, '-1', camera, 100000 + junk, 1)
                picture.save(root / 'bounding_box_test' / name, 'JPEG', quality=88)
                counts['junk_images'] += 1
    return counts


class _NewFolder:
    """Context of a folder that appears under its name whole or not at all, and never over other files."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()

    def __enter__(self):
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise InputError(f'{self.folder}: exists and is not an empty folder; remove it or name another one')
        self.part = self.folder.with_name(f'.{self.folder.name}.part')
        shutil.rmtree(self.part, ignore_errors=True)
        try:
            self.part.mkdir(parents=True)
        except OSError as error:
            raise InputError(f'cannot write {self.folder}: {error.strerror}') from error
        return self.part

    def __exit__(self, kind, error, trace):
        if kind is None:
            os.replace(self.part, self.folder)
        else:
            shutil.rmtree(self.part, ignore_errors=True)
            if issubclass(kind, OSError):
                raise InputError(f'cannot write {self.folder}: {error.strerror or error}') from error


def make_described(folder, images_per_class=10, size=64, seed=0):
    """Render classes that attributes describe: a product in a colour, every product and colour seen in other classes too.

    Args:
        folder: new or empty folder for `images/<class>/*.JPG` (30 classes); `classes.csv`, a line a class: name, 1 for its
            product and for its colour, 0 for the others; `unseen.txt`, the names of 6 classes; `added.csv` and
            `added/<class>/*.JPG`, one class more that the rest does not know.
        images_per_class, size, seed: as for make_products.

    Returns:
        dict: number of `classes`, `unseen_classes`, `images`.

    Raises:
        InputError: the folder holds files already.
    """
    kinds, colours = sorted(PRODUCTS)[:6], ('red', 'blue', 'yellow', 'green', 'white', 'black')
    with _NewFolder(folder) as root:
        lines, unseen = {'classes': ['name,' + ','.join([*kinds, *colours])], 'added': []}, []
        for k, kind in enumerate(kinds):
            for c, colour in enumerate(colours):
                number, name = k * len(colours) + c, f'{colour}_{kind}'
                # The diagonals of the table: every product and every colour once.
                if (c - k) % len(colours) == 1:
                    unseen.append(name)
                if (c - k) % len(colours) == 2 and k:
                    continue
                added = (c - k) % len(colours) == 2
                lines['added' if added else 'classes'].append(
                    f'{name},' + ','.join(str(int(word in (kind, colour))) for word in [*kinds, *colours]))
                sub = root / ('added' if added else 'images') / name
                sub.mkdir(parents=True)
                shades = [tuple(int(v) for v in PALETTE[i]) for i in (c, c, 7)]
                sprite = _product_sprite(PRODUCTS[kind], number, np.random.default_rng([seed, 5, number]), shades)
                for view in range(images_per_class):
                    rng = np.random.default_rng([seed, 6, number, view])
                    _photograph(sprite, size, rng).save(sub / f'{view}.JPG', 'JPEG', quality=88)
        for name, rows in (('classes.csv', lines['classes']), ('added.csv', lines['added']), ('unseen.txt', unseen)):
            (root / name).write_text('\n'.join(rows) + '\n')
    count = len(lines['classes']) - 1
    return {'classes': count, 'unseen_classes': len(unseen), 'images': count * images_per_class}


def _product_sprite(parts, number, rng, colours=None):
    """A class seen from the front: (SPRITE, SPRITE) RGBA, transparent around the product; three colours or the class's own."""
    if colours is None:
        # Every PALETTES-th class has the same three colours; which part wears which is the class's own.
        shared = np.random.default_rng([7, number % PALETTES]).permutation(len(PALETTE))[:3]
        colours = [tuple(int(c) for c in colour) for colour in PALETTE[rng.permutation(shared)]]
    scale = SPRITE * 3
    width, height, taper, shear = (rng.uniform(0.72, 1), rng.uniform(0.72, 1), rng.uniform(-0.35, 0.35),
                                   rng.uniform(-0.15, 0.15))

    def place(points):
        x, y = np.asarray(points, float).reshape(-1, 2).T - 0.5
        points = np.stack([0.5 + width * x * (1 + taper * y) + shear * y, 0.5 + height * y], 1)
        return [tuple(point) for point in np.clip(points, 0.01, 0.99) * scale]

    body = Image.new('L', (scale, scale))
    picture = Image.new('RGBA', (scale, scale))
    texture = _texture(scale, colours[0], colours[int(rng.integers(1, 3))], rng)
    for form, role, points in parts:
        mask = Image.new('L', (scale, scale))
        draw = ImageDraw.Draw(mask)
        points = place(points)
        if form == 'polygon':
            draw.polygon(points, fill=255)
        else:
            (left, top), (right, bottom) = points
            box = (min(left, right), top, max(left, right), bottom)
            draw.ellipse(box, fill=255 if form == 'ellipse' else None, outline=255, width=scale // 16)
        picture.paste(texture if role == 0 else Image.new('RGBA', (scale, scale), colours[role] + (255,)), mask=mask)
        if role == 0:
            body = mask
    left, top, right, bottom = body.getbbox()
    _label(picture, body, (left, top, right - left, bottom - top), colours, rng)
    return picture.reduce(3)


def _texture(scale, first, second, rng):
    """(scale, scale) RGBA in two colours: plain, stripes at an angle, dots or checks of the class's own pitch."""
    kind = ('plain', 'stripes', 'dots', 'checks')[rng.integers(4)]
    pitch, angle = rng.uniform(0.09, 0.2), rng.uniform(0, math.pi)
    y, x = np.mgrid[0:scale, 0:scale] / scale
    u, v = (x * math.cos(angle) + y * math.sin(angle)) / pitch, (y * math.cos(angle) - x * math.sin(angle)) / pitch
    if kind == 'stripes':
        mark = u % 1 < rng.uniform(0.3, 0.6)
    elif kind == 'dots':
        mark = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < rng.uniform(0.06, 0.14)
    elif kind == 'checks':
        mark = (u % 2 < 1) ^ (v % 2 < 1)
    else:
        mark = np.zeros_like(u, bool)
    rgba = np.where(mark[..., None], np.array(second + (255,)), np.array(first + (255,)))
    return Image.fromarray(rgba.astype(np.uint8))


def _label(picture, body, box, colours, rng):
    """Draw the class's label with its stripes on the body, clipped to it."""
    left, top, width, height = box
    tall, wide = height * rng.uniform(0.2, 0.4), width * rng.uniform(0.3, 0.6)
    x, y = left + rng.uniform(0.1, 0.9) * (width - wide), top + rng.uniform(0.1, 0.9) * (height - tall)
    label = picture.copy()
    draw = ImageDraw.Draw(label)
    paper, ink = (colours[1], colours[2]) if rng.random() < 0.5 else (colours[2], colours[1])
    draw.rectangle((x, y, x + wide, y + tall), fill=paper)
    stripes, upright = int(rng.integers(1, 5)), rng.random() < 0.5
    for stripe in range(stripes):
        a, b = (stripe + 0.25) / stripes, (stripe + 0.25 + rng.uniform(0.25, 0.6)) / stripes
        if upright:
            draw.rectangle((x + a * wide, y, x + b * wide, y + tall), fill=ink)
        else:
            draw.rectangle((x, y + a * tall, x + wide, y + b * tall), fill=ink)
    picture.paste(label, mask=body)


def _photograph(sprite, size, rng):
    """One view of a product: (size, size) RGB with its own background, viewpoint, light, blur and noise."""
    colours = PALETTE[rng.permutation(len(PALETTE))[:4]]
    clouds = 0.55 * colours[rng.integers(0, 2, (4, 4))] + rng.uniform(20, 95) + rng.normal(0, 14, (4, 4, 3))
    picture = Image.fromarray(np.clip(clouds, 0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 4)):
        _clutter(draw, size, colours[rng.integers(2, 4)], rng)

    product = sprite.transform((size, size), Image.Transform.PERSPECTIVE, _viewpoint(size, rng),
                               Image.Resampling.BILINEAR)
    picture.paste(product, mask=product.getchannel('A'))
    if rng.random() < 0.25:
        _clutter(draw, size, colours[2], rng)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.012) * size))

    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across, down = rng.uniform(-0.5, 0.5, 2)
    light = rng.uniform(0.7, 1.15) * (1 + across * ramp[None, :] + down * ramp[:, None])
    tint = rng.uniform(0.85, 1.15, 3).astype(np.float32)
    noise = rng.standard_normal((size, size, 3), np.float32) * rng.uniform(2, 9)
    pixels = np.asarray(picture, np.float32) * light[..., None].astype(np.float32) * tint + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _clutter(draw, size, colour, rng):
    """A box or disc of other goods at the edge of the picture."""
    x, y = rng.choice([rng.uniform(-0.1, 0.15), rng.uniform(0.85, 1.1)]) * size, rng.uniform(0, 1) * size
    if rng.random() < 0.5:
        x, y = y, x
    w, h = rng.uniform(0.06, 0.2, 2) * size
    shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
    shape((x - w, y - h, x + w, y + h), fill=tuple(int(c) for c in colour))


def _viewpoint(size, rng):
    """The eight coefficients that take a pixel of the picture to a pixel of the sprite (a homography)."""
    angle, half = rng.normal(0, 0.25), size * rng.uniform(0.36, 0.52)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    near = corners * (rng.uniform(0.7, 1), 1)                                # turned away: foreshortened
    near[:, 1] *= 1 + rng.uniform(-0.2, 0.2) * corners[:, 0]                 # and one side nearer
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    target = size / 2 + near @ turn * half + rng.uniform(-0.1, 0.1, 2) * size
    source = (corners + 1) / 2 * SPRITE
    rows = []
    for (x, y), (u, v) in zip(target, source):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
    return tuple(np.linalg.solve(np.array(rows), source.reshape(-1)))


def _reid_name(style, person, camera, frame, box):
    if style == 'market':
        return f'{person}_c{camera + 1}s{1 + frame // 30000}_{frame:06d}_{box:02d}.jpg'
    return f'{person}_c{camera + 1}_f{frame:07d}.jpg'


class _Figure:
    """What stays of a person from picture to picture: build, hair, clothes and bag."""

    def __init__(self, rng):
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
    """What stays of a place: its background, its light and the side it mostly sees persons from."""

    def __init__(self, rng):
        ground, wall = (rng.uniform(80, 190) + rng.normal(0, 18, 3) for _ in range(2))
        self.scene = Image.new('RGB', (320, 288), tuple(int(c) for c in wall))
        draw = ImageDraw.Draw(self.scene)
        for _ in range(8):
            x, y, w, h = rng.uniform(0, 320), rng.uniform(0, 160), rng.uniform(10, 50), rng.uniform(20, 110)
            colour = np.clip(wall + rng.uniform(-60, 60) + rng.normal(0, 20, 3), 0, 255)
            draw.rectangle((x, y, x + w, y + h), fill=tuple(int(c) for c in colour))
        horizon = rng.uniform(110, 190)
        draw.rectangle((0, horizon, 320, 288), fill=tuple(int(c) for c in ground))
        for _ in range(5):
            y = rng.uniform(horizon, 288)
            draw.line((0, y, 320, y + rng.uniform(-30, 30)), fill=tuple(int(c) for c in ground * 0.8), width=3)
        self.scene = self.scene.filter(ImageFilter.GaussianBlur(2))
        self.gain, self.gamma = rng.uniform(0.75, 1.1) * rng.uniform(0.9, 1.1, 3), rng.uniform(0.7, 1.4)
        self.side = ('front', 'back', 'side')[rng.integers(3)]
        self.blur, self.noise = rng.uniform(0, 0.9), rng.uniform(2, 8)

    def picture(self, figure, rng, misplaced=False):
        """(128, 64) RGB of a figure before this camera; misplaced as a failed detection is."""
        x, y = rng.integers(0, 320 - 128), rng.integers(0, 288 - 256)
        picture = self.scene.crop((x, y, x + 128, y + 256))     # twice the size, halved below: smooth edges
        side = self.side if rng.random() < 0.6 else ('front', 'back', 'side')[rng.integers(3)]
        centre, top = 64 + rng.normal(0, 5), 16 + rng.normal(0, 5)
        if misplaced:
            centre, top = centre + rng.choice([-1, 1]) * rng.uniform(45, 70), top + rng.uniform(40, 120)
        tall = 222 * figure.height * rng.uniform(0.92, 1.04)
        _draw_figure(ImageDraw.Draw(picture), figure, side, centre, top, tall, rng)
        picture = picture.reduce(2).filter(ImageFilter.GaussianBlur(self.blur))
        pixels = 255 * (np.asarray(picture, np.float32) / 255) ** np.float32(self.gamma)
        pixels *= (self.gain * rng.uniform(0.9, 1.1)).astype(np.float32)
        pixels += rng.standard_normal(pixels.shape, np.float32) * self.noise
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _draw_figure(draw, figure, side, centre, top, tall, rng):
    """A walking person `tall` pixels high whose head begins at (centre, top)."""
    unit = tall / 100
    wide = 13 * unit * figure.width * (0.7 if side == 'side' else 1)
    stride, swing = rng.uniform(0, 9) * unit * (1.3 if side == 'side' else 0.6), rng.uniform(-6, 6) * unit
    neck, waist, knee, foot = (top + at * unit for at in (16, 50, 72, 97))

    def limb(points, colour, width):
        draw.line(points, fill=colour, width=int(width * unit), joint='curve')

    def bag():
        if figure.bag == 'backpack' and side != 'front':
            shift = -wide * 0.9 if side == 'side' else 0
            draw.rounded_rectangle((centre + shift - wide * 0.7, neck + 3 * unit, centre + shift + wide * 0.7,
                                    neck + 27 * unit), 4 * unit, fill=figure.bag_colour)
        elif figure.bag == 'handbag':
            draw.rectangle((centre + wide * 0.9, waist, centre + wide * 0.9 + 11 * unit, waist + 12 * unit),
                           fill=figure.bag_colour)

    if side == 'side':
        bag()
    upper = figure.legs if figure.lower != 'skirt' else figure.skin
    lower = figure.legs if figure.lower == 'trousers' else figure.skin
    for sign in (-1, 1):
        hip, at = centre + sign * wide * 0.45, centre + sign * (wide * 0.45 + stride)
        limb([(hip, waist), ((hip + at) / 2, knee)], upper, 9 * figure.width)
        limb([((hip + at) / 2, knee), (at, foot)], lower, 7.5 * figure.width)
        draw.ellipse((at - 6 * unit, foot - 3 * unit, at + 6 * unit, foot + 3 * unit), fill=figure.shoes)
    if figure.lower == 'skirt':
        draw.polygon([(centre - wide * 0.9, waist - unit), (centre + wide * 0.9, waist - unit),
                      (centre + wide * 1.3, knee), (centre - wide * 1.3, knee)], fill=figure.legs)

    draw.rounded_rectangle((centre - wide, neck, centre + wide, waist + 3 * unit), 3 * unit, fill=figure.top)
    left, right, bottom = centre - wide + unit, centre + wide - unit, waist + 2 * unit
    step = figure.pitch * unit
    if figure.pattern == 'hoops':
        for y in np.arange(neck + step / 2, bottom - step / 2, step):
            draw.rectangle((left, y, right, y + step / 2), fill=figure.second)
    elif figure.pattern == 'stripes':
        for x in np.arange(left + step / 4, right - step / 4, step / 1.5):
            draw.rectangle((x, neck + unit, x + step / 3, bottom), fill=figure.second)
    elif figure.pattern == 'halves':
        draw.rectangle((left, (neck + bottom) / 2, right, bottom), fill=figure.second)
    elif figure.pattern == 'print' and side != 'back':
        draw.ellipse((centre - step, neck + 7 * unit, centre + step, neck + 7 * unit + 2 * step), fill=figure.second)

    for sign in (-1, 1):
        shoulder, hand = centre + sign * wide * 0.95, centre + sign * (wide * 1.15 + swing * sign)
        elbow = ((shoulder + hand) / 2 + sign * 2 * unit, (neck + waist) / 2 + 2 * unit)
        limb([(shoulder, neck + 3 * unit), elbow], figure.top, 6.5)
        limb([elbow, (hand, waist + 4 * unit)], figure.top if figure.sleeves else figure.skin, 5)
    if side != 'side':
        bag()

    if figure.long_hair:
        draw.ellipse((centre - 8 * unit, top, centre + 8 * unit, neck + 5 * unit), fill=figure.hair)
    draw.ellipse((centre - 6.5 * unit, top + unit, centre + 6.5 * unit, neck + unit), fill=figure.skin)
    crown = {'front': top + 6 * unit, 'side': top + 8 * unit, 'back': neck}[side]
    draw.chord((centre - 7 * unit, top, centre + 7 * unit, max(crown, top + 7 * unit) + 4 * unit),
               *((180, 360) if side != 'back' else (0, 360)), fill=figure.hair)


def main(arguments):
    parser = argparse.ArgumentParser(prog='python -m src.samples.image_sample',
                                     description='Render a small data set in a published layout.')
    parser.add_argument('kind', choices=['products', 'described', *REID_FOLDERS])
    parser.add_argument('folder')
    parser.add_argument('--seed', type=natural, default=0)
    args = parser.parse_args(arguments)
    try:
        if args.kind == 'products':
            where, counts = args.folder, make_products(args.folder, seed=args.seed)
        elif args.kind == 'described':
            where, counts = args.folder, make_described(args.folder, seed=args.seed)
        else:
            where = os.path.join(args.folder, REID_FOLDERS[args.kind])
            counts = make_reid(args.folder, args.kind, seed=args.seed)
    except InputError as error:
        parser.exit(2, f'{error}\n')
    print(f'{where}: ' + ', '.join(f'{count} {name.replace("_", " ")}' for name, count in counts.items()))


if __name__ == '__main__':
    main(sys.argv[1:])
