"""Checks of one device against results that a CPU has recorded."""
import time
from functools import lru_cache
from typing import Any, Tuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.acceptance import computations
from src.acceptance.computations import Computed, Trained
from src.acceptance.items import Node, Wrong, judged, recorded
from src.common.device import Process, set_up

# Limits by target: relative distance of losses and outputs, and 1 - cosine of gradients. A CPU's differ by the order of its
# sums. 910 rounds the factors of all products to float16, A2 those of convolutions to 10 bits.
LIMITS = {'CPU': (1e-4, 1e-4), 'GPU': (1e-2, 1e-2), 'Ascend': (2e-2, 2e-2)}
# Of a network in float16, on any device.
MIXED = (2e-2, 5e-2)
TIMED = 20  # steps


@lru_cache(maxsize=1)
def process_of(target: str) -> Process:
    """This process on its device."""
    return set_up(target)


def compare(found: Computed, wanted: Computed, limits: Tuple[float, float], more: str = '') -> str:
    """Describe the results in a line. Raises Wrong, which names the worst, if a loss, an output or a gradient is off limits."""
    losses = np.array(wanted['losses'])
    apart = np.abs(np.array(found['losses']) - losses) / np.abs(losses)
    at = f' (step {np.argmax(apart) + 1})' if apart.any() and len(losses) > 1 else ''
    said, wrong = [f'losses apart by {apart.max():.1e}{at}'], not apart.max() <= limits[0]
    if 'outputs' in wanted:
        outputs = np.array(wanted['outputs'])
        distance = float(np.linalg.norm(np.array(found['outputs']) - outputs) / np.linalg.norm(outputs))
        said.append(f'outputs by {distance:.1e}')
        wrong |= not distance <= limits[0]
    away = {name: _away(found['gradients'][name], given) for name, given in wanted['gradients'].items()}
    worst = max(away, key=lambda name: (not away[name] <= limits[1], away[name]))
    said.append(f"gradients' cosine {1 - away[worst]:.6f}" + f' ({worst})' * (len(away) > 1))
    wrong |= not away[worst] <= limits[1]
    text = ', '.join(said) + more
    if wrong:
        raise Wrong(f'{text}; limits {limits[0]:g} and {1 - limits[1]:g}')
    return text


def _away(found: Any, wanted: Any) -> float:
    """1 - cosine; 0 where both are 0."""
    norms = float(np.linalg.norm(found) * np.linalg.norm(wanted))
    return 1 - float(np.dot(found, wanted)) / norms if norms else float(np.any(found) or np.any(wanted))


def _milliseconds(step: nn.Cell, columns: Tuple[Tensor, ...]) -> float:
    stop = Tensor(0, ms.int32)
    step(stop, *columns)[0].asnumpy()
    began = time.perf_counter()
    for _ in range(TIMED):
        last = step(stop, *columns)[0]
    last.asnumpy()
    return (time.perf_counter() - began) / TIMED * 1000


def addition(node: Node) -> str:
    process_of(node.target)
    one = Tensor(np.ones(3), ms.float32)
    total = (one + one).asnumpy().tolist()
    if total != [2, 2, 2]:
        raise Wrong(f'1 + 1 = {total}')
    return f'MindSpore {ms.__version__} on {ms.get_context("device_target")}'


def _steps(trained: Trained, name: str, limits: Tuple[float, float]) -> str:
    found = computations.steps(*trained)
    return compare(found, recorded[name], limits, f', {_milliseconds(trained[0], trained[2]):.1f} ms a step')


def dem(node: Node) -> str:
    return _steps(computations.dem_step(process_of(node.target)), 'dem', LIMITS[node.target])


def resnet(node: Node, level: str) -> str:
    trained = computations.resnet_step(process_of(node.target), level)
    return _steps(trained, 'resnet', LIMITS[node.target] if level == 'O0' else MIXED)


def loss(node: Node, name: str) -> str:
    process_of(node.target)
    return compare(computations.loss(name), recorded[name], LIMITS[node.target])


def overflow(node: Node) -> str:
    """The scale is set so high that float16 gradients overflow."""
    step, network, batch = computations.resnet_step(process_of(node.target), 'O2')
    step.set_train()
    update = step.update
    update.loss_scale.set_data(Tensor(2.0 ** 40, ms.float32))
    weights, skipped = _weights(network), int(update.skipped.asnumpy())
    step(Tensor(0, ms.int32), *batch)
    scale = float(update.loss_scale.asnumpy())
    said = [f'{int(update.skipped.asnumpy()) - skipped} step skipped', f'scale 2^40 to 2^{np.log2(scale):g}',
            f'weights {"kept" if np.array_equal(_weights(network), weights) else "changed"}']
    steps = 1
    while np.array_equal(_weights(network), weights) and steps < 60:
        step(Tensor(0, ms.int32), *batch)
        steps += 1
    said.append(f'trains on at step {steps}')
    return judged(', '.join(said), said[:3] == ['1 step skipped', 'scale 2^40 to 2^39', 'weights kept'] and steps < 60)


def _weights(network: nn.Cell) -> Any:
    return np.concatenate([parameter.asnumpy().ravel() for parameter in network.trainable_params()])
