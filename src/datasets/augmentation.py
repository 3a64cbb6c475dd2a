"""Augmentation of single pictures in numpy and PIL alone: a process that does nothing else starts in a fifth of a second."""
import math
from typing import Callable, Dict

import numpy as np
from PIL import Image

from src.common.errors import InputError
from src.common.registry import create

MEAN = (0.485, 0.456, 0.406)
# erased pixels: the mean colour, 0 after normalisation up to rounding
MEAN_COLOUR = np.round(np.array(MEAN) * 255).astype(np.uint8)
LUMINANCE = np.array([0.299, 0.587, 0.114])
# sides of the pictures that affine gets, of those that it gives
AFFINE_FROM = 1.25


def _affine(size, rotation=15.0, scale=(0.75, 1.25), shift=0.1, fill='border'):
    """To H x W, turned by up to `rotation` degrees either way, enlarged by a factor in `scale`, shifted by up to `shift` of
    the sides, all uniform, in one bilinear step. fill: what comes in from outside, the 'border' pixels' mean colour or
    'mean', that of ImageNet.
    """
    if fill not in ('border', 'mean'):
        raise InputError(f'augmentation affine: fill={fill}: choose border or mean')
    if rotation < 0 or shift < 0:
        raise InputError(f'augmentation affine: rotation={rotation}, shift={shift}: give numbers of at least 0')
    if np.shape(scale) != (2,) or np.asarray(scale).dtype.kind not in 'if' or not 0 < scale[0] <= scale[1]:
        raise InputError(f'augmentation affine: scale={scale}: give two positive factors, the smaller one first')
    height, width = size

    def augment(picture, rng):
        turn, grow, right, down = rng.random(4).tolist()
        angle = math.radians(rotation * (2 * turn - 1))
        zoom = scale[0] + (scale[1] - scale[0]) * grow
        across, along = picture.width / width, picture.height / height
        # PIL asks where in the picture a pixel of the result comes from.
        cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
        x, y = width * (0.5 + shift * (2 * right - 1)), height * (0.5 + shift * (2 * down - 1))
        back = (across * cos, across * sin, across * (width / 2 - cos * x - sin * y),
                -along * sin, along * cos, along * (height / 2 + sin * x - cos * y))
        colour = MEAN_COLOUR if fill == 'mean' else _border_colour(np.asarray(picture))
        return picture.transform((width, height), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR,
                                 fillcolor=tuple(colour.astype(int).tolist()))
    return augment


def _colour(size, brightness=0.0, contrast=0.0, saturation=0.0, tint=0.0, grey=0.0):
    """Brightness, contrast, saturation and each channel (tint) times a factor uniform in 1 - strength .. 1 + strength;
    grey with probability `grey`. Together one linear map of the colours, rounded and clipped once.
    """
    strengths = np.array([brightness, contrast, saturation, tint, tint, tint])
    if strengths.min() < 0 or not 0 <= grey <= 1:
        raise InputError(f'augmentation colour: brightness={brightness}, contrast={contrast}, saturation={saturation}, '
                         f'tint={tint}, grey={grey}: give strengths of at least 0, and of grey a probability')

    def augment(picture, rng):
        bright, against, vivid, *tints = np.maximum(1 + strengths * rng.uniform(-1, 1, 6), 0)
        blend = np.diag(tints) @ (vivid * np.eye(3) + (1 - vivid) * LUMINANCE)
        if rng.random() < grey:
            blend = np.broadcast_to(LUMINANCE @ blend, (3, 3))
        # contrast is about the mean luminance of the picture
        middle = LUMINANCE @ picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        offset = bright * (1 - against) * middle * blend.sum(axis=1)
        return picture.convert('RGB', tuple(np.column_stack([bright * against * blend, offset]).reshape(-1).tolist()))
    return augment


# name -> function(size, **options) -> function(picture of PIL, rng) -> picture
AUGMENTATIONS: Dict[str, Callable[..., Callable]] = {'affine': _affine, 'colour': _colour}


def augmenting(augmentation, size, seed):
    """function(image uint8 (h, w, 3), position in the epoch) -> image uint8 (H, W, 3).

    Args:
        augmentation: name of AUGMENTATIONS -> its options, applied in this order.
        size: (H, W).
        seed: of the epoch; what is random is drawn from it and the position.

    Raises:
        InputError: an unknown augmentation, or options that it does not have.
    """
    chain = []
    for name, options in augmentation.items():
        if not isinstance(options, dict):
            raise InputError(f'augmentation {name}: {options!r}: give its options by name, {{}} for none')
        chain.append(create(known('augmentation', name, AUGMENTATIONS), f'augmentation {name}', size, **options))

    def augment(image, position):
        if not chain:
            return image
        # not the crop's generator: an augmentation more leaves the crops as they are
        rng = np.random.default_rng((seed, int(position), 1))
        picture = Image.fromarray(image)
        for step in chain:
            picture = step(picture, rng)
        return np.asarray(picture)
    return augment


def _border_colour(image):
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).mean(axis=0)


def known(what, name, table):
    """table[name]; an InputError says what there is."""
    if name not in table:
        raise InputError(f'{what} {name!r}: unknown; choose from {", ".join(table)}')
    return table[name]
