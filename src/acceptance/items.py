"""Items of the acceptance run, and how one is checked. Does not import MindSpore, so that a broken one can be reported."""
import json
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Sequence

from src.common.registry import load

# What a CPU computed, by 'dem', 'resnet' or the name of a loss: written by src.acceptance.computations.
RECORDED = Path(__file__).with_name('recorded.json')
recorded: Dict[str, Dict[str, Any]] = json.loads(RECORDED.read_text())
OK, FAILED, SKIPPED = 'ok', 'FAILED', 'skipped'


class Wrong(Exception):
    """The result is not the wanted one; the text describes the result."""


def judged(text: str, good: bool) -> str:
    """Return the text of a good result; raises Wrong for a bad one."""
    if not good:
        raise Wrong(text)
    return text


class Skipped(Exception):
    """The item has no meaning on this machine; the text says why."""


@dataclass(frozen=True)
class Node:
    """The machine that is accepted: output folder of the run, device target, number of devices."""
    folder: Path
    target: str
    devices: int


class Item(NamedTuple):
    """A row of ITEMS.

    stage: items of one stage share a process. check: 'module.function' of this package: (Node, *arguments) -> what was
    found; it raises Wrong or Skipped.
    """
    stage: str
    name: str
    wanted: str
    check: str
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """Result of an item, its verdict (OK, FAILED or SKIPPED), and the seconds that it took."""
    item: str
    wanted: str
    found: str
    verdict: str
    seconds: float


ITEMS = [
    Item('environment', 'packages', 'those of requirements.txt can be imported', 'environment.packages'),
    Item('environment', 'driver', 'as many devices as asked for', 'environment.driver'),
    Item('environment', 'CANN', 'a release that this MindSpore accepts', 'environment.cann'),
    Item('environment', 'te and hccl', "CANN's packages, in this environment", 'environment.packages_of_cann'),
    Item('device', 'device', '1 + 1 = 2 there', 'device.addition'),
    Item('device', 'DEM', "a CPU's losses, gradients, outputs", 'device.dem'),
    Item('device', 'small ResNet, float32', "a CPU's losses, gradients, outputs", 'device.resnet', ['O0']),
    Item('device', 'small ResNet, mixed', "a CPU's in float32, roughly", 'device.resnet', ['O2']),
    Item('device', 'overflow', 'skipped, scale halved, weights kept', 'device.overflow'),
    *(Item('device', f'loss {name}', "a CPU's value and gradient", 'device.loss', [name])
      for name in recorded if name not in ('dem', 'resnet')),
    Item('doors', 'train.py, DEM', 'the loss falls', 'doors.train_dem'),
    Item('doors', 'resume', 'the weights of an unbroken training', 'doors.resume'),
    Item('doors', 'eval.py', "a CPU's accuracy, to 0.01", 'doors.evaluate'),
    Item('doors', 'train.py, images', 'finite loss', 'doors.train_images'),
    Item('doors', 'MINDIR', "exported, and there a CPU's embeddings", 'doors.mindir'),
    Item('doors', 'AIR', 'exported', 'doors.air'),
    Item('devices', 'several devices', 'equal weights on all', 'doors.several_devices'),
    Item('devices', 'AllReduce', 'one a step', 'doors.all_reduce'),
    Item('devices', 'a rank that is killed', 'ends all, with its exit code', 'doors.killed_rank'),
    Item('devices', 'simulated card', 'the graphs of rank 0 of 8 compile', 'doors.simulated'),
]
STAGES = list(dict.fromkeys(item.stage for item in ITEMS))


def check(item: Item, node: Node) -> Finding:
    """Check one item; whatever happens in it becomes a finding. Tracebacks go to standard error, the log of the stage."""
    began = time.perf_counter()
    try:
        function: Callable[..., str] = load('src.acceptance', item.check)
        verdict, found = OK, function(node, *item.arguments)
    except Skipped as reason:
        verdict, found = SKIPPED, str(reason)
    except Wrong as error:
        verdict, found = FAILED, str(error)
    except (Exception, SystemExit) as error:
        traceback.print_exc(file=sys.stderr)
        # CANN tells the cause in later lines.
        text = ' | '.join(line.strip() for line in str(error).splitlines() if line.strip(' -'))
        verdict, found = FAILED, f'{type(error).__name__}: {text}'
    return Finding(item.name, item.wanted, found, verdict, round(time.perf_counter() - began, 1))


def table(findings: Sequence[Finding], head: bool = True) -> Iterator[str]:
    """Yield the lines of the table, its head first."""
    if head:
        yield f'{"item":<22} | {"wanted":<42} | {"verdict":<7} | seconds | found'
    for one in findings:
        yield f'{one.item:<22} | {one.wanted:<42} | {one.verdict:<7} | {one.seconds:7.1f} | {one.found}'
