"""Recipe `pretrained` with the normalised softmax in PyTorch (needs torch and Pillow): Recall@1 and MAP@R beside ours.

    python benchmarks/torch_peer.py Grocery/reid_train.txt --query=Grocery/reid_query.txt \
        --gallery=Grocery/reid_gallery.txt --weights=mobilenet_v2.pth --seed=1

does what `python train.py --recipe=pretrained --loss_name=norm_softmax --pretrained=mobilenet_v2.pth` does, in PyTorch's
own layers, optimizer and schedule. Only the lists, the whitening and the measures are computed by functions of src, in numpy.
Pictures are decoded once and kept in memory, so its minutes contain less reading than ours. --epochs=0 measures the weights
as they are. Results are in docs/RESULTS.md.
"""
import math
import time

import numpy as np
import tools
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import nn

from src.accuracy import Retrieval, measure
from src.common.arrays import unit_rows
from src.common.whitening import whitening
from src.datasets.image_list import read_image_list

SIZE, LARGER = 128, 160  # px: as the network sees pictures, and what augmentation makes them from
# Expansion, output channels, blocks, stride of the first.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FROZEN = 7  # first layers, BatchNorm in evaluation mode
ROTATION, SCALE, SHIFT = math.radians(10), (0.85, 1.15), 0.07
BRIGHTNESS, CONTRAST, TINT, GREY = 0.2, 0.2, 0.1, 0.05
MEAN, DEVIATION = (torch.tensor(values).view(3, 1, 1) * 255 for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
LUMINANCE = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
BATCH, INSTANCES, TEMPERATURE, SHRINKAGE = 64, 2, 0.1, 0.1


def layer(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride):
        super().__init__()
        wide = inputs * expansion
        self.conv = nn.Sequential(
            *[layer(inputs, wide, 1)] * (expansion > 1), layer(wide, wide, 3, stride, wide),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """Normalised pictures (N, 3, H, W) -> average of the last map (N, 1280); parameters named as in torchvision."""

    def __init__(self):
        super().__init__()
        layers, channels = [layer(3, 32, 3, 2)], 32
        for expansion, width, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(channels, width, expansion, stride if block == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers, layer(channels, 1280, 1))
        self.features[:FROZEN].requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.features[:FROZEN].eval()
        return self

    def forward(self, x):
        return self.features(x).mean((2, 3))


def read(paths, size):
    """-> uint8 (N, 3, size, size), made smaller with antialiasing."""
    pictures = (ImageOps.exif_transpose(Image.open(path)).convert('RGB').resize((size, size), Image.Resampling.BILINEAR)
                for path in paths)
    return torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2)


def normalised(pictures):
    return ((pictures - MEAN) / DEVIATION).contiguous(memory_format=torch.channels_last)


def augmented(pictures):
    """uint8 (N, 3, LARGER, LARGER) -> normalised (N, 3, SIZE, SIZE): mirrored, turned, scaled, shifted, recoloured."""
    count, x = len(pictures), pictures.float()

    def draw(low, high, *shape):
        return torch.empty(count, *shape).uniform_(low, high)
    angle, zoom = draw(-ROTATION, ROTATION), draw(*SCALE)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # From a place of the result to its place in the picture, both -1..1: so a shift of the sides counts twice.
    right, down = draw(-2 * SHIFT, 2 * SHIFT), draw(-2 * SHIFT, 2 * SHIFT)
    rows = [torch.stack([mirror * cos, mirror * sin, -mirror * (cos * right + sin * down)], 1),
            torch.stack([-sin, cos, sin * right - cos * down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), (count, 3, SIZE, SIZE), align_corners=False)
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1]], 2).mean(2)[..., None, None]
    x = F.grid_sample(x - border, grid, align_corners=False) + border
    middle = (x.mean((2, 3), keepdim=True) * LUMINANCE).sum(1, keepdim=True)
    contrast = draw(1 - CONTRAST, 1 + CONTRAST, 1, 1, 1)
    x = (contrast * x + (1 - contrast) * middle) * draw(1 - BRIGHTNESS, 1 + BRIGHTNESS, 1, 1, 1)
    x = x * draw(1 - TINT, 1 + TINT, 3, 1, 1)
    x = torch.where(torch.rand(count, 1, 1, 1) < GREY, (x * LUMINANCE).sum(1, keepdim=True), x)
    return normalised(x.clamp(0, 255))


def batches(labels, rng):
    """Batches (steps, BATCH) of an epoch: pairs of a class, none twice; the pairs of a class lie in different batches."""
    pairs = np.concatenate([rng.permutation(np.flatnonzero(labels == one))[:(labels == one).sum() // INSTANCES * INSTANCES]
                            .reshape(-1, INSTANCES) for one in rng.permutation(labels.max() + 1)])
    steps = len(pairs) * INSTANCES // BATCH
    chosen = np.sort(rng.permutation(len(pairs))[:steps * BATCH // INSTANCES])
    return rng.permutation(pairs[chosen].reshape(-1, steps, INSTANCES).swapaxes(0, 1).reshape(steps, BATCH))


@torch.no_grad()
def embed(network, pictures):
    """-> embeddings (N, 1280) of unit length."""
    return unit_rows(torch.cat([network(normalised(part)) for part in pictures.split(64)]).numpy())


def figures(network, train, query, gallery):
    """Yield a name and the measures of embeddings as they are, whitened by the training pictures, and also mirrored."""
    network.eval()
    trained = embed(network, read(train.paths, SIZE))
    mean, white = trained.mean(0), whitening(trained, np.unique(train.labels, return_inverse=True)[1], SHRINKAGE)
    views = []
    for one in (query, gallery):
        pictures = read(one.paths, SIZE)
        plain, mirrored = embed(network, pictures), embed(network, pictures.flip(3))
        whitened = (plain - mean) @ white
        views.append((plain, whitened, (whitened + (mirrored - mean) @ white) / 2))
    for name, found, others in zip(('as they are', 'whitened', 'whitened and mirrored'), *views):
        yield name, measure(('recall', 'map_at_r'), Retrieval(
            found, query.labels, gallery=others, gallery_labels=gallery.labels, ks=(1, 5, 10)))


def train(network, images, args):
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    labels = np.unique(images.labels, return_inverse=True)[1]
    pictures = read(images.paths, LARGER)
    classes = nn.Parameter(torch.empty(labels.max() + 1, 1280).uniform_(-1280 ** -0.5, 1280 ** -0.5))
    weights = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD([
        {'params': [p for p in weights if p.ndim > 1]}, {'params': [p for p in weights if p.ndim == 1], 'weight_decay': 0},
        {'params': [classes]}], lr=args.lr, momentum=0.9, weight_decay=1e-4)
    epochs = [batches(labels, rng) for _ in range(args.epochs)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [args.lr, args.lr, 10 * args.lr], sum(map(len, epochs)), cycle_momentum=False)
    network.train()
    for epoch in epochs:
        losses = []
        for rows in epoch:
            embeddings = network(augmented(pictures[rows]))
            cosines = F.normalize(embeddings) @ F.normalize(classes).T
            loss = F.cross_entropy(cosines / TEMPERATURE, torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f'{len(losses)} steps, loss {np.mean(losses):.3f}', flush=True)


def main():
    parser = tools.parser(__doc__, lr=0.01, epochs=4, seed=1)
    parser.add_argument('train', help='list of pictures to train on')
    for name, line in (('query', 'list of pictures to search for'), ('gallery', 'list of pictures to search in'),
                       ('weights', "ImageNet weights of MobileNetV2, torchvision's names")):
        parser.add_argument(f'--{name}', required=True, help=line)
    args = parser.parse_args()
    began, lists = time.process_time(), [read_image_list(name) for name in (args.train, args.query, args.gallery)]
    network = MobileNetV2().to(memory_format=torch.channels_last)
    network.load_state_dict(torch.load(args.weights, weights_only=True))
    if args.epochs:
        train(network, lists[0], args)
    for name, found in figures(network, *lists):
        print(f'{name}: ' + ', '.join(f'{measure} {value:.4f}' for measure, value in found.items()))
    print(f'{time.process_time() - began:.0f} s of the processor')


if __name__ == '__main__':
    main()
