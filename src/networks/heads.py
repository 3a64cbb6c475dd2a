"""What follows a backbone: a linear embedding, or the BatchNorm neck of re-identification.

Both keep the backbone's parameter names as they are alone, so one checkpoint serves backbone and whole network.
"""
import mindspore.nn as nn
from mindspore import ops

from src.networks.resnet import ResNet


class EmbeddingNetwork(nn.Cell):
    """A backbone and a linear layer `embedding`.

    Inputs: images (N, 3, H, W) float32. Outputs: (N, embedding_size) float32.
    """

    def __init__(self, backbone, embedding_size):
        super().__init__(auto_prefix=False)
        self.backbone = backbone
        self.embedding = nn.Dense(backbone.out_channels, embedding_size, weight_init='xavier_uniform',
                                  bias_init='zeros')
        self.embedding.update_parameters_name('embedding.')
        self.out_channels = embedding_size

    def construct(self, images):
        return self.embedding(self.backbone(images))


class Neck(nn.BatchNorm1d):
    """BatchNorm1d, written out for evaluation: MindSpore 2.8's has no usable ONNX export.

    Inputs and outputs: (N, D) float32.
    """

    def construct(self, x):
        if self.training:
            return super().construct(x)
        return (x - self.moving_mean) / ops.sqrt(self.moving_variance + self.eps) * self.gamma + self.beta


class ReidNetwork(nn.Cell):
    """A backbone and a BatchNorm `neck` whose bias stays 0 (Luo et al., arXiv 1903.07071; CTL, arXiv 2104.13643).

    Inputs: images (N, 3, H, W) float32.
    Outputs: in training (f, b), each (N, 2048) float32: the feature for the metric losses and the neck's output
        for the classifier; otherwise b alone, the embedding for retrieval.
    """

    def __init__(self, backbone):
        super().__init__(auto_prefix=False)
        self.backbone = backbone
        self.neck = Neck(backbone.out_channels, eps=1e-5, momentum=0.9)
        self.neck.update_parameters_name('neck.')
        self.neck.beta.requires_grad = False
        self.out_channels = backbone.out_channels

    def construct(self, images):
        feature = self.backbone(images)
        embedding = self.neck(feature)
        return (feature, embedding) if self.training else embedding


def image_network(blocks, embedding_size=0, **options):
    """ResNet(blocks, **options), followed by a linear embedding unless embedding_size is 0."""
    backbone = ResNet(blocks, **options)
    return EmbeddingNetwork(backbone, embedding_size) if embedding_size else backbone


def reid_network(blocks, padding='symmetric', bn_eps=1e-5, last_stride=1, stem_relu=False):
    """CTL's network; its defaults are for a start from torchvision's ImageNet weights."""
    return ReidNetwork(ResNet(blocks, padding, bn_eps, last_stride, stem_relu))
