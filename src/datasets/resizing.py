"""Resizing of images, for training and evaluation."""
from typing import Callable, Dict, Tuple

import mindspore.dataset.vision as vision
import numpy as np
from PIL import Image

from src.datasets.decoding import Pixels

Size = Tuple[int, int]
Resize = Callable[[Pixels, Size], Pixels]


def _antialias(picture: Pixels, size: Size) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def _between_neighbours(method: vision.Inter) -> Resize:
    # One operator per image: threads cannot share one.
    return lambda picture, size: np.asarray(vision.Resize(size, method)(picture))


# Name -> function (picture uint8 (h, w, 3), (H, W)) -> picture uint8 (H, W, 3).
# - antialias: triangle filter over all pixels that a new pixel covers, by PIL, as in torchvision: for torchvision weights.
# - bilinear, bicubic: MindSpore's, between the 4 or 16 pixels around the new pixel's centre, ignoring pixels in
#   between, as in the published metric_learn.
INTERPOLATIONS: Dict[str, Resize] = {
    'antialias': _antialias, 'bilinear': _between_neighbours(vision.Inter.BILINEAR),
    'bicubic': _between_neighbours(vision.Inter.BICUBIC)}


def short_side(picture: Pixels, side: int) -> Size:
    """(H, W) of an image resized to a shorter side of `side`; the longer is rounded down, as in torchvision and MindSpore."""
    height, width = picture.shape[:2]
    short = min(height, width)
    return height * side // short, width * side // short
