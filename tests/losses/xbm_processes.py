"""Steps of the cross-batch memory in one process, or as one of several: python xbm_processes.py DEVICE_NUM OUTPUT.

Writes OUTPUT.RANK.npz: values and gradients of this process's rows of every step, and the memory after the last.
"""
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore.communication import get_rank, init

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.losses import create_loss  # noqa: E402

STEPS, ROWS, WIDTH, MEMORY = 5, 8, 3, 22


def main(device_num, output):
    ms.set_device('CPU')
    ms.set_context(mode=ms.GRAPH_MODE)
    if device_num > 1:
        init()
    rank = get_rank() if device_num > 1 else 0
    random = np.random.default_rng(0)
    batches = random.normal(size=(STEPS, ROWS, WIDTH)).astype(np.float32)
    labels = random.integers(0, 3, (STEPS, ROWS)).astype(np.int32)
    own = np.s_[:, rank * ROWS // device_num:(rank + 1) * ROWS // device_num]
    loss = create_loss('xbm', embedding_size=WIDTH, memory_size=MEMORY, margin=0.2, warm_up=1, device_num=device_num)
    step = ms.value_and_grad(loss)
    results = [step(Tensor(x), Tensor(y)) for x, y in zip(batches[own], labels[own])]
    np.savez(f'{output}.{rank}.npz', values=[value.asnumpy() for value, _ in results],
             gradients=[gradient.asnumpy() for _, gradient in results],
             **{p.name: p.asnumpy() for p in loss.get_parameters()})


if __name__ == '__main__':
    main(int(sys.argv[1]), sys.argv[2])
