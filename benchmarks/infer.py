"""Inference on a CPU: the engine beside a bare onnxruntime session and MindSpore, and infer.py on a long list.

    python benchmarks/infer.py                   # 100,000 images of 64 px: ResNet50, 2048 values each
    python benchmarks/infer.py --images 2000
    python benchmarks/infer.py --images 0        # only the engines, on batches that are in memory
    python benchmarks/infer.py --images 0 --image_size 224 --batch_size 8

The limit of the engine is the bare session: nothing is decoded for either. The list repeats a few generated
pictures, the weights are random: neither changes time or memory. The limit of its memory is
1.5 GB.
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
from mindspore import Tensor
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.checkpoints.engine import Engine  # noqa: E402
from src.checkpoints.exported import export_network  # noqa: E402
from src.networks import create_network  # noqa: E402

PICTURES = 16
ROUNDS, BATCHES = 5, 4


def compare_engines(image_size, batch_size):
    """Images a second of the engine, a bare session of the exported network, and MindSpore, taken in turns."""
    import onnxruntime
    ms.set_device('CPU')
    ms.set_context(mode=ms.GRAPH_MODE)
    network = create_network('resnet50').set_train(False)
    images = np.random.default_rng(0).standard_normal((batch_size, 3, image_size, image_size), dtype=np.float32)
    engine = Engine(network)
    expected = engine(images)
    with tempfile.TemporaryDirectory() as folder:
        # Another cell of the same weights: MindSpore exports a compiled one to ONNX only once.
        again = create_network('resnet50').set_train(False)
        ms.load_param_into_net(again, network.parameters_dict())
        path = export_network(again, [images.shape[1:]], file_name=f'{folder}/network', file_format='ONNX',
                              batch_size=batch_size)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    ways = {'engine': engine, 'session': lambda x: session.run(None, {name: x})[0],
            'mindspore': lambda x: network(Tensor(x)).asnumpy()}
    best = dict.fromkeys(ways, np.inf)
    for _ in range(ROUNDS):
        for way, run in ways.items():
            began = time.perf_counter()
            for _ in range(BATCHES):
                result = run(images)
            best[way] = min(best[way], time.perf_counter() - began)
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    rate = {way: BATCHES * batch_size / seconds for way, seconds in best.items()}
    print(f'ResNet50, {image_size} px, batch {batch_size}: engine {rate["engine"]:.1f} images/s, bare onnxruntime session '
          f'{rate["session"]:.1f}, mindspore {rate["mindspore"]:.1f}; engine / session '
          f'{rate["engine"] / rate["session"]:.2f}, engine / mindspore {rate["engine"] / rate["mindspore"]:.2f}')


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
    parser.add_argument('--images', type=int, default=100000, help='in the list; 0 for the engines alone')
    parser.add_argument('--image_size', type=int, default=64)
    parser.add_argument('--batch_size', type=int, default=50)
    args = parser.parse_args()
    compare_engines(args.image_size, args.batch_size)
    if not args.images:
        return
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
