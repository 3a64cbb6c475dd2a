"""Run by test_two_processes.py as each of two processes: python two_processes.py FOLDER.

Writes FOLDER/RANK_NAME.npz: steps on this process's half of a batch, pair losses of the batch of both, with and without a
memory, and the steps of a small network of convolutions with the collective operators of their graph.
"""
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

if __name__ == '__main__':
    # Of the files of a graph the one in which they are counted.
    os.environ.update(MS_DEV_SAVE_GRAPHS='1', MS_DEV_SAVE_GRAPHS_PATH=sys.argv[1], MS_DEV_DUMP_IR_PASSES='graph_build')

import mindspore as ms  # noqa: E402
import numpy as np  # noqa: E402
from mindspore import Parameter, Tensor, nn  # noqa: E402
from mindspore.communication import get_rank, init  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.losses import LOSSES, create_loss, loss_class  # noqa: E402
from src.losses.loss import Loss  # noqa: E402
from src.losses.references import WithReferences  # noqa: E402
from src.networks.convolution import Convolution  # noqa: E402
from src.training.train_step import Average, create_step  # noqa: E402

RECIPE = dict(optimizer='adam', beta1=0.9, epsilon_hat=True, weight_decay=0.01, decay='weights', loss_scale=1024.0,
              clip_norm=0.1, loss_lr_factor=1.0, head_first_epochs=0, epoch_size=1, total_iter_num=0)
CONVOLUTIONS_RECIPE = dict(RECIPE, optimizer='momentum', momentum=0.9, loss_scale=1.0, clip_norm=0.0, chunk_size=0)
STEPS, ROWS, WIDTH, MEMORY = 5, 8, 3, 22
PAIR_LOSSES = [name for name, row in LOSSES.items() if row.kind == 'pair']


class Distances(Loss):
    """Mean square of the distances to a proxy."""

    def __init__(self):
        super().__init__()
        self.proxies = Parameter(Tensor([1.0, -1.0, 0.5], ms.float32), name='proxies')

    def construct(self, outputs, targets):
        return ((outputs - targets - self.proxies) ** 2).mean()


class Convolutions(nn.Cell):
    """Three convolutions with frozen BatchNorm. The maps of the last two are small enough for matrix products on a CPU."""

    new_layers = ()

    def __init__(self):
        super().__init__()
        widths = (3, 4, 6, 8)
        self.layers = nn.SequentialCell([layer for i in range(3) for layer in (
            Convolution(widths[i], widths[i + 1], 3, 2, 'symmetric', 'he_normal'),
            nn.BatchNorm2d(widths[i + 1], use_batch_statistics=False), nn.ReLU())])

    def construct(self, images):
        return self.layers(images).mean((2, 3))


class Square(Loss):
    def construct(self, embeddings, labels):
        return (embeddings * embeddings).mean()


def share(rank, size):
    """This process's rows of a batch."""
    return slice(rank * ROWS // size, (rank + 1) * ROWS // size)


def steps(rank, size, chunk_size):
    """Losses, what was said and the weights after three steps, the last of them not finite for rank 1."""
    network = nn.SequentialCell(nn.Dense(4, 5, weight_init='ones'), nn.Tanh(), nn.Dense(5, 3, weight_init='ones'))
    for parameter in network.get_parameters():
        values = np.random.default_rng(parameter.size).standard_normal(parameter.shape)
        parameter.set_data(Tensor(values, ms.float32))
    process = SimpleNamespace(target='CPU', device_id=0, rank=rank, size=size)
    step = create_step(network, Distances(), 1, {**RECIPE, 'chunk_size': chunk_size}, np.full(9, 0.05, np.float32),
                       process)
    step.set_train()
    rng = np.random.default_rng(3)
    own = share(rank, size)
    said = []
    for number in range(3):
        x, y = rng.standard_normal((ROWS, 4)), rng.standard_normal((ROWS, 3))
        if number == 2:
            y[6] = np.inf
        stop = Tensor(15 if number == 1 and rank == size - 1 else 0, ms.int32)
        said.append([float(output.asnumpy())
                     for output in step(stop, Tensor(x[own], ms.float32), Tensor(y[own], ms.float32))])
    return {'said': np.array(said), **{p.name: p.asnumpy() for p in step.get_parameters()}}


def remembering(rank, size):
    """Values and gradients of this process's rows of every step with a memory, and the memory after the last."""
    random = np.random.default_rng(0)
    batches = random.normal(size=(STEPS, ROWS, WIDTH)).astype(np.float32)
    labels = random.integers(0, 3, (STEPS, ROWS)).astype(np.int32)
    own = share(rank, size)
    loss = WithReferences(create_loss('contrastive', margin=0.2), WIDTH, MEMORY, 1, rank, size)
    step = ms.value_and_grad(loss)
    results = [step(Tensor(x), Tensor(y)) for x, y in zip(batches[:, own], labels[:, own])]
    return {'values': np.array([value.asnumpy() for value, _ in results]),
            'gradients': np.array([gradient.asnumpy() for _, gradient in results]),
            **{p.name: p.asnumpy() for p in loss.get_parameters()}}


def gathering(rank, size):
    """Value of each pair loss of all rows, and the gradient of this process's."""
    x = np.random.default_rng(1).normal(size=(12, WIDTH)).astype(np.float32)
    own = slice(rank * 12 // size, (rank + 1) * 12 // size)
    found = {}
    for name in PAIR_LOSSES:
        kind = loss_class(name)
        y = np.array({'triplet': [0, 0, 1, 2, 2, 0] * 2, 'pairs': [0, 0, 1, 1, 2, 2, 1, 1, 3, 3, 0, 0]}.get(
            kind.batch, [0] * 3 + [1] * 3 + [2] * 3 + [0] * 3), np.int32)
        mask = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1], np.int32)
        loss = WithReferences(create_loss(name, **({'num_instances': 3} if 'num_instances' in kind.needs else {})), WIDTH,
                              rank=rank, size=size)
        columns = [Tensor(column[own]) for column in (x, y, mask)[:2 + kind.takes_mask]]
        value, gradient = ms.value_and_grad(loss)(*columns)
        found[f'{name} value'], found[f'{name} gradient'] = value.asnumpy(), gradient.asnumpy()
    return found


def averages(rank, size):
    """Gradients of several dtypes and shapes averaged over the processes."""
    shapes = {'one': ((2, 3), ms.float32), 'two': ((4,), ms.float16), 'three': ((), ms.float32),
              'four': ((1, 2, 1), ms.float16)}
    parameters = ms.ParameterTuple([Parameter(Tensor(np.zeros(shape), dtype), name=name)
                                    for name, (shape, dtype) in shapes.items()])
    gradients = tuple(Tensor(np.full(shape, i + 1 + rank), dtype) for i, (shape, dtype) in enumerate(shapes.values()))
    return {name: mean.asnumpy() for name, mean in zip(shapes, Average(parameters, size)(gradients))}


def convolutions(rank, size):
    """Parameters of a small network after two steps that do not depend on how the batch is divided."""
    ms.set_seed(1)
    process = SimpleNamespace(target='CPU', device_id=0, rank=rank, size=size)
    step = create_step(Convolutions(), Square(), 1, CONVOLUTIONS_RECIPE, np.full(3, 0.01, np.float32), process)
    step.set_train()
    images = np.random.default_rng(4).standard_normal((ROWS, 3, 8, 8)).astype(np.float32)[share(rank, size)]
    for _ in range(2):
        step(Tensor(0, ms.int32), Tensor(images), Tensor(np.zeros(len(images), np.int32)))
    return {p.name: p.asnumpy() for p in step.get_parameters()}


def collectives(graphs):
    """How often each collective operator stands in the saved graphs."""
    text = ''.join(path.read_text() for path in graphs.glob('graph_build_*.ir'))
    return {name: len(re.findall(rf'\b{name}\(', text)) for name in ('AllReduce', 'AllGather')}


def main():
    folder = Path(sys.argv[1])
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device('CPU')
    init()
    rank = get_rank()
    # First, so that its graph is the only one that is saved by then.
    found = {'convolutions': convolutions(rank, 2), 'collectives': collectives(folder / f'rank_{rank}')}
    found['remembering'] = remembering(rank, 2)
    for chunk_size in (0, 3):
        found[f'steps{chunk_size}'] = steps(rank, 2, chunk_size)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    found['gathering'] = gathering(rank, 2)
    ms.set_context(mode=ms.GRAPH_MODE)
    found['averages'] = averages(rank, 2)
    for name, arrays in found.items():
        np.savez(folder / f'{rank}_{name}.npz', **arrays)


if __name__ == '__main__':
    main()
