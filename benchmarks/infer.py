"""infer.py on a long list: images a second, and the peak memory of the process.

    python benchmarks/infer.py                   # 100,000 images of 64 px: ResNet50, 2048 values each
    python benchmarks/infer.py --images 2000

The list repeats a few generated pictures, the weights are random: neither changes time or memory. The limit is 1.5 GB.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.networks import create_network  # noqa: E402

PICTURES = 16


def prepare(folder, count):
    """Pictures, the list that repeats them and a checkpoint."""
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 72), Image.BICUBIC).save(folder / f'{i}.jpg')
    (folder / 'list.txt').write_text(''.join(f'{i % PICTURES}.jpg {i % PICTURES}\n' for i in range(count)))
    ms.save_checkpoint(create_network('resnet50'), str(folder / 'weights.ckpt'))


def infer(folder, *flags):
    """Run infer.py; returns what it printed and its peak memory in GB."""
    process = subprocess.Popen([sys.executable, str(ROOT / 'infer.py'), '--device_target=CPU', *flags], cwd=folder,
                               stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit('infer.py failed')
    return printed, usage.ru_maxrss / 2 ** 20


def main():
    parser = argparse.ArgumentParser(description='Time and memory of infer.py.')
    parser.add_argument('--images', type=int, default=100000)
    parser.add_argument('--image_size', type=int, default=64)
    parser.add_argument('--batch_size', type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args.images)
        network = ['--ckpt_file=weights.ckpt', f'--image_size={args.image_size}', f'--batch_size={args.batch_size}']
        printed, memory = infer(folder, *network, '--images=list.txt')
        print(f'{printed.strip()}; peak memory {memory:.2f} GB')
        began = time.perf_counter()
        _, memory = infer(folder, *network, '--query=0.jpg', '--gallery=embeddings.npy')
        print(f'neighbours of one image in it: {time.perf_counter() - began:.1f} s with the start, '
              f'peak memory {memory:.2f} GB')


if __name__ == '__main__':
    main()
