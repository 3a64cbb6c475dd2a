"""DEM's training step (CUB att, batch 100): this project's, its former one, the published way, PyTorch and the limit.

    python benchmarks/dem_step.py [--width=4096] [--steps=100] [--rounds=5]

All take the same numbers and run in turns in one process, on the cores it is given (`taskset -c 0` for one). A round is
steps / rounds of each, and the smallest of the rounds' medians is printed, so that what else the machine does weighs
little. PyTorch's columns are there where it is installed.

- ours: src.training.train_step with the loss `mse`.
- former: ops.clip_by_global_norm, nn.MSELoss and an update that is never skipped.
- published: image by image through a Python generator, shuffled and batched by the pipeline, with the former step.
- limit: its five matrix products at the rate of numpy's, and Adam's seven passes over all weights at that of a copy.
"""
import argparse
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn, ops

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.losses import create_loss  # noqa: E402
from src.networks import create_network  # noqa: E402
from src.training.optimizer import Adam  # noqa: E402
from src.training.train_step import WithLoss, create_step  # noqa: E402

BATCH, SEMANTICS, HIDDEN = 100, 312, 700
RECIPE = dict(optimizer='adam', beta1=0.01, weight_decay=0.0, decay='weights', loss_scale=1.0, clip_norm=0.2,
              loss_lr_factor=1.0, head_first_epochs=0, epoch_size=1, total_iter_num=0, chunk_size=0)
LR = np.full(100_000, 1e-5, np.float32)


class FormerStep(nn.Cell):
    """The step as it was, with MindSpore's own clipping and mean squared error."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = WithLoss(network, nn.MSELoss())
        self.optimizer = Adam(network.trainable_params(), LR.tolist(), RECIPE['beta1'])
        self.value_and_grad = ops.value_and_grad(self.network, None, self.optimizer.parameters)

    def construct(self, *columns):
        loss, gradients = self.value_and_grad(*columns)
        gradients = ops.clip_by_global_norm(gradients, RECIPE['clip_norm'])
        return ops.depend(loss, self.optimizer(gradients))


class Rows:
    """One image a call, as the published generator gives them."""

    def __init__(self, *columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns[0])

    def __getitem__(self, row):
        return tuple(column[row] for column in self.columns)


def torch_step(weights, semantics, features, fused):
    """PyTorch's step from the same weights; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    fc1, fc2 = torch.nn.Linear(SEMANTICS, HIDDEN), torch.nn.Linear(HIDDEN, features.shape[1])
    model = torch.nn.Sequential(fc1, torch.nn.ReLU(), fc2, torch.nn.ReLU())
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), weights):
            parameter.copy_(torch.tensor(value))
    optimizer = torch.optim.Adam(model.parameters(), float(LR[0]), betas=(RECIPE['beta1'], 0.999), fused=fused)
    semantics, features = torch.tensor(semantics), torch.tensor(features)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(semantics), features)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE['clip_norm'])
        optimizer.step()
        return loss.item()

    return step


def limit(width):
    """Five matrix products by numpy, and as many bytes as Adam moves by a copy."""
    rng = np.random.default_rng(0)
    semantics, hidden, error = (rng.standard_normal((BATCH, n), np.float32) for n in (SEMANTICS, HIDDEN, width))
    w1, w2 = (rng.standard_normal(shape, np.float32) for shape in ((HIDDEN, SEMANTICS), (width, HIDDEN)))
    source = np.ones(w1.size + w2.size, np.float32)
    target = np.empty_like(source)

    def step():
        semantics @ w1.T, hidden @ w2.T, error.T @ hidden, error @ w2, hidden.T @ semantics
        for _ in range(3):  # gradient, two moments and weights read, three of them written: 7 passes, a copy is 2
            np.copyto(target, source)
        np.copyto(target[:len(target) // 2], source[:len(target) // 2])

    return step


def main():
    """Print milliseconds per step, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--width', type=int, default=4096, help='of the features')
    parser.add_argument('--steps', type=int, default=100)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device('CPU')
    rng = np.random.default_rng(1)
    rows = 10 * BATCH
    semantics = rng.random((rows, SEMANTICS), np.float32)
    features = np.abs(rng.standard_normal((rows, args.width), np.float32))
    networks = [create_network('cub_att', visual_dim=args.width) for _ in range(3)]
    weights = [p.asnumpy().copy() for p in networks[0].get_parameters()]
    for network in networks:
        for parameter, value in zip(network.get_parameters(), weights):
            parameter.set_data(Tensor(value))
    batch = Tensor(semantics[:BATCH]), Tensor(features[:BATCH])
    alone = SimpleNamespace(target='CPU', device_id=0, rank=0, size=1)
    ours, former = create_step(networks[0], create_loss('mse'), 1, RECIPE, LR, alone), FormerStep(networks[1])
    reader = FormerStep(networks[2])
    pipeline = ds.GeneratorDataset(Rows(semantics, features), ['label', 'data'], shuffle=True)
    pipeline = pipeline.batch(BATCH, drop_remainder=True)
    go_on = Tensor(0, ms.int32)

    def batches():
        while True:
            yield from pipeline.create_tuple_iterator(num_epochs=1)

    source = batches()
    steps = {
        'former': lambda: former(*batch).asnumpy(),
        'ours': lambda: [output.asnumpy() for output in ours(go_on, *batch)],
        'published': lambda: reader(*next(source)).asnumpy(),
        'PyTorch': torch_step(weights, semantics[:BATCH], features[:BATCH], False),
        'PyTorch, fused': torch_step(weights, semantics[:BATCH], features[:BATCH], True),
        'limit': limit(args.width),
    }
    steps = {name: step for name, step in steps.items() if step}
    for step in steps.values():
        step()
    medians = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            seconds = []
            for _ in range(args.steps // args.rounds):
                began = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - began)
            medians[name].append(float(np.median(seconds)))
    best = {name: min(values) for name, values in medians.items()}
    apart = max(np.abs(p.asnumpy() - q.asnumpy()).max() / np.abs(q.asnumpy()).max()
                for p, q in zip(networks[0].get_parameters(), networks[1].get_parameters()))
    print(f'CUB att, {args.width}-d features, batch {BATCH}, {len(os.sched_getaffinity(0))} cores')
    for name, seconds in best.items():
        print(f'{name:16}{seconds * 1e3:8.2f} ms/step   {seconds / best["former"]:5.2f} of the former, '
              f'{seconds / best["limit"]:5.2f} of the limit')
    print(f'weights after {args.steps // args.rounds * args.rounds + 1} steps, ours against the former: {apart:.1e} '
          'of the largest')


if __name__ == '__main__':
    main()
