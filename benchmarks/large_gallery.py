"""A gallery of a million embeddings: index and exact search, their time, memory and recall, each in a process of its own.

    python benchmarks/large_gallery.py                    # 1,000,000 x 512, clustered; 4 GB of disk
    python benchmarks/large_gallery.py --kind=random      # what no index is good at
    python benchmarks/large_gallery.py --rows=100000

Clustered: 10 images a class, classes around 1,000 centres. The queries are new images of its classes. The limit of the
exact search is the matrix product alone, on rows that are in memory.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.datasets.image_list import ImageList  # noqa: E402
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings  # noqa: E402
from src.retrieval.search import build_index, find_neighbours, open_index  # noqa: E402

EACH, CENTRES, BLOCK = 10, 1000, 10000
QUERIES, K = 100, 10


def blocks(rows, width, kind):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, width), dtype=np.float32)
    for start in range(0, rows, BLOCK):
        noise = rng.standard_normal((min(BLOCK, rows - start), width), dtype=np.float32)
        if kind == 'random':
            yield noise
            continue
        classes = centres[rng.integers(0, CENTRES, -(-len(noise) // EACH))]
        classes = classes + 0.7 * rng.standard_normal(classes.shape, dtype=np.float32)
        yield np.repeat(classes, EACH, 0)[:len(noise)] + 0.9 * noise


def stage(name, path, args):
    """What one process does; returns figures."""
    if name == 'write':
        write_embeddings(path, blocks(args.rows, args.width, args.kind),
                         ImageList([f'/pictures/{i}.jpg' for i in range(args.rows)], np.arange(args.rows) // EACH))
        return {}
    began = time.perf_counter()
    gallery = EmbeddingFile(path)
    opened = time.perf_counter() - began
    if name == 'build':
        build_index(gallery)
        return {}
    rng = np.random.default_rng(1)
    queries = gallery.take(np.sort(rng.choice(args.rows, QUERIES, replace=False)))
    queries = queries + 0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    if name == 'limit':
        block = next(gallery.blocks())[1]
        began, spent = time.perf_counter(), time.process_time()
        for _ in range(0, args.rows, len(block)):
            queries @ block.T
        return {'ms': (time.perf_counter() - began) / QUERIES * 1e3, 'cpu': (time.process_time() - spent) / QUERIES * 1e3}
    index = open_index(gallery) if name.startswith('ivf') else None
    if name.endswith('one'):
        queries = queries[:1]
    began, spent = time.perf_counter(), time.process_time()
    found = find_neighbours(queries, gallery, K, index=index)[0]
    return {'open': opened, 'ms': (time.perf_counter() - began) / len(queries) * 1e3,
            'cpu': (time.process_time() - spent) / len(queries) * 1e3, 'found': found.tolist()}


def measured(name, path, args):
    """A stage in a process of its own: its figures, with seconds and peak memory in GB."""
    began = time.perf_counter()
    command = [sys.executable, __file__, f'--stage={name}', f'--folder={Path(path).parent}', f'--rows={args.rows}',
               f'--width={args.width}', f'--kind={args.kind}']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    *lines, figures = process.stdout.read().splitlines() or ['{}']
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f'{name} failed')
    for line in lines:
        print(line.replace(path, Path(path).name), flush=True)
    return {**json.loads(figures), 'seconds': time.perf_counter() - began, 'memory': usage.ru_maxrss / 2 ** 20,
            'cpu_seconds': usage.ru_utime + usage.ru_stime}


def main():
    parser = argparse.ArgumentParser(description='Time, memory and recall of searching a large gallery.')
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--width', type=int, default=512)
    parser.add_argument('--kind', choices=['clustered', 'random'], default='clustered')
    parser.add_argument('--folder', help='where the gallery is written and stays; default: a temporary one')
    parser.add_argument('--stage', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(stage(args.stage, os.path.join(args.folder, 'gallery.npy'), args)))
        return
    with contextlib.nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'gallery.npy')
        for name in ('write', 'build'):
            made = measured(name, path, args)
            print(f'{name:6} {made["seconds"]:.0f} s ({made["cpu_seconds"]:.0f} s of processor), peak memory '
                  f'{made["memory"]:.2f} GB', flush=True)
        results = {}
        for name in ('exact', 'ivf', 'exact one', 'ivf one', 'limit'):
            results[name] = row = measured(name, path, args)
            queries = 1 if name.endswith('one') else QUERIES
            print(f'{name:9} {queries:4} queries: {row["ms"]:8.2f} ms a query ({row["cpu"]:.2f} of processor), '
                  f'peak memory {row["memory"]:.2f} GB', flush=True)
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(results['ivf']['found'], results['exact']['found'])])
        print(f'recall@{K} of the index against the exact search, on {QUERIES} new images: {recall:.3f}; '
              f'index {os.path.getsize(path + ".ivf") / 2 ** 20:.0f} MB')
        print(f'exact / limit {results["exact"]["cpu"] / results["limit"]["cpu"]:.2f}, '
              f'exact / index {results["exact"]["cpu"] / results["ivf"]["cpu"]:.1f} (processor time)')


if __name__ == '__main__':
    main()
