"""Computations of the acceptance run, and the results that a CPU has recorded for them.

    python -m src.acceptance.computations       (on a CPU: writes recorded.json)

Weights and inputs come from numpy's RandomState, whose numbers never change. Arrays are recorded as sketches: sums of random
signs times their values, whose cosines and relative differences are nearly those of the arrays.
"""
import json
from functools import lru_cache
from typing import Any, Dict, List, Tuple
from zlib import crc32

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from src.acceptance.items import RECORDED
from src.common.device import Process, set_up
from src.common.files import replacing
from src.common.run import run
from src.losses import LOSSES, create_loss, loss_class
from src.losses.references import WithReferences
from src.networks import create_network
from src.networks.heads import ImageNetwork, NoHead
from src.networks.resnet import ResNet
from src.recipes.recipe import Recipe, make_recipe
from src.training.precision import mixed_precision
from src.training.train_step import create_step

# Rows that are multiples of what any loss wants: triplets, pairs, identities with 4 images.
ROWS, WIDTH, CLASSES, SIDE = 24, 8, 12, 64
STEPS, SUMS = 8, 16
LABELS = {'triplet': [0, 0, 1, 2, 2, 3] * 4, 'identities': np.repeat(np.arange(6), 4)}
PAIRS = np.repeat(np.arange(CLASSES), ROWS // CLASSES)
Computed = Dict[str, Any]
Trained = Tuple[nn.Cell, nn.Cell, Tuple[Tensor, ...]]  # a training step, its network, a batch


class SmallResNet(ResNet):
    blocks = (1, 1, 1, 1)


class Gradients(nn.Cell):
    """Inputs: the inputs of a training step after `stop`. Outputs: its scaled loss, and its gradients."""

    def __init__(self, step: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, *columns: Tensor) -> Any:
        return self.step.value_and_grad(*columns)


def values(name: str, *shape: int) -> NDArray[np.float32]:
    """Normal values, always the same for a name."""
    return np.random.RandomState(crc32(name.encode()) % 2 ** 31).standard_normal(shape).astype(np.float32)


def sketch(array: Any) -> List[float]:
    """SUMS numbers at most, of six digits, for an array of any shape."""
    flat = np.asarray(array, np.float64).ravel()
    signs = np.random.RandomState(len(flat)).randint(0, 2, len(flat)) * 2 - 1
    sums = np.bincount(np.arange(len(flat)) % SUMS, flat * signs)
    return [float(f'{value:.6g}') for value in sums]


def set_weights(cell: nn.Cell) -> None:
    """Set known weights: normal with He's deviation; 1 for BatchNorm's scales, 0 for other vectors."""
    for parameter in cell.trainable_params():
        shape = parameter.shape
        if len(shape) > 1:
            weight = values(parameter.name, *shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            weight = np.full(shape, parameter.name.endswith('gamma'))
        parameter.set_data(Tensor(weight, parameter.dtype))


def steps(step: nn.Cell, network: nn.Cell, columns: Tuple[Tensor, ...]) -> Computed:
    """Losses of STEPS steps on one batch; sketches of the outputs before them and of the first step's gradients."""
    network.set_train(False)
    outputs = network(columns[0]).asnumpy()
    step.set_train()
    if step.update.dynamic:  # what the first steps skip would not be compared
        step.update.loss_scale.set_data(Tensor(1024, ms.float32))
    gradients = [gradient.asnumpy() for gradient in Gradients(step)(*columns)[1]]
    names = [parameter.name for parameter in step.update.optimizer.parameters]
    rest = np.concatenate([g.ravel() for g in gradients if g.ndim == 1])
    stop = Tensor(0, ms.int32)
    losses = [float(step(stop, *columns)[0].asnumpy()) for _ in range(STEPS)]
    return {'losses': [float(f'{loss:.6g}') for loss in losses], 'outputs': sketch(outputs),
            'gradients': {**{name: sketch(g) for name, g in zip(names, gradients) if g.ndim > 1}, 'vectors': sketch(rest)}}


def dem_step(process: Process) -> Trained:
    """DEM's training step for CUB, its network, and a batch."""
    recipe = make_recipe('CUB', 'att')
    network, loss = create_network(recipe.network), create_loss(recipe.loss_name)
    network.new_layers = ()
    set_weights(network)
    step = create_step(network, loss, 1, recipe, np.full(100000, 1e-4, np.float32), process)
    batch = Tensor(np.abs(values('attributes', 100, 312))), Tensor(np.abs(values('features', 100, 1024)))
    return step, network, batch


@lru_cache(maxsize=None)
def resnet_step(process: Process, level: str) -> Trained:
    """The training step of a ResNet of four blocks with softmax, in the precision of a level; its network; a batch."""
    recipe = Recipe({**make_recipe('SOP', 'softmax'), 'amp_level': level, 'weight_decay': 0.0})
    body = SmallResNet(width=8)
    network = ImageNetwork(body, NoHead(body.out_channels))
    loss = create_loss('softmax', num_classes=CLASSES, embedding_size=body.out_channels)
    set_weights(network)
    set_weights(loss)
    step = create_step(mixed_precision(network, level), loss, 1, recipe, np.full(100000, 1e-3, np.float32), process)
    pictures = np.clip(values('pictures', ROWS, 3, SIDE, SIDE) * 50 + 120, 0, 255).astype(np.uint8)
    return step, network, (Tensor(pictures), Tensor(np.arange(ROWS) % CLASSES, ms.int32))


def loss(name: str) -> Computed:
    """A loss of random embeddings: its value, and a sketch of its gradient to them; with a memory, in its second step."""
    kind = loss_class(name)
    known = {'num_classes': CLASSES, 'embedding_size': WIDTH, 'num_instances': 4}
    cell = create_loss(name, **{need: known[need] for need in kind.needs})
    set_weights(cell)
    embeddings = Tensor(values('embeddings', ROWS, WIDTH))
    labels = Tensor(np.asarray(LABELS.get(kind.batch, PAIRS)), ms.int32)
    others: Tuple[Tensor, ...] = (labels,)
    if kind.uses_neck:
        others = Tensor(values('neck', ROWS, WIDTH)), labels
    elif kind.batch in ('images', 'prototypes'):
        others = (Tensor(values('features', ROWS, WIDTH)), *[labels] * (kind.batch == 'prototypes'))
    if 'memory' in LOSSES[name].entries:
        cell = WithReferences(cell, WIDTH, 2 * ROWS)
        cell(Tensor(values('before', ROWS, WIDTH)), labels)
    value, gradient = ops.value_and_grad(cell, 0)(embeddings, *others)
    return {'losses': [float(f'{float(value.asnumpy()):.6g}')], 'gradients': {'embeddings': sketch(gradient.asnumpy())}}


def main() -> None:
    process = set_up('CPU')
    found = {'dem': steps(*dem_step(process)), 'resnet': steps(*resnet_step(process, 'O0')),
             **{name: loss(name) for name in LOSSES}}
    with replacing(RECORDED) as path:
        path.write_text('{\n' + ',\n'.join(f'"{name}": {json.dumps(one)}' for name, one in found.items()) + '\n}\n')
    print(f'{RECORDED}: {RECORDED.stat().st_size} bytes, by MindSpore {ms.__version__}')


if __name__ == '__main__':
    run(main)
