"""ResNet without classifier (He et al., CVPR 2016; in bottlenecks the stride is on the 3x3 convolution).

Parameter names are those of the MindSpore model zoo, so that its checkpoints load unchanged.
"""
import re
from typing import Any, Dict, Optional, Tuple, Type

import mindspore as ms
import mindspore.nn as nn
from mindspore import Tensor, mint, ops
from mindspore.common.initializer import HeNormal

from src.common.errors import InputError
from src.common.values import Positive
from src.networks.backbone import Backbone
from src.networks.convolution import Convolution, images_first, images_last

SYMMETRIC = {'padding': 'symmetric', 'bn_eps': 1e-5}
# PaddleCV: res4b3_branch2c_weights, bn4b3_branch2c_scale; blocks are a, b, c, ... or a, b1, b2, ...
PADDLE_NAME = re.compile(r'(res|bn)(\d)([a-z])(\d*)_branch(1|2[abc])_(\w+)')
PADDLE_KINDS = {'weights': 'weight', 'scale': 'gamma', 'offset': 'beta', 'mean': 'moving_mean',
                'variance': 'moving_variance'}


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int, padding: str) -> Convolution:
    return Convolution(in_channels, out_channels, kernel, stride, padding,
                       HeNormal(mode='fan_out', nonlinearity='relu'))


def batch_norm(channels: int, eps: float, frozen: bool, gamma: str = 'ones') -> nn.BatchNorm2d:
    """BatchNorm with PyTorch's momentum; frozen: statistics, gamma and beta stay as they are in training."""
    # MindSpore's momentum is the weight of the old statistics: 0.9 here is 0.1 in PyTorch.
    norm = nn.BatchNorm2d(channels, eps=eps, momentum=0.9, gamma_init=gamma,
                          use_batch_statistics=False if frozen else None)
    norm.gamma.requires_grad = norm.beta.requires_grad = not frozen
    return norm


def _shortcut(in_channels: int, out_channels: int, stride: int, padding: str, norm: Dict[str, Any]) -> Any:
    """A 1x1 convolution if the shape changes, else None."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.SequentialCell(_conv(in_channels, out_channels, 1, stride, padding), batch_norm(out_channels, **norm))


class Block(nn.Cell):
    """Convolutions with BatchNorm and ReLU; the last is added to the input, or to a 1x1 convolution of it, before ReLU.

    Attributes:
        kernels: sizes of the convolutions. strided: index of the one that has the stride. norms: names of the BatchNorms.
        expansion: output channels of the last convolution as a multiple of the others'.

    Inputs: x and images as of Convolution. Outputs: in the form of the inputs.
    """

    kernels: Tuple[int, ...]
    strided: int
    norms: Tuple[str, ...]
    expansion: int

    def __init__(self, in_channels: int, channels: int, stride: int, padding: str, norm: Dict[str, Any]):
        super().__init__()
        widths = [in_channels, *[channels] * (len(self.kernels) - 1), self.expansion * channels]
        self.layers = [(f'conv{i + 1}', name) for i, name in enumerate(self.norms)]
        for i, (conv, bn) in enumerate(self.layers):
            setattr(self, conv, _conv(widths[i], widths[i + 1], self.kernels[i], stride if i == self.strided else 1, padding))
            # A block that starts as its shortcut trains better (Goyal et al., arXiv 1706.02677, section 5.1).
            setattr(self, bn, batch_norm(widths[i + 1], **norm, gamma='ones' if i + 1 < len(self.layers) else 'zeros'))
        self.down_sample_layer = _shortcut(in_channels, widths[-1], stride, padding, norm)

    def construct(self, x: Tensor, images: int = 0) -> Tensor:
        shortcut = x
        if self.down_sample_layer is not None:
            shortcut = self.down_sample_layer[1](self.down_sample_layer[0](x, images))
        for conv, bn in self.layers[:-1]:
            x = mint.nn.functional.relu(self.norm(bn, getattr(self, conv)(x, images), images))
        conv, bn = self.layers[-1]
        return mint.nn.functional.relu(self.norm(bn, getattr(self, conv)(x, images), images) + shortcut)

    def norm(self, name: str, x: Tensor, images: int) -> Tensor:
        """The outputs of one of the BatchNorms; derived types can have others, which ask for the images."""
        return getattr(self, name)(x)


class BasicBlock(Block):
    """Block of 3x3 with the stride, 3x3."""

    kernels, strided, norms, expansion = (3, 3), 0, ('bn1d', 'bn2d'), 1


class Bottleneck(Block):
    """Block of 1x1, 3x3 with the stride, 1x1."""

    kernels, strided, norms, expansion = (1, 3, 1), 1, ('bn1', 'bn2', 'bn3'), 4


class ResNet(Backbone):
    """Images to the feature map of the last stage; derived types set the block and the number of blocks per stage.

    Args:
        padding: 'same' is MindSpore's, one-sided at stride 2, as in the published metric_learn checkpoints;
            'symmetric' (stem 3, 3x3 and max pool 1) is what torchvision's and Paddle's weights were trained with.
            Weights fit both but give other outputs: padding belongs to a checkpoint.
        bn_eps: epsilon of every BatchNorm; 1e-5 for torchvision's and Paddle's weights.
        last_stride: stride of the fourth stage; 1 keeps its map twice as high and wide.
        stem_relu: whether ReLU follows the first BatchNorm; CTL's network has none.
        width: channels of the first stage; each further stage has twice as many as the one before.
        frozen_batch_norm: whether statistics, gamma and beta stay as they are in training, for pretrained weights and
            small batches.

    Attributes:
        by_products: whether convolutions are matrix products, with the images as the last axis; see Convolution.

    Inputs: images (N, 3, H, W) float32. Outputs: (N, out_channels, h, w) float32, h and w being H and W by 32.

    Raises:
        InputError: padding is unknown, or width is not positive.
    """

    block: Type[Block] = Bottleneck
    # Block of the first three stages, None for the block of the last.
    early_block: Optional[Type[Block]] = None
    blocks: Tuple[int, int, int, int]
    conventions = {'mindspore': {'padding': 'same', 'bn_eps': 1e-4}, 'torchvision': SYMMETRIC, 'paddle': SYMMETRIC}

    def __init__(self, padding: str = 'same', bn_eps: Positive = 1e-4, last_stride: int = 2, stem_relu: bool = True, *,
                 width: int = 64, frozen_batch_norm: bool = False):
        super().__init__()
        if padding not in ('same', 'symmetric'):
            raise InputError(f"padding is {padding!r}: choose 'same' or 'symmetric'")
        if width < 1:
            raise InputError(f'width is {width}: give the channels of the first stage')
        norm: Dict[str, Any] = {'eps': bn_eps, 'frozen': frozen_batch_norm}
        self.conv1 = _conv(3, width, 7, 2, padding)
        self.bn1 = batch_norm(width, **norm)
        self.symmetric = padding == 'symmetric'
        self.max_pool = nn.MaxPool2d(3, 2, pad_mode='valid' if self.symmetric else 'same')
        self.stem_relu = stem_relu
        self.by_products = ms.get_context('device_target') == 'CPU'
        self.out_channels = width
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            self._stage(self.block if i == 3 else self.early_block or self.block, number, width * 2 ** i, stride, padding, norm)
            for i, (number, stride) in enumerate(zip(self.blocks, (1, 2, 2, last_stride))))

    def _stage(self, block: Type[Block], number: int, channels: int, stride: int, padding: str, norm: Dict[str, Any]
               ) -> nn.SequentialCell:
        cells = []
        for i in range(number):
            cells.append(block(self.out_channels, channels, stride if i == 0 else 1, padding, norm))
            self.out_channels = self.block.expansion * channels
        return nn.SequentialCell(cells)

    def construct(self, images: Tensor) -> Tensor:
        number = images.shape[0] if self.by_products else 0
        x = self.conv1(images_last(images) if number else images, number)
        x = self.bn1(x)
        if self.stem_relu:
            x = mint.nn.functional.relu(x)
        if number:
            x = images_first(x, number)
        if self.symmetric:
            # A repeated border pools like one of -infinity; MaxPool2d's own padding is slower and not in ONNX.
            x = ops.concat((x[:, :, :1], x, x[:, :, -1:]), 2)
            x = ops.concat((x[:, :, :, :1], x, x[:, :, :, -1:]), 3)
        x = self.max_pool(x)
        if number:
            x = images_last(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = block(x, number)
        return images_first(x, number) if number else x

    @staticmethod
    def rename(name: str) -> str:
        """See Backbone.rename. The kinds of torchvision's BatchNorm parameters have MindSpore's names already."""
        for part, ours in (('conv1_', 'conv1.'), ('bn_conv1_', 'bn1.')):
            if name.startswith(part) and name[len(part):] in PADDLE_KINDS:
                return ours + PADDLE_KINDS[name[len(part):]]
        found = PADDLE_NAME.fullmatch(name)
        if found and found[6] in PADDLE_KINDS:
            kind, stage, letter, number, branch, what = found.groups()
            block = int(number) if number else ord(letter) - ord('a')
            is_conv = kind == 'res'
            if branch == '1':
                layer = f'down_sample_layer.{0 if is_conv else 1}'
            else:
                layer = f'{"conv" if is_conv else "bn"}{" abc".index(branch[1])}'
            return f'layer{int(stage) - 1}.{block}.{layer}.{PADDLE_KINDS[what]}'
        return name.replace('.downsample.', '.down_sample_layer.')


class ResNet18(ResNet):
    block = BasicBlock
    blocks = (2, 2, 2, 2)
    # The zoo's 18 and 34 pad as torchvision does; most of their BatchNorms have 1e-4.
    conventions = {**ResNet.conventions, 'mindspore': {'padding': 'symmetric', 'bn_eps': 1e-4}}

    @staticmethod
    def rename(name: str) -> str:
        return re.sub(r'(layer\d\.\d+\.bn[12])\.', r'\1d.', ResNet.rename(name))


class ResNet34(ResNet18):
    blocks = (3, 4, 6, 3)


class ResNet50(ResNet):
    blocks = (3, 4, 6, 3)


class ResNet101(ResNet):
    blocks = (3, 4, 23, 3)


class ResNet152(ResNet):
    blocks = (3, 8, 36, 3)
