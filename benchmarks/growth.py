"""Cost of training by the number of classes and by the number of processes.

    python benchmarks/growth.py --classes=11318            # the loss's share of a step: gradients and update of a classifier
    python benchmarks/growth.py --processes=2              # images/s of train.py under msrun

Classes: softmax on embeddings of 2048 values, batch 80, momentum, beside PyTorch where it is installed. The limit is three
matrix products at numpy's rate and five passes over the classifier (read weight, gradient, moment; write weight, moment) at
the rate of copying. Processes: ResNet18 on drawn 64 px pictures, batch 32 a process, 12 steps. They share the cores of this
machine: more processes than cores gain nothing, and the figure shows what they cost.
"""
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tools

BATCH, WIDTH, ROUNDS = 80, 2048, 15


def ours(embeddings, labels, classes):
    """A function that does one step and waits for it."""
    import mindspore as ms
    from mindspore import Tensor, nn

    from src.common.device import set_up
    from src.losses import create_loss
    from src.recipes.recipe import make_recipe
    from src.training.train_step import create_step
    process = set_up('CPU')
    recipe = make_recipe('SOP', 'softmax', 'small', {'weight_decay': 0.0})
    # The network has one factor a value, so that there is a gradient back to the embeddings.
    step = create_step(nn.LayerNorm((WIDTH,)), create_loss('softmax', num_classes=classes, embedding_size=WIDTH), 1, recipe,
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
    taken = tools.in_turns(ways, ROUNDS)
    limit = 6 * BATCH * WIDTH * classes / tools.product_rate() + 5 * 4 * WIDTH * classes / tools.copy_rate()
    for name, (wall, used) in taken.items():
        print(f'{classes} classes, {name}: {wall * 1e3:.1f} ms/step, {used * 1e3:.1f} ms of the processor, '
              f'{wall / limit:.2f} of the limit ({limit * 1e3:.1f} ms)')


def measure_processes(processes):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, '-m', 'src.samples.image_sample', 'products', f'{folder}/SOP'], cwd=tools.ROOT,
                       check=True, capture_output=True)
        flags = [f'--dataset_path={folder}/SOP', '--loss_name=softmax', '--recipe=small', '--model=resnet18', '--batch_size=32',
                 '--total_iter_num=12', '--image_size=64', '--device_target=CPU', f'--save_ckpt={folder}/trained',
                 '--set=num_workers=1', *(['--distribute=True'] if processes > 1 else [])]
        launcher = [sys.executable] if processes == 1 else [
            str(Path(sys.executable).with_name('msrun')), f'--worker_num={processes}', f'--local_worker_num={processes}',
            f'--master_port={port}', '--join=True', f'--log_dir={folder}/log']
        environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
        done = subprocess.run([*launcher, 'train.py', *flags], cwd=tools.ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'{processes} processes: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}')
        rate = json.loads(Path(f'{folder}/trained/result.json').read_text())['samples_per_second']
    print(f'{processes} processes on {tools.cores()} cores: {rate:.1f} images/s')


def main():
    parser = tools.parser(__doc__)
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
