"""Checks of the commands that a user runs, as processes: training, evaluation, export, launchers."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from glob import glob
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from src.acceptance.environment import DEVICES
from src.acceptance.items import Node, Skipped, Wrong, judged
from src.report import cann_home

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
DEM = ('--dataset=CUB', '--train_mode=att', f'--total_iter_num={STEPS}', '--interval_step=5', '--run_eval=False')
LAST, LAUNCHER = 'train.ckpt', 'run_distributed_train_ascend.sh'
PATIENCE = 200  # seconds for what takes a few


def _run(command: List[str], **environment: str) -> str:
    """Run a command in the project's folder; its output is passed on to the log of this stage and returned.

    Raises:
        Wrong: another exit code than 0; with what the command said last, or its error.
    """
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    print('$', *command, '\n' + done.stdout, flush=True)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ['no word']
        said = next((line for line in reversed(lines) if 'error: ' in line), lines[-1])
        raise Wrong(f'exit code {done.returncode}: {said}')
    return done.stdout


def _door(node: Node, name: str, *flags: str, target: str = '') -> str:
    return _run([sys.executable, f'{name}.py', *flags, f'--device_target={target or node.target}'])


def _dem_data(node: Node) -> str:
    # Imported here and below: a package that is missing must fail the items that need it alone.
    from src.samples.dem_sample import make_dem_sample
    folder = node.folder / 'dem_data'
    if not folder.exists():
        make_dem_sample(folder)
    return f'--data_path={folder}'


def _products(node: Node) -> str:
    from src.samples.image_sample import make_products
    folder = node.folder / 'products'
    if not folder.exists():
        make_products(folder)
    return f'--dataset_path={folder}'


def _result(folder: Path) -> Dict[str, Any]:
    result: Dict[str, Any] = json.loads((folder / 'result.json').read_text())
    return result


def train_dem(node: Node) -> str:
    folder = node.folder / 'dem'
    said = _door(node, 'train', *DEM, _dem_data(node), f'--save_iter_step={STEPS // 2}', f'--save_ckpt={folder}')
    losses = [float(loss) for loss in re.findall(r'loss is (\S+)', said)]
    text = f'loss {losses[0]:.5f} to {losses[-1]:.5f} in {STEPS} steps, {_result(folder)["skipped_steps"]} skipped'
    return judged(text, losses[-1] < losses[0])


def resume(node: Node) -> str:
    """From the state in the middle of train_dem's training."""
    whole, half = node.folder / 'dem', node.folder / 'dem_resumed'
    states = sorted(whole.glob('train-*.ckpt'), key=lambda path: path.stat().st_mtime)
    if len(states) != 2:
        raise Wrong(f'train.py left {len(states)} training states')
    half.mkdir(exist_ok=True)
    shutil.copy(states[0], half)
    said = _door(node, 'train', *DEM, _dem_data(node), f'--save_iter_step={STEPS // 2}', f'--save_ckpt={half}', '--resume')
    if 'resumed after step' not in said:
        raise Wrong('it started from the beginning')
    apart = _apart(whole / LAST, half / LAST)
    return judged('equal to the bit' if apart == 0 else f'apart by {apart:.1e}', apart <= (0 if node.target == 'CPU' else 1e-3))


def _apart(one: Path, other: Path) -> float:
    """Largest difference of the weights of two checkpoints, relative to the largest weight of each parameter."""
    from src.checkpoints.weights import read_weights
    first, second = read_weights(one).values, read_weights(other).values
    pairs = [(value, second[name]) for name, value in first.items()]
    return max(float(np.abs(mine - theirs).max() / (np.abs(mine).max() or 1)) for mine, theirs in pairs)


def evaluate(node: Node) -> str:
    flags = *DEM[:2], _dem_data(node), f'--save_ckpt={node.folder / "dem" / LAST}'
    found = [float(re.findall(r'accuracy _ \S+ _ \S+ = (\S+)', _door(node, 'eval', *flags, target=target))[0])
             for target in (node.target, 'CPU')]
    return judged(f'{found[0]:.5f}, on a CPU {found[1]:.5f}', abs(found[0] - found[1]) <= 0.01)


def train_images(node: Node) -> str:
    folder = node.folder / 'images'
    said = _door(node, 'train', _products(node), '--loss_name=softmax', '--recipe=small', '--model=resnet18',
                 '--total_iter_num=12', '--interval_step=4', f'--save_ckpt={folder}')
    losses = [float(loss) for loss in re.findall(r'loss is (\S+)', said)]
    result = _result(folder)
    text = f'loss {losses[0]:.5f} to {losses[-1]:.5f} in 12 steps, {result["skipped_steps"]} skipped'
    return judged(text, bool(np.isfinite(result['loss'])))


def mindir(node: Node) -> str:
    """Embeddings of the exported model on the device, and of the checkpoint on a CPU."""
    folder = node.folder / 'images'
    _door(node, 'export', f'--save_ckpt={folder}', '--batch_size=32', f'--file_name={folder / "net"}')
    found = []
    for model, target in (('net.mindir', node.target), (LAST, 'CPU')):
        output = folder / f'{model}.npy'
        _door(node, 'infer', _products(node), f'--ckpt_file={folder / model}', f'--output={output}', target=target)
        found.append(np.load(output).astype(np.float64))
    lengths = [np.linalg.norm(rows, axis=1) for rows in found]
    away = 1 - ((found[0] * found[1]).sum(1) / (lengths[0] * lengths[1])).min()
    return judged(f'{len(found[0])} embeddings, lowest cosine {1 - away:.6f}', away <= (1e-5 if node.target == 'CPU' else 1e-2))


def air(node: Node) -> str:
    if node.target != 'Ascend':
        raise Skipped('MindSpore writes AIR on Ascend alone')
    path = node.folder / 'images' / 'net.air'
    _door(node, 'export', f'--save_ckpt={node.folder / "images"}', '--file_format=AIR', f'--file_name={path}')
    return f'{path.stat().st_size} bytes'


def _launch(node: Node, name: str, *flags: str, **environment: str) -> 'subprocess.Popen[str]':
    """Start the launcher of DEM with msrun; its output goes to the log of this stage."""
    if node.devices < 2:
        raise Skipped('one device')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    changed = {'LOG_DIR': str(node.folder / name), 'DEVICE_NUM': str(node.devices), 'DEVICE_TARGET': node.target,
               'MASTER_PORT': port, 'PYTHON': sys.executable, **environment}
    data = _dem_data(node).partition('=')[2]
    # In a group of its own, so that it can be stopped with its ranks.
    return subprocess.Popen(['sh', str(ROOT / 'scripts' / LAUNCHER), '-', 'CUB', 'att', data, *flags],
                            env={**os.environ, **changed}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _end(launcher: 'subprocess.Popen[str]') -> str:
    try:
        said = launcher.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        for _ in range(2):  # the second signal kills the ranks
            launcher.terminate()
            time.sleep(3)
        said = launcher.communicate()[0]
        print(said, flush=True)
        raise Wrong(f'stopped after {PATIENCE} s; last: {_last(said)}') from None
    print(said, flush=True)
    return said


def _last(said: str) -> str:
    """The last line of the launcher itself, else the last line."""
    lines = said.splitlines() or ['no word']
    return next((line for line in reversed(lines) if line.startswith(LAUNCHER)), lines[-1])


def several_devices(node: Node) -> str:
    folder = node.folder / 'parallel'
    launcher = _launch(node, 'parallel', *DEM[2:], MS_DEV_SAVE_GRAPHS='1', MS_DEV_DUMP_IR_PASSES='validate',
                       MS_DEV_SAVE_GRAPHS_PATH=str(node.folder / 'graphs'))
    said = _end(launcher)
    if launcher.returncode:
        raise Wrong(f'exit code {launcher.returncode}: {_last(said)}')
    apart = max(_apart(folder / '0' / LAST, folder / str(rank) / LAST) for rank in range(1, node.devices))
    count, times = _result(folder)['device_num'], re.findall(r'([\d.]+) ms/step', said)
    text = (f'{count} x {STEPS} steps, {"weights equal" if apart == 0 else f"weights apart by {apart:.1e}"}, '
            f'{times[-1] if times else "?"} ms a step')
    return judged(text, not apart and count == node.devices)


def all_reduce(node: Node) -> str:
    """In the graphs of several_devices."""
    if node.devices < 2:
        raise Skipped('one device')
    graphs = [Path(path).read_text() for path in glob(str(node.folder / 'graphs' / '**' / '*_validate_*.ir'), recursive=True)]
    counts = [len(re.findall(r' = (?:PrimFunc_)?AllReduce\(', text)) for text in graphs]
    steps = [count for count, text in zip(counts, graphs) if re.search(r' = (?:PrimFunc_)?(Fused)?Adam\w*\(', text)]
    text = f'{", ".join(map(str, sorted(set(steps))))} in {len(steps)} graphs of a step' if steps else 'no graph of a step'
    return judged(text, set(steps) == {1})


def killed_rank(node: Node) -> str:
    """Rank 1 is killed while it trains; the launcher must end with its exit code and leave no process behind."""
    folder = node.folder / 'killed'
    launcher = _launch(node, 'killed', '--epoch_size=20000', '--interval_step=1', '--run_eval=False')
    began = time.perf_counter()
    log = folder / '0' / 'train.log'
    while 'loss is' not in (log.read_text(errors='replace') if log.is_file() else ''):
        if launcher.poll() is not None or time.perf_counter() - began > PATIENCE:
            break
        time.sleep(0.5)
    pids = {path.stem: int(path.read_text().split()[1]) for path in folder.glob('.launch.*/*.pids')}
    if '1' in pids:
        os.kill(pids['1'], signal.SIGKILL)
    killed = time.perf_counter()
    said = _end(launcher)
    seconds = time.perf_counter() - killed
    left = [rank for rank, pid in pids.items() if _runs(pid)]
    text = f'exit code {launcher.returncode} after {seconds:.0f} s' + (f', rank {", ".join(left)} still runs' if left else '')
    if '1' not in pids or launcher.returncode != 137 or left or 'rank 1 ended with exit code 137' not in said:
        raise Wrong(text if '1' in pids else f'no rank 1 to kill; {_last(said)}')
    return text


def _runs(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def simulated(node: Node) -> str:
    """Compile for a card that is not there, where CANN is."""
    if not cann_home():
        raise Skipped('no CANN')
    if glob(DEVICES):
        raise Skipped('there is a card')
    command = [sys.executable, 'train.py', *DEM[:2], _dem_data(node), '--total_iter_num=1', '--run_eval=False',
               '--distribute=True', '--device_target=Ascend', f'--save_ckpt={node.folder / "simulated"}']
    _run(command, MS_SIMULATION_LEVEL='0', RANK_SIZE='8', RANK_ID='0')
    return 'compiled'
