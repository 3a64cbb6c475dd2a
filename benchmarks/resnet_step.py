"""A backbone's training step on a CPU: this project's, with plain convolutions, PyTorch's, and the limit.

    python benchmarks/resnet_step.py                                     # ResNet50, 64 px, batch 32
    python benchmarks/resnet_step.py --backbone=mobilenet_v2 --image_size=128 --batch_size=64
    python benchmarks/resnet_step.py --image_size=224 --batch_size=8
    python benchmarks/resnet_step.py --forward                           # an evaluation without onnxruntime

Softmax of 41 classes, momentum, random images. All run in turns, --rounds times. Printed are the median of the rounds and the
processor time, which is the figure to compare on a busy machine. PyTorch's rows (plain, and with channels last) are printed
where it is installed. The limit is the multiplications of all convolutions, thrice in a step, at the rate of numpy's matrix
product.

- ours: src.training.train_step with src.networks.convolution; forward: BatchNorm folded as by src.checkpoints.engine.
- plain: the same with MindSpore's convolutions for maps of every size; left out where they take 60 times as long (MindSpore
  2.9 and later with AVX-512), unless ONEDNN_MAX_CPU_ISA=AVX2 is set.
"""
import importlib.util

import mindspore as ms
import numpy as np
import tools
from mindspore import Tensor, nn

from src.common.device import reference_convolutions, set_up
from src.losses import create_loss
from src.networks import create_image_network
from src.networks.folding import fold_batch_norm
from src.networks.mobilenet_v2 import OUT_CHANNELS, STAGES, STEM
from src.recipes.recipe import make_recipe
from src.training.train_step import create_step

CLASSES = 41
BACKBONES = {'resnet50': {'padding': 'symmetric', 'bn_eps': 1e-5}, 'mobilenet_v2': {}}


def image_network(backbone, by_products):
    """by_products: False for MindSpore's convolutions alone."""
    ms.set_seed(1)
    network = create_image_network(backbone, backbone_options=BACKBONES[backbone])
    for _, cell in network.cells_and_names():
        if hasattr(cell, 'by_products'):
            cell.by_products &= by_products
    return network


def our_forward(backbone, by_products, images):
    """A function that embeds the images."""
    network, batch = fold_batch_norm(image_network(backbone, by_products)), Tensor(images)
    network(batch).asnumpy()
    return lambda: network(batch).asnumpy()


def ours(backbone, by_products, images, labels, process):
    """A function that does one step and waits for it."""
    network = image_network(backbone, by_products)
    loss = create_loss('softmax', num_classes=CLASSES, embedding_size=network.out_channels)
    recipe = make_recipe('SOP', 'softmax', 'small')
    step = create_step(network, loss, 1, recipe, np.full(10000, 0.01, np.float32), process)
    step.set_train()
    columns = Tensor(0, ms.int32), Tensor(images), Tensor(labels)
    step(*columns)[0].asnumpy()
    return lambda: step(*columns)[0].asnumpy()


def multiplications(backbone, images):
    """The number of multiplications of all convolutions in the forward pass."""
    total = []
    network = create_image_network(backbone, backbone_options=BACKBONES[backbone])
    ms.set_context(mode=ms.PYNATIVE_MODE)
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            def count(cell, inputs, output):
                total.append(output.size * cell.in_channels // cell.group * cell.kernel_size[0] * cell.kernel_size[1])
            cell.register_forward_hook(count)
    network.set_train(False)
    network(Tensor(images[:1]))
    ms.set_context(mode=ms.GRAPH_MODE)
    return sum(total) * len(images)


def torch_bottleneck(inputs, channels, stride):
    """PyTorch's block of ResNet50."""
    import torch
    from torch import nn as tnn

    def convolution_and_norm(*sizes):
        return tnn.Conv2d(*sizes, bias=False), tnn.BatchNorm2d(sizes[1])

    class Block(tnn.Module):
        def __init__(self):
            super().__init__()
            self.body = tnn.Sequential(*convolution_and_norm(inputs, channels, 1), tnn.ReLU(),
                                       *convolution_and_norm(channels, channels, 3, stride, 1), tnn.ReLU(),
                                       *convolution_and_norm(channels, 4 * channels, 1))
            same = stride == 1 and inputs == 4 * channels
            self.shortcut = tnn.Identity() if same else tnn.Sequential(
                *convolution_and_norm(inputs, 4 * channels, 1, stride))

        def forward(self, x):
            return torch.relu(self.body(x) + self.shortcut(x))

    return Block()


def torch_resnet50():
    """Layers and width of PyTorch's ResNet50."""
    from torch import nn as tnn
    layers, inputs = [tnn.Conv2d(3, 64, 7, 2, 3, bias=False), tnn.BatchNorm2d(64), tnn.ReLU(), tnn.MaxPool2d(3, 2, 1)], 64
    for stage, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            layers.append(torch_bottleneck(inputs, channels, 2 if stage and not block else 1))
            inputs = 4 * channels
    return layers, inputs


def torch_mobilenet_v2():
    """Layers and width of PyTorch's MobileNetV2."""
    from torch import nn as tnn

    def layer(inputs, outputs, kernel, stride=1, groups=1, act=True):
        found = [tnn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), tnn.BatchNorm2d(outputs)]
        return [*found, tnn.ReLU6(inplace=True)] if act else found

    class Block(tnn.Module):
        def __init__(self, inputs, outputs, expansion, stride):
            super().__init__()
            wide = inputs * expansion
            self.body = tnn.Sequential(*(layer(inputs, wide, 1) if expansion > 1 else []), *layer(wide, wide, 3, stride, wide),
                                       *layer(wide, outputs, 1, act=False))
            self.adds = stride == 1 and inputs == outputs

        def forward(self, x):
            return x + self.body(x) if self.adds else self.body(x)
    layers, inputs = layer(3, STEM, 3, 2), STEM
    for expansion, channels, number, stride in STAGES:
        for block in range(number):
            layers.append(Block(inputs, channels, expansion, 1 if block else stride))
            inputs = channels
    return [*layers, *layer(inputs, OUT_CHANNELS, 1)], OUT_CHANNELS


def torch_network(backbone, images, channels_last):
    """The same network and images in PyTorch."""
    import torch
    from torch import nn as tnn
    layers, inputs = {'resnet50': torch_resnet50, 'mobilenet_v2': torch_mobilenet_v2}[backbone]()
    network = tnn.Sequential(*layers, tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), tnn.Linear(inputs, CLASSES))
    kind = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(memory_format=kind), torch.from_numpy(images).to(memory_format=kind)


def torch_forward(backbone, images, channels_last):
    """A function that embeds the images in PyTorch."""
    import torch
    network, x = torch_network(backbone, images, channels_last)
    network = network[:-1].eval()

    def forward():
        with torch.inference_mode():
            return network(x).numpy()
    forward()
    return forward


def torch_step(backbone, images, labels, channels_last):
    """A function that does one step of the same network in PyTorch."""
    import torch
    network, x = torch_network(backbone, images, channels_last)
    y = torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()
    step()
    return step


def main():
    args = tools.parser(__doc__, backbone='resnet50', image_size=64, batch_size=32, rounds=7, forward=False).parse_args()
    process = set_up('CPU')
    rng = np.random.default_rng(0)
    images = rng.standard_normal((args.batch_size, 3, args.image_size, args.image_size), np.float32)
    labels = rng.integers(0, CLASSES, args.batch_size).astype(np.int32)
    def our_way(by_products):
        return (our_forward(args.backbone, by_products, images) if args.forward
                else ours(args.backbone, by_products, images, labels, process))

    def torch_way(channels_last):
        return (torch_forward(args.backbone, images, channels_last) if args.forward
                else torch_step(args.backbone, images, labels, channels_last))
    ways = {'ours': our_way(True)}
    if args.backbone == 'resnet50' and not reference_convolutions():
        ways['plain'] = our_way(False)
    if importlib.util.find_spec('torch'):
        ways.update({'PyTorch': torch_way(False), 'PyTorch, channels last': torch_way(True)})
    taken = tools.in_turns(ways, args.rounds)
    limit = (2 if args.forward else 6) * multiplications(args.backbone, images) / tools.product_rate()
    for name, (wall, used) in {**taken, 'limit': (limit, float('nan'))}.items():
        print(f'{name:24} {wall * 1e3:8.1f} ms, {used * 1e3:8.1f} ms of the processor, '
              f'{wall / taken["ours"].wall:5.2f} of ours')


if __name__ == '__main__':
    main()
