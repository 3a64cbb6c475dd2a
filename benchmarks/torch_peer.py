"""The small recipes in PyTorch (needs torch): Recall@1 with the same schedule, losses and augmentation.

    python benchmarks/torch_peer.py Ebay_train.txt --held_out=0.2          # Recall@1 on held-out training classes
    python benchmarks/torch_peer.py Ebay_train.txt --test=Ebay_test.txt    # trains on all classes
    python benchmarks/torch_peer.py reid_train.txt --test=reid_query.txt --gallery=reid_gallery.txt --loss=norm_softmax
    ... --save=first.pt                                # a second stage: --start=first.pt --lr=1e-3 --epochs=2

About 13 s an epoch of 2,200 pictures on one core, half of that with --bfloat16 on processors that multiply in it. A ResNet18
of widths 48 to 384 on 64 px, AdamW, one cycle; its results are in docs/RESULTS.md.
"""
import math
import time

import numpy as np
import tools
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from src.accuracy import recall_at_k
from src.common.arrays import unit_rows
from src.common.whitening import whitening
from src.datasets.image_list import read_image_list

STORED, SIZE = 80, 64  # px: pictures in memory, and as the network sees them


def read_pictures(name):
    """-> pictures (N, 3, STORED, STORED) uint8, labels (N,), cameras (N,) or None."""
    listed = read_image_list(name)
    arrays = [np.asarray(Image.open(path).convert('RGB').resize((STORED, STORED), Image.BILINEAR))
              for path in listed.paths]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous(), listed.labels, listed.cameras


class Block(nn.Module):
    """Two 3x3 convolutions; it starts as its shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                                  nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        nn.init.zeros_(self.body[-1].weight)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """Pictures to embeddings of `width` values; stages: of how many of the last stages, each of unit length."""

    def __init__(self, width, stages):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.MaxPool2d(3, 2, 1))
        widths = [width * 2 ** stage for stage in range(4)]
        self.layers = nn.ModuleList(
            nn.Sequential(Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1))
            for stage, (inputs, outputs) in enumerate(zip([width, *widths], widths)))
        self.stages, self.width = stages, sum(widths[-stages:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x):
        x, averages = self.stem(x), []
        for layer in self.layers:
            x = layer(x)
            averages.append(x.mean((2, 3)))
        averages = averages[-self.stages:]
        return averages[0] if self.stages == 1 else torch.cat([F.normalize(average) for average in averages], 1)


def standardised(x):
    return ((x - 0.45) / 0.25).contiguous(memory_format=torch.channels_last)


def augmented(pictures, args):
    """uint8 (N, 3, STORED, STORED) -> float32 (N, 3, SIZE, SIZE): turned, scaled, shifted, mirrored, recoloured."""
    count = len(pictures)

    def draw(low, high, *shape):
        return torch.empty(count, *shape).uniform_(low, high)

    angle, scale = draw(-args.rotation, args.rotation) * math.pi / 180, torch.exp(draw(-1, 1) * math.log1p(args.scale))
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cos * mirror, -sin, draw(-args.shift, args.shift)], 1),
            torch.stack([sin * mirror, cos, draw(-args.shift, args.shift)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), (count, 3, SIZE, SIZE), align_corners=False)
    x = F.grid_sample(pictures.float() / 255, grid, padding_mode='border', align_corners=False)
    x = x * (1 + draw(-args.brightness, args.brightness, 1, 1, 1))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + draw(-args.contrast, args.contrast, 1, 1, 1))
    x = x * (1 + draw(-args.tint, args.tint, 3, 1, 1))
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return standardised(torch.where(torch.rand(count, 1, 1, 1) < args.grey, grey.expand_as(x), x).clamp(0, 1))


def supcon(embeddings, labels, temperature):
    """Khosla et al., NeurIPS 2020, L_out; an anchor without a positive does not count."""
    unit = F.normalize(embeddings)
    same = torch.eye(len(labels), dtype=torch.bool)
    logits = (unit @ unit.T / temperature).masked_fill(same, -1e4)
    positive = (labels[:, None] == labels) & ~same
    number = positive.sum(1)
    per_anchor = ((logits - logits.logsumexp(1, keepdim=True)) * positive).sum(1) / number.clamp(min=1)
    return -per_anchor[number > 0].mean()


def with_margin(cosine, labels, margin):
    """Deng et al., arXiv 1801.07698, equation 3: the angle to an image's own class enlarged by the margin."""
    own = cosine.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    enlarged = torch.where(own > -math.cos(margin), torch.cos(torch.acos(own) + margin), own - margin * math.sin(margin))
    return cosine.scatter(1, labels[:, None], enlarged)


def batches(labels, classes, instances, rng):
    """An epoch of batches of `classes` classes x `instances` pictures, none twice in a batch."""
    members = [rng.permutation(np.flatnonzero(labels == one)) for one in range(labels.max() + 1)]
    classes = min(classes, len(members))
    waiting = []
    for _ in range(len(labels) // (classes * instances)):
        if len(waiting) < classes:
            waiting += [one for one in rng.permutation(len(members)) if one not in waiting]
        chosen, waiting = waiting[:classes], waiting[classes:]
        yield np.concatenate([members[one][:instances] for one in chosen])
        for one in chosen:
            members[one] = np.roll(members[one], -instances)


def one_cycle(step, steps, warm=0.2, start=0.04):
    """Share of the largest rate: a cosine from `start` to 1 over the first `warm` of the steps, and one down to 0."""
    if step < warm * steps:
        return start + (1 - start) * (0.5 - 0.5 * math.cos(math.pi * step / (warm * steps)))
    return 0.5 + 0.5 * math.cos(math.pi * (step / steps - warm) / (1 - warm))


@torch.no_grad()
def embed(network, pictures):
    network.eval()
    shrunk = (F.interpolate(part.float() / 255, (SIZE, SIZE), mode='bilinear', antialias=True, align_corners=False)
              for part in pictures.split(256))
    found = torch.cat([network(standardised(part)) for part in shrunk]).numpy()
    network.train()
    return found


def recalls(network, training, query, gallery, turns):
    """Recall@1 of the embeddings as they are, whitened by those of the training pictures, and as the recipes measure: those
    of the pictures turned by 0, 90, ... degrees (`turns` of them) side by side, each averaged with its mirror image's."""
    trained = unit_rows(embed(network, training[0]))
    mean, white = trained.mean(0), whitening(trained, training[1], 0.1)

    def views(pictures):
        turned = (torch.rot90(pictures, turn, (2, 3)) for turn in range(turns))
        both = [[unit_rows(embed(network, view)) for view in (one, one.flip(3))] for one in turned]
        yield both[0][0]
        yield (both[0][0] - mean) @ white
        yield np.concatenate([unit_rows((one + other - 2 * mean) @ white) for one, other in both], axis=1)
    of_query = views(query[0])
    if not gallery:
        return [recall_at_k(found, query[1])[1] for found in of_query]
    return [recall_at_k(found, query[1], gallery=other, gallery_labels=gallery[1])[1]
            for found, other in zip(of_query, views(gallery[0]))]


def split(args):
    """-> training pictures and labels, queries and labels, gallery and labels or None."""
    pictures, labels, cameras = read_pictures(args.train)
    if args.test:
        return (pictures, labels), read_pictures(args.test)[:2], read_pictures(args.gallery)[:2] if args.gallery else None
    classes = np.random.default_rng(100 + args.split).permutation(np.unique(labels))
    held = np.isin(labels, classes[:round(len(classes) * args.held_out)])
    query, gallery = (held, None) if cameras is None else (held & (cameras == 2), held & (cameras == 1))

    def pick(rows):
        return pictures[rows], labels[rows]
    return pick(~held), pick(query), None if gallery is None else pick(gallery)


def train(args):
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    (pictures, labels), (queries, query_labels), gallery = split(args)
    labels = np.unique(labels, return_inverse=True)[1]
    shown, shown_labels = pictures, labels
    if args.turned_classes:
        shown = torch.cat([torch.rot90(pictures, turn, (2, 3)) for turn in range(4)])
        shown_labels = np.concatenate([labels + turn * (labels.max() + 1) for turn in range(4)])
    network = ResNet18(args.width, args.stages).to(memory_format=torch.channels_last)
    classifier = nn.Parameter(torch.randn(shown_labels.max() + 1, network.width) / math.sqrt(network.width))
    if args.start:
        start = torch.load(args.start, weights_only=True)
        network.load_state_dict(start['network'])
        if start['classifier'].shape == classifier.shape:
            classifier.data = start['classifier']
    parameters = list(network.parameters())
    groups = [{'params': [p for p in parameters if p.ndim > 1], 'weight_decay': args.weight_decay, 'factor': 1},
              {'params': [p for p in parameters if p.ndim < 2], 'weight_decay': 0, 'factor': 1},
              {'params': [classifier], 'weight_decay': 0, 'factor': 10}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    per_epoch = len(shown_labels) // (min(args.classes, shown_labels.max() + 1) * args.instances)
    print(f'{len(shown_labels)} pictures of {shown_labels.max() + 1} classes; queries {len(queries)}', flush=True)
    began, step = time.perf_counter(), 0
    for epoch in range(1, args.epochs + 1):
        losses = []
        for rows in batches(shown_labels, args.classes, args.instances, rng):
            for group in optimizer.param_groups:
                group['lr'] = args.lr * group['factor'] * one_cycle(step, args.epochs * per_epoch)
            with torch.autocast('cpu', torch.bfloat16, enabled=args.bfloat16):
                embeddings = network(augmented(shown[rows], args)).float()
            truth = torch.from_numpy(shown_labels[rows])
            if args.loss == 'supcon':
                loss = supcon(embeddings, truth, args.temperature)
            else:
                cosine = F.normalize(embeddings) @ F.normalize(classifier).T
                if args.loss == 'arcmargin':
                    cosine = with_margin(cosine, truth, args.margin)
                loss = F.cross_entropy(cosine / args.temperature, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        if epoch % args.every == 0 or epoch == args.epochs:
            plain, white, turned = recalls(network, (shown, shown_labels), (queries, query_labels), gallery,
                                          4 if args.turned_classes else 1)
            print(f'epoch {epoch:3d} loss {np.mean(losses):.3f} Recall@1 {plain:.4f} whitened {white:.4f} mirrored'
                  f'{" and turned" * args.turned_classes} {turned:.4f} {time.perf_counter() - began:.0f} s', flush=True)
    if args.save:
        torch.save({'network': network.state_dict(), 'classifier': classifier.data}, args.save)


def main():
    parser = tools.parser(
        __doc__, held_out=0.2, temperature=0.1, margin=0.3, lr=4e-3, weight_decay=0.05, rotation=10.0, scale=0.15, shift=0.07,
        brightness=0.2, contrast=0.2, tint=0.1, grey=0.05, split=0, seed=1, width=48, stages=2, classes=32, instances=4,
        epochs=16, every=4, bfloat16=(False, 'convolutions in bfloat16'), turned_classes=(
            False, 'pictures turned by 90, 180 and 270 degrees as classes of their own: four times the pictures an epoch'))
    parser.add_argument('train')
    parser.add_argument('--test', help='a list to measure on; without it, held-out training classes')
    parser.add_argument('--gallery', help='with --test: what its pictures are searched in')
    parser.add_argument('--save', help='file for the weights')
    parser.add_argument('--start', help='weights to start from, an earlier --save; its classifier too if of as many classes')
    parser.add_argument('--loss', choices=('supcon', 'norm_softmax', 'arcmargin'), default='supcon')
    train(parser.parse_args())


if __name__ == '__main__':
    main()
