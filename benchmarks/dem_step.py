"""DEM's training step (CUB att, batch 100): this project's, plain MindSpore's, the published pipeline's, PyTorch's, the limit.

    python benchmarks/dem_step.py [--width=4096] [--steps=100] [--rounds=5]

All take the same numbers and run in turns in one process, on the cores it is given (`taskset -c 0` for one). A round is
steps / rounds steps of each, and the smallest of the rounds' medians is printed, so that other work on the machine weighs
little. On a busy machine compare the processor time of one core. PyTorch's rows are printed where it is installed.

- ours: src.training.train_step with the loss `mse`.
- former: ops.clip_by_global_norm, nn.MSELoss and an update that is never skipped.
- published: image by image through a Python generator, shuffled and batched by the pipeline, with the `former` step.
- limit: its five matrix products at numpy's rate, and Adam's seven passes over all weights at the rate of copying.
"""
import itertools

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import tools
from mindspore import Tensor, nn, ops

from src.common.device import set_up
from src.losses import create_loss
from src.networks import create_network
from src.recipes.recipe import make_recipe
from src.training.optimizer import Adam
from src.training.train_step import WithLoss, create_step

BATCH, SEMANTICS, HIDDEN = 100, 312, 700
RECIPE = make_recipe('CUB', 'att', 'published')
LR = np.full(100_000, RECIPE.lr_max, np.float32)


class FormerStep(nn.Cell):
    """A step with MindSpore's own clipping and mean squared error."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = WithLoss(network, nn.MSELoss())
        self.optimizer = Adam(network.trainable_params(), LR.tolist(), RECIPE.beta1, False, RECIPE.epsilon_hat)
        self.value_and_grad = ops.value_and_grad(self.network, None, self.optimizer.parameters)

    def construct(self, *columns):
        loss, gradients = self.value_and_grad(*columns)
        gradients = ops.clip_by_global_norm(gradients, RECIPE.clip_norm)
        return ops.depend(loss, self.optimizer(gradients))


class Rows:
    """One image a call, as in the published generator."""

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
    torch.set_num_threads(tools.cores())
    fc1, fc2 = torch.nn.Linear(SEMANTICS, HIDDEN), torch.nn.Linear(HIDDEN, features.shape[1])
    model = torch.nn.Sequential(fc1, torch.nn.ReLU(), fc2, torch.nn.ReLU())
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), weights):
            parameter.copy_(torch.tensor(value))
    optimizer = torch.optim.Adam(model.parameters(), float(LR[0]), betas=(RECIPE.beta1, 0.999), fused=fused)
    semantics, features = torch.tensor(semantics), torch.tensor(features)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(semantics), features)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.clip_norm)
        optimizer.step()
        return loss.item()

    return step


def limit(width):
    """Five matrix products by numpy, and copies of as many bytes as Adam moves."""
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
    args = tools.parser(__doc__, width=(4096, 'of the features'), steps=100, rounds=5).parse_args()
    process = set_up('CPU')
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
    ours, former = create_step(networks[0], create_loss('mse'), 1, RECIPE, LR, process), FormerStep(networks[1])
    reader = FormerStep(networks[2])
    pipeline = ds.GeneratorDataset(Rows(semantics, features), ['label', 'data'], shuffle=True)
    pipeline = pipeline.batch(BATCH, drop_remainder=True)
    no_stop = Tensor(0, ms.int32)
    source = itertools.chain.from_iterable(pipeline.create_tuple_iterator(num_epochs=1) for _ in itertools.count())
    steps = {
        'former': lambda: former(*batch).asnumpy(),
        'ours': lambda: [output.asnumpy() for output in ours(no_stop, *batch)],
        'published': lambda: reader(*next(source)).asnumpy(),
        'PyTorch': torch_step(weights, semantics[:BATCH], features[:BATCH], False),
        'PyTorch, fused': torch_step(weights, semantics[:BATCH], features[:BATCH], True),
        'limit': limit(args.width),
    }
    steps = {name: step for name, step in steps.items() if step}
    for step in steps.values():
        step()
    best = tools.in_turns(steps, args.rounds, args.steps // args.rounds, np.min)
    apart = max(np.abs(p.asnumpy() - q.asnumpy()).max() / np.abs(q.asnumpy()).max()
                for p, q in zip(networks[0].get_parameters(), networks[1].get_parameters()))
    print(f'CUB att, {args.width}-d features, batch {BATCH}, {tools.cores()} cores')
    for name, (seconds, busy) in best.items():
        print(f'{name:16}{seconds * 1e3:8.2f} ms/step {seconds / best["former"].wall:5.2f} of the former '
              f'{seconds / best["limit"].wall:5.2f} of the limit; processor {busy * 1e3:8.2f} ms '
              f'{busy / best["former"].cpu:5.2f} {busy / best["limit"].cpu:5.2f}')
    print(f'weights after {args.steps // args.rounds * args.rounds + 1} steps, ours against the former: {apart:.1e} '
          'of the largest')


if __name__ == '__main__':
    main()
