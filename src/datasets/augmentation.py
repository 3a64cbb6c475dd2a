"""Augmentation of single images, in numpy and PIL."""
import math
from typing import Any, Callable, Dict, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.common.errors import InputError
from src.common.imagenet import MEAN
from src.common.registry import create, lookup
from src.datasets.resizing import Size

Augment = Callable[[Image.Image, np.random.Generator], Image.Image]
# Colour of erased pixels: ImageNet's mean, which normalisation takes to 0 up to rounding.
MEAN_COLOUR = np.round(np.array(MEAN) * 255).astype(np.uint8)
LUMINANCE = np.array([0.299, 0.587, 0.114])
# Sides of the input images of affine, as a multiple of the sides of its output.
AFFINE_FROM = 1.25


def _affine(size: Size, rotation: float = 15.0, scale: Sequence[float] = (0.75, 1.25), shift: float = 0.1,
            fill: str = 'border') -> Augment:
    """Turn by up to `rotation` degrees either way, enlarge by a factor in `scale`, shift by up to `shift` of the sides, all
    uniform, and resize to H x W, in one bilinear step. fill: colour outside the picture, the mean of its 'border' pixels or
    'mean', that of ImageNet.
    """
    if fill not in ('border', 'mean'):
        raise InputError(f'augmentation affine: fill={fill}: choose border or mean')
    if rotation < 0 or shift < 0:
        raise InputError(f'augmentation affine: rotation={rotation}, shift={shift}: give numbers of at least 0')
    if np.shape(scale) != (2,) or np.asarray(scale).dtype.kind not in 'if' or not 0 < scale[0] <= scale[1]:
        raise InputError(f'augmentation affine: scale={scale}: give two positive factors, the smaller one first')
    height, width = size

    def augment(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        turn, grow, right, down = rng.random(4).tolist()
        angle = math.radians(rotation * (2 * turn - 1))
        zoom = scale[0] + (scale[1] - scale[0]) * grow
        across, along = picture.width / width, picture.height / height
        # PIL wants the map from a pixel of the result to its place in the picture.
        cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
        x, y = width * (0.5 + shift * (2 * right - 1)), height * (0.5 + shift * (2 * down - 1))
        back = (across * cos, across * sin, across * (width / 2 - cos * x - sin * y),
                -along * sin, along * cos, along * (height / 2 + sin * x - cos * y))
        colour = MEAN_COLOUR if fill == 'mean' else _border_colour(np.asarray(picture))
        return picture.transform((width, height), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR,
                                 fillcolor=tuple(colour.astype(int).tolist()))
    return augment


def _colour(size: Size, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, tint: float = 0.0,
            grey: float = 0.0) -> Augment:
    """Multiply brightness, contrast, saturation and each channel (tint) by a factor uniform in 1 - strength .. 1 + strength;
    make grey with probability `grey`. All are one linear map of the colours, rounded and clipped once.
    """
    strengths = np.array([brightness, contrast, saturation, tint, tint, tint])
    if strengths.min() < 0 or not 0 <= grey <= 1:
        raise InputError(f'augmentation colour: brightness={brightness}, contrast={contrast}, saturation={saturation}, '
                         f'tint={tint}, grey={grey}: give strengths of at least 0, and a probability for grey')

    def augment(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        bright, against, vivid, *tints = np.maximum(1 + strengths * rng.uniform(-1, 1, 6), 0)
        blend = np.diag(tints) @ (vivid * np.eye(3) + (1 - vivid) * LUMINANCE)
        if rng.random() < grey:
            blend = np.broadcast_to(LUMINANCE @ blend, (3, 3))
        # Contrast is relative to the mean luminance of the picture.
        middle = LUMINANCE @ np.asarray(picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
        offset = bright * (1 - against) * middle * blend.sum(axis=1)
        return picture.convert('RGB', tuple(np.column_stack([bright * against * blend, offset]).reshape(-1).tolist()))
    return augment


# name -> function(size, **options) -> Augment
AUGMENTATIONS: Dict[str, Callable[..., Augment]] = {'affine': _affine, 'colour': _colour}


def augmenting(augmentation: Mapping[str, Mapping[str, Any]], size: Size, seed: int
               ) -> Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]:
    """Make a function (image uint8 (h, w, 3), position in the epoch) -> image uint8 (H, W, 3).

    Args:
        augmentation: name of AUGMENTATIONS -> its options, applied in this order.
        size: (H, W).
        seed: seed of the epoch; random numbers are drawn from it and the position.

    Raises:
        InputError: an unknown augmentation, or options that it does not have.
    """
    chain = []
    for name, options in augmentation.items():
        if not isinstance(options, dict):
            raise InputError(f'augmentation {name}: {options!r}: give its options by name, {{}} for none')
        chain.append(create(lookup(AUGMENTATIONS, name, 'augmentation'), f'augmentation {name}', size, **options))

    def augment(image: NDArray[np.uint8], position: int) -> NDArray[np.uint8]:
        if not chain:
            return image
        # Not the generator of the crops: crops must not depend on the augmentation.
        rng = np.random.default_rng((seed, int(position), 1))
        picture = Image.fromarray(image)
        for step in chain:
            picture = step(picture, rng)
        return np.asarray(picture)
    return augment


def _border_colour(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    colour: NDArray[np.float64] = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).mean(axis=0)
    return colour
