"""Inference on a CPU: the engine beside a bare onnxruntime session and MindSpore, and infer.py with a long list.

    python benchmarks/infer.py                   # 100,000 images of 64 px: ResNet50, 2048 values each
    python benchmarks/infer.py --images 2000
    python benchmarks/infer.py --images 0        # the engines alone, on batches in memory
    python benchmarks/infer.py --images 0 --image_size 224 --batch_size 8

The limit of the engine is the bare session; no image is decoded for either. The list repeats a few generated pictures, and
the weights are random: neither changes time or memory. infer.py should stay below 1.5 GB.
"""
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
import tools
from mindspore import Tensor
from PIL import Image

from src.checkpoints.engine import Engine
from src.checkpoints.exported import export_network
from src.common.device import set_up
from src.networks import create_network

PICTURES = 16
ROUNDS, BATCHES = 5, 4


def compare_engines(image_size, batch_size):
    """Print images a second of the engine, of a bare session of the exported network, and of MindSpore, timed in turns."""
    import onnxruntime
    set_up('CPU')
    network = create_network('resnet50').set_train(False)
    images = np.random.default_rng(0).standard_normal((batch_size, 3, image_size, image_size), dtype=np.float32)
    engine = Engine(network)
    expected = engine(images)
    with tempfile.TemporaryDirectory() as folder:
        # Another cell with the same weights: MindSpore exports a compiled cell to ONNX only once.
        again = create_network('resnet50').set_train(False)
        ms.load_param_into_net(again, network.parameters_dict())
        path = export_network(again, [images.shape[1:]], file_name=f'{folder}/network', file_format='ONNX',
                              batch_size=batch_size)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = tools.cores()
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    ways = {'engine': lambda: engine(images), 'session': lambda: session.run(None, {name: images})[0],
            'mindspore': lambda: network(Tensor(images)).asnumpy()}
    for run in ways.values():
        np.testing.assert_allclose(run(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    rate = {way: batch_size / time.wall for way, time in tools.in_turns(ways, ROUNDS, BATCHES, np.min).items()}
    print(f'ResNet50, {image_size} px, batch {batch_size}: engine {rate["engine"]:.1f} images/s, bare onnxruntime session '
          f'{rate["session"]:.1f}, mindspore {rate["mindspore"]:.1f}; engine / session '
          f'{rate["engine"] / rate["session"]:.2f}, engine / mindspore {rate["engine"] / rate["mindspore"]:.2f}')


def prepare(folder, count):
    """Write pictures, a list that repeats them, and a checkpoint."""
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 72), Image.BICUBIC).save(folder / f'{i}.jpg')
    (folder / 'list.txt').write_text(''.join(f'{i % PICTURES}.jpg {i % PICTURES}\n' for i in range(count)))
    ms.save_checkpoint(create_network('resnet50'), str(folder / 'weights.ckpt'))


def main():
    args = tools.parser(__doc__, images=(100000, 'in the list; 0 for the engines alone'), image_size=64,
                        batch_size=50).parse_args()
    compare_engines(args.image_size, args.batch_size)
    if not args.images:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args.images)
        infer = [tools.ROOT / 'infer.py', '--device_target=CPU', '--ckpt_file=weights.ckpt', f'--image_size={args.image_size}',
                 f'--batch_size={args.batch_size}']
        printed, _, memory = tools.run_measured([*infer, '--images=list.txt'], cwd=folder)
        print(f'{printed.strip()}; peak memory {memory:.2f} GB')
        _, time, memory = tools.run_measured([*infer, '--query=0.jpg', '--gallery=embeddings.npy'], cwd=folder)
        print(f'neighbours of one image in it: {time.wall:.1f} s with the start, '
              f'peak memory {memory:.2f} GB')


if __name__ == '__main__':
    main()
