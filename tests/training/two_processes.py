"""Run by test_distributed_step.py as each of two processes: steps on this process's half of a batch."""
import sys
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.communication import get_rank, init

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.losses.loss import Loss  # noqa: E402
from src.training.train_step import create_step  # noqa: E402

RECIPE = dict(optimizer='adam', beta1=0.9, weight_decay=0.01, decay='weights', loss_scale=1024.0, clip_norm=0.1,
              loss_lr_factor=1.0, head_first_epochs=0, epoch_size=1, total_iter_num=0)


class Distances(Loss):
    """Mean square of the distances to a proxy."""

    def __init__(self):
        super().__init__()
        self.proxies = Parameter(Tensor([1.0, -1.0, 0.5], ms.float32), name='proxies')

    def construct(self, outputs, targets):
        return ((outputs - targets - self.proxies) ** 2).mean()


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
    share = slice(8 * rank // size, 8 * (rank + 1) // size)
    said = []
    for number in range(3):
        x, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 3))
        if number == 2:
            y[6] = np.inf
        stop = Tensor(15 if number == 1 and rank == size - 1 else 0, ms.int32)
        said.append([float(output.asnumpy())
                     for output in step(stop, Tensor(x[share], ms.float32), Tensor(y[share], ms.float32))])
    return {'said': np.array(said), **{p.name: p.asnumpy() for p in step.get_parameters()}}


def main():
    """Write what each step found to FOLDER/RANK_CHUNK.npz."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device('CPU')
    init()
    for chunk_size in (0, 3):
        np.savez(Path(sys.argv[1]) / f'{get_rank()}_{chunk_size}.npz', **steps(get_rank(), 2, chunk_size))


if __name__ == '__main__':
    main()
