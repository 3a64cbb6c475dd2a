"""ResNet with bottlenecks, without classifier (He et al., CVPR 2016; stride on the 3x3 convolution).

Parameter names are those of the MindSpore model zoo, so that its checkpoints load unchanged.
"""
import mindspore.nn as nn
from mindspore import mint, ops
from mindspore.common.initializer import HeNormal

from src.errors import InputError

EXPANSION = 4


def _conv(in_channels, out_channels, kernel, stride, padding):
    where = {'pad_mode': 'same'} if padding == 'same' else {'pad_mode': 'pad', 'padding': kernel // 2}
    return nn.Conv2d(in_channels, out_channels, kernel, stride, has_bias=False,
                     weight_init=HeNormal(mode='fan_out', nonlinearity='relu'), **where)


def _batch_norm(channels, eps, gamma='ones'):
    # MindSpore's momentum is the weight of the old statistics: 0.9 here is 0.1 in PyTorch.
    return nn.BatchNorm2d(channels, eps=eps, momentum=0.9, gamma_init=gamma)


class Bottleneck(nn.Cell):
    """1x1, 3x3 with the stride, 1x1; the shortcut is a 1x1 convolution where shape changes."""

    def __init__(self, in_channels, channels, stride, padding, bn_eps):
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = _conv(in_channels, channels, 1, 1, padding)
        self.bn1 = _batch_norm(channels, bn_eps)
        self.conv2 = _conv(channels, channels, 3, stride, padding)
        self.bn2 = _batch_norm(channels, bn_eps)
        self.conv3 = _conv(channels, out_channels, 1, 1, padding)
        # A block that starts as its shortcut trains better (Goyal et al., arXiv 1706.02677, section 5.1).
        self.bn3 = _batch_norm(out_channels, bn_eps, gamma='zeros')
        self.down_sample_layer = None
        if stride != 1 or in_channels != out_channels:
            self.down_sample_layer = nn.SequentialCell(_conv(in_channels, out_channels, 1, stride, padding),
                                                       _batch_norm(out_channels, bn_eps))

    def construct(self, x):
        relu = mint.nn.functional.relu
        shortcut = x if self.down_sample_layer is None else self.down_sample_layer(x)
        x = relu(self.bn1(self.conv1(x)))
        x = relu(self.bn2(self.conv2(x)))
        return relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Cell):
    """Images to globally averaged features.

    Args:
        blocks (four ints): bottlenecks of every stage.
        padding (str): 'same' is MindSpore's, one-sided at stride 2, as in the published metric_learn checkpoints;
            'symmetric' (stem 3, 3x3 and max pool 1) is what torchvision's and Paddle's weights were trained with.
            The weights fit both and give other outputs: padding belongs to a checkpoint.
        bn_eps (float): epsilon of every BatchNorm; torchvision's and Paddle's weights want 1e-5.
        last_stride (int): stride of the fourth stage; 1 keeps its map twice as high and wide.
        stem_relu (bool): whether ReLU follows the first BatchNorm; CTL's network has none.

    Inputs: images (N, 3, H, W) float32. Outputs: (N, 2048) float32.

    Raises:
        InputError: padding is neither of the two.
    """

    out_channels = 512 * EXPANSION

    def __init__(self, blocks, padding='same', bn_eps=1e-4, last_stride=2, stem_relu=True):
        super().__init__()
        if padding not in ('same', 'symmetric'):
            raise InputError(f"padding is {padding!r}: choose 'same' or 'symmetric'")
        self.conv1 = _conv(3, 64, 7, 2, padding)
        self.bn1 = _batch_norm(64, bn_eps)
        self.symmetric = padding == 'symmetric'
        self.max_pool = nn.MaxPool2d(3, 2, pad_mode='valid' if self.symmetric else 'same')
        self.stem_relu = stem_relu
        self.layer1 = self._stage(blocks[0], 64, 64, 1, padding, bn_eps)
        self.layer2 = self._stage(blocks[1], 256, 128, 2, padding, bn_eps)
        self.layer3 = self._stage(blocks[2], 512, 256, 2, padding, bn_eps)
        self.layer4 = self._stage(blocks[3], 1024, 512, last_stride, padding, bn_eps)

    @staticmethod
    def _stage(blocks, in_channels, channels, stride, padding, bn_eps):
        cells = [Bottleneck(in_channels, channels, stride, padding, bn_eps)]
        cells += [Bottleneck(EXPANSION * channels, channels, 1, padding, bn_eps) for _ in range(blocks - 1)]
        return nn.SequentialCell(cells)

    def construct(self, images):
        x = self.bn1(self.conv1(images))
        if self.stem_relu:
            x = mint.nn.functional.relu(x)
        if self.symmetric:
            # A repeated border pools like one of -infinity; MaxPool2d's own padding is slower and has no ONNX export.
            x = ops.concat((x[:, :, :1], x, x[:, :, -1:]), 2)
            x = ops.concat((x[:, :, :, :1], x, x[:, :, :, -1:]), 3)
        x = self.max_pool(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return ops.mean(x, (2, 3))  # mint.mean has no ONNX export
