"""Run by test_fusion.py as each of two processes: compile a small ResNet's step and save its graphs to FOLDER."""
import os
import sys
from pathlib import Path
from types import SimpleNamespace

# Of the files of a graph the one that is counted.
os.environ.update(MS_DEV_SAVE_GRAPHS='1', MS_DEV_SAVE_GRAPHS_PATH=sys.argv[1], MS_DEV_DUMP_IR_PASSES='graph_build')

import mindspore as ms  # noqa: E402
import numpy as np  # noqa: E402
from mindspore import Tensor  # noqa: E402
from mindspore.communication import init  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.losses.loss import Loss  # noqa: E402
from src.networks.resnet import ResNet  # noqa: E402
from src.training.train_step import create_step  # noqa: E402

RECIPE = dict(optimizer='momentum', momentum=0.9, weight_decay=1e-4, decay='weights', loss_scale=1.0, clip_norm=0.0,
              loss_lr_factor=1.0, head_first_epochs=0, epoch_size=1, total_iter_num=0, chunk_size=0)


class SmallResNet(ResNet):
    blocks = (1, 1, 1, 1)


class Square(Loss):
    def construct(self, embeddings, labels):
        return (embeddings * embeddings).mean()


def main():
    """sys.argv: folder, whether to fuse."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device('CPU')
    init()
    if sys.argv[2] == 'True':
        ms.set_auto_parallel_context(comm_fusion={'allreduce': {'mode': 'auto', 'config': None}})
    process = SimpleNamespace(target='CPU', device_id=0, rank=0, size=2)
    step = create_step(SmallResNet(width=8), Square(), 1, RECIPE, np.full(3, 0.1, np.float32), process)
    step.compile(Tensor(0, ms.int32), Tensor(np.zeros((4, 3, 32, 32), np.float32)), Tensor(np.zeros(4, np.int32)))


if __name__ == '__main__':
    main()
