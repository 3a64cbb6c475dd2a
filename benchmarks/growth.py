"""How the cost of training grows with the number of classes and of processes.

    python benchmarks/growth.py --classes=11318            # the loss's share of a step: gradients and update of a classifier
    python benchmarks/growth.py --processes=2              # images/s of train.py under msrun

Classes: softmax on embeddings of 2048 values, batch 80, momentum, beside PyTorch's where it is installed; the limit is its
three matrix products at numpy's rate and five passes over the classifier (read weight, gradient, moment; write weight,
moment) at the rate of copying. Processes: ResNet18 on drawn 64 px pictures, batch 32 a process, 12 steps; they share this
machine's cores, so that with more processes than cores nothing is gained and the figure tells what it costs.
"""
import argparse
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from resnet_step import in_turns, product_rate  # noqa: E402

BATCH, WIDTH, ROUNDS = 80, 2048, 15
RECIPE = dict(optimizer='momentum', momentum=0.9, weight_decay=0.0, decay='weights', loss_scale=1.0, clip_norm=0.0,
              loss_lr_factor=1.0, head_first_epochs=0, epoch_size=1, total_iter_num=0, chunk_size=0)


def copy_rate():
    """Bytes a second, read and written, of copying an array that no cache holds."""
    source = np.ones(2 ** 25, np.float32)
    target = np.empty_like(source)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    return 2 * source.nbytes / min(seconds)


def ours(embeddings, labels, classes):
    """-> function that does one step and waits for it."""
    import mindspore as ms
    from mindspore import Tensor, nn

    from src.losses import create_loss
    from src.training.train_step import create_step
    ms.set_device('CPU')
    ms.set_context(mode=ms.GRAPH_MODE)
    process = SimpleNamespace(target='CPU', device_id=0, rank=0, size=1)
    # The network is one factor a value, so that the gradient goes back to the embeddings.
    step = create_step(nn.LayerNorm((WIDTH,)), create_loss('softmax', num_classes=classes, embedding_size=WIDTH), 1, RECIPE,
                       np.full(10000, 0.01, np.float32), process)
    step.set_train()
    columns = Tensor(0, ms.int32), Tensor(embeddings), Tensor(labels)
    step(*columns)[0].asnumpy()
    return lambda: step(*columns)[0].asnumpy()


def torch_step(embeddings, labels, classes):
    """The same in PyTorch."""
    import torch
    network = torch.nn.Sequential(torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, classes))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    x, y = torch.from_numpy(embeddings), torch.from_numpy(labels.astype(np.int64))

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()
    step()
    return step


def measure_classes(classes):
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((BATCH, WIDTH), np.float32)
    labels = rng.integers(0, classes, BATCH).astype(np.int32)
    ways = {'ours': ours(embeddings, labels, classes)}
    if importlib.util.find_spec('torch'):
        ways['PyTorch'] = torch_step(embeddings, labels, classes)
    taken = in_turns(ways, ROUNDS)
    limit = 6 * BATCH * WIDTH * classes / product_rate() + 5 * 4 * WIDTH * classes / copy_rate()
    for name, (wall, used) in taken.items():
        print(f'{classes} classes, {name}: {wall * 1e3:.1f} ms/step, {used * 1e3:.1f} ms of the processor, '
              f'{wall / limit:.2f} of the limit ({limit * 1e3:.1f} ms)')


def measure_processes(processes):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, '-m', 'src.samples.image_sample', 'products', f'{folder}/SOP'], cwd=ROOT, check=True,
                       capture_output=True)
        flags = [f'--dataset_path={folder}/SOP', '--loss_name=softmax', '--recipe=small', '--model=resnet18', '--batch_size=32',
                 '--total_iter_num=12', '--image_size=64', '--device_target=CPU', f'--save_ckpt={folder}/trained',
                 '--set=num_workers=1', *(['--distribute=True'] if processes > 1 else [])]
        launcher = [sys.executable] if processes == 1 else [
            str(Path(sys.executable).with_name('msrun')), f'--worker_num={processes}', f'--local_worker_num={processes}',
            f'--master_port={port}', '--join=True', f'--log_dir={folder}/log']
        environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
        done = subprocess.run([*launcher, 'train.py', *flags], cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'{processes} processes: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}')
        rate = json.loads(Path(f'{folder}/trained/result.json').read_text())['samples_per_second']
    print(f'{processes} processes on {len(os.sched_getaffinity(0))} cores: {rate:.1f} images/s')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--classes', type=int)
    what.add_argument('--processes', type=int)
    args = parser.parse_args()
    if args.classes:
        measure_classes(args.classes)
    else:
        measure_processes(args.processes)


if __name__ == '__main__':
    main()
