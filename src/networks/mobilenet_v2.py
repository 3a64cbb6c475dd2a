"""MobileNetV2 without classifier (Sandler et al., CVPR 2018, arXiv 1801.04381), with the parameter names of torchvision."""
from typing import List

import mindspore.nn as nn
from mindspore import Tensor, ops
from mindspore.common.initializer import HeNormal

from src.common.device import cap_instruction_set
from src.common.errors import InputError
from src.networks.backbone import Backbone
from src.networks.convolution import Convolution
from src.networks.resnet import batch_norm

# Expansion, output channels, number of blocks, stride of the first of them (table 2 of the paper).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, OUT_CHANNELS = 32, 1280


class InvertedResidual(nn.Cell):
    """1x1 convolution to more channels, 3x3 depthwise, 1x1 to fewer; added to the input if the shape stays.

    Args:
        in_channels, out_channels: channels of input and output. expansion: channels in between as a multiple of in_channels;
            1 leaves the first convolution out.
        stride: of the depthwise convolution.
        frozen: see batch_norm.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int, frozen: bool):
        super().__init__()
        wide = in_channels * expansion
        layers = [] if expansion == 1 else [_layer(in_channels, wide, 1, 1, frozen)]
        layers += [_layer(wide, wide, 3, stride, frozen, depthwise=True), _convolution(wide, out_channels, 1, 1),
                   batch_norm(out_channels, 1e-5, frozen)]
        self.conv = nn.SequentialCell(layers)
        self.adds = stride == 1 and in_channels == out_channels

    def construct(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.adds else y


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int, depthwise: bool = False) -> nn.Conv2d:
    initial = HeNormal(mode='fan_out', nonlinearity='relu')
    if not depthwise:
        return Convolution(in_channels, out_channels, kernel, stride, 'symmetric', initial)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, pad_mode='pad', padding=kernel // 2, group=in_channels,
                     has_bias=False, weight_init=initial)


def _layer(in_channels: int, out_channels: int, kernel: int, stride: int, frozen: bool, depthwise: bool = False
           ) -> nn.SequentialCell:
    return nn.SequentialCell(_convolution(in_channels, out_channels, kernel, stride, depthwise),
                             batch_norm(out_channels, 1e-5, frozen), nn.ReLU6())


class MobileNetV2(Backbone):
    """Images to the feature map of the last layer, with width multiplier 1.0.

    On a CPU create it before the process computes anything: afterwards its convolutions may be 60 times slower (see
    src.common.device.cap_instruction_set).

    Args:
        frozen_batch_norm: whether statistics, gamma and beta stay as they are in training, for pretrained weights and
            small batches.
        frozen_layers: number of first layers of `features` that keep all their values in training: 0 for none, 7 for
            all layers with maps above a sixteenth of the image's side, which take half of a step.

    Inputs: images (N, 3, H, W) float32. Outputs: (N, 1280, H / 32, W / 32) float32, sides rounded up.

    Raises:
        InputError: frozen_layers is not 0 to 19.
    """

    out_channels = OUT_CHANNELS

    def __init__(self, *, frozen_batch_norm: bool = False, frozen_layers: int = 0):
        super().__init__()
        # Its depthwise convolutions are MindSpore's.
        cap_instruction_set()
        blocks: List[nn.Cell] = [_layer(3, STEM, 3, 2, frozen_batch_norm or frozen_layers > 0)]
        channels = STEM
        for expansion, width, number, stride in STAGES:
            for i in range(number):
                blocks.append(InvertedResidual(channels, width, expansion, stride if i == 0 else 1,
                                               frozen_batch_norm or len(blocks) < frozen_layers))
                channels = width
        blocks.append(_layer(channels, OUT_CHANNELS, 1, 1, frozen_batch_norm or len(blocks) < frozen_layers))
        if not 0 <= frozen_layers <= len(blocks):
            raise InputError(f'frozen_layers is {frozen_layers}: give a number from 0 to {len(blocks)}')
        self.features = nn.SequentialCell(blocks)
        self.frozen_layers = frozen_layers
        for block in blocks[:frozen_layers]:
            for parameter in block.get_parameters():
                parameter.requires_grad = False

    def construct(self, images: Tensor) -> Tensor:
        x = images
        for i, layer in enumerate(self.features):
            if i == self.frozen_layers:
                x = ops.stop_gradient(x)
            x = layer(x)
        return x
