"""The base type of backbones, and the facts that a network of images needs about each."""
from typing import Any, Dict, Sequence

from mindspore import nn

from src.common.imagenet import DEVIATION, MEAN


class Backbone(nn.Cell):
    """Images (N, 3, H, W) float32, normalised -> feature map (N, out_channels, h, w) float32.

    Attributes:
        out_channels: channels of the feature map.
        input_size: height and width in pixels for which its published weights were trained.
        mean, deviation: of the normalisation of its images, three values each, for pixels of 0..1.
        conventions: source of weights (src.checkpoints.weights.Weights.source) -> constructor options that weights
            from there were trained with.
    """

    out_channels: int
    input_size: int = 224
    mean: Sequence[float] = MEAN
    deviation: Sequence[float] = DEVIATION
    conventions: Dict[str, Dict[str, Any]] = {}

    @staticmethod
    def rename(name: str) -> str:
        """Name in this network of a parameter that torchvision or PaddleCV calls `name`."""
        return name
