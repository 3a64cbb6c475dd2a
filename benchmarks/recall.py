"""Recall@1, leave-one-out: its time beside that of the matrix product alone, of PyTorch and of the published code.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/recall.py                  # a minute or two on one core
    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/recall.py --images 60502   # Stanford Online Products
    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/recall.py --width 1024 --classes 4000

The limit is one product of the whole matrix of similarities, which is symmetric, so half of it is enough. Times are the
processor's, which other work on the machine changes little. In PyTorch one writes whole blocks of the product and topk. The
published code keeps the whole distance matrix and sorts every row of it: it is compared at --published_images.
"""
import numpy as np
import tools

try:
    import torch
except ImportError:
    torch = None

from src.accuracy import recall_at_k


def published_recall(x, labels):
    """The published computation: the whole matrix, each row sorted, rows counted one by one."""
    x = x / np.sqrt((x ** 2).sum(axis=1, keepdims=True))
    squares = (x ** 2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * (x @ x.T) + np.eye(len(x), dtype=x.dtype) * 1e8
    order = np.argsort(distances, axis=1)
    return sum(labels[order[i][0]] == labels[i] for i in range(len(x))) / len(x)


def product(x):
    """The similarities alone, in the same blocks."""
    for start in range(0, len(x), 1024):
        x[start:start + 1024] @ x.T


def torch_recall(x, labels):
    """The same in PyTorch: blocks of the product and topk."""
    x, labels = torch.nn.functional.normalize(torch.from_numpy(x)), torch.from_numpy(labels)
    right = 0
    for start in range(0, len(x), 1024):
        similarities = x[start:start + 1024] @ x.T
        similarities[torch.arange(len(similarities)), torch.arange(start, start + len(similarities))] = -1
        right += (labels[similarities.topk(1)[1][:, 0]] == labels[start:start + 1024]).sum().item()
    return right / len(x)


def embeddings(count, width, classes):
    """Clustered rows and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    x = rng.standard_normal((count, width), dtype=np.float32)
    for start in range(0, count, 1024):
        rows = slice(start, start + 1024)
        x[rows] += 0.2 * np.stack([np.random.default_rng(label).standard_normal(width) for label in labels[rows]])
    return x, labels


def timed(function, *arguments):
    """(value, seconds of the processor)."""
    value, time = tools.timed(function, *arguments)
    return value, time.cpu


def main():
    args = tools.parser(__doc__, images=20000, width=2048, published_images=8000, classes=(
        0, '0: a fifth of the images, as in Stanford Online Products')).parse_args()

    # First, so that the peak memory is that of recall_at_k.
    x, labels = embeddings(args.images, args.width, args.classes or max(1, args.images // 5))
    result, seconds = timed(recall_at_k, x, labels)
    memory = tools.peak_memory()
    report(x, result, seconds)
    print(f'  peak memory of the process {memory:.2f} GB')
    if torch:
        theirs, peer = timed(torch_recall, x, labels)
        print(f'PyTorch   {len(x)} x {args.width}: {peer:.2f} s, Recall@1 {theirs:.4f}; {peer / seconds:.2f} times '
              'ours')

    x, labels = x[:args.published_images].copy(), labels[:args.published_images]
    result, seconds = timed(recall_at_k, x, labels)
    report(x, result, seconds)
    theirs, published = timed(published_recall, x, labels)
    print(f'published {len(x)} x {args.width}: {published:.2f} s, Recall@1 {theirs:.4f}; {published / seconds:.1f} '
          'times ours (a smaller size: its memory grows with the square)')


def report(x, result, seconds):
    _, alone = timed(product, x)
    rate = 2e-9 * len(x) ** 2 * x.shape[1] / alone
    print(f'ours      {len(x)} x {x.shape[1]}: {seconds:.2f} s, Recall@1 {result[1]:.4f}; its matrix product alone '
          f'{alone:.2f} s ({rate:.0f} GFLOP/s), ratio {seconds / alone:.2f}')


if __name__ == '__main__':
    main()
