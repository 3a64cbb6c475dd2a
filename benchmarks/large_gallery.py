"""A gallery of a million embeddings: time, memory and recall of index and exact search, each in a process of its own.

    python benchmarks/large_gallery.py                    # 1,000,000 x 512, clustered; 4 GB of disk
    python benchmarks/large_gallery.py --kind=random      # no index is good at these
    python benchmarks/large_gallery.py --rows=100000

Clustered: 10 images a class, classes around 1,000 centres. The queries are new images of the same classes. The limit of the
exact search is the matrix product alone, on rows in memory.
"""
import argparse
import contextlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import tools

from src.datasets.image_list import ImageList
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings
from src.retrieval.search import build_index, find_neighbours, open_index

EACH, CENTRES, BLOCK = 10, 1000, 10000
QUERIES, K = 100, 10


def blocks(rows, width, kind):
    """Yield the embeddings of a gallery, (at most BLOCK, width) float32."""
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
    """Do the work of one process; returns its figures."""
    if name == 'write':
        write_embeddings(path, blocks(args.rows, args.width, args.kind),
                         ImageList([f'/pictures/{i}.jpg' for i in range(args.rows)], np.arange(args.rows) // EACH))
        return {}
    gallery = EmbeddingFile(path)
    if name == 'build':
        build_index(gallery)
        return {}
    rng = np.random.default_rng(1)
    queries = gallery.take(np.sort(rng.choice(args.rows, QUERIES, replace=False)))
    queries = queries + 0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    if name.endswith('one'):
        queries = queries[:1]
    if name == 'limit':
        block = next(gallery.blocks())[1]

        def search():
            for _ in range(0, args.rows, len(block)):
                queries @ block.T
            return [None]
    else:
        index = open_index(gallery) if name.startswith('ivf') else None

        def search():
            return find_neighbours(queries, gallery, K, index=index)[0].tolist()
    found, time = tools.timed(search)
    return {'ms': time.wall / len(queries) * 1e3, 'cpu': time.cpu / len(queries) * 1e3, 'found': found}


def measured(name, path, args):
    """Run a stage in a process of its own: (its figures, Time, peak memory in GB)."""
    command = [__file__, f'--stage={name}', f'--folder={Path(path).parent}', f'--rows={args.rows}',
               f'--width={args.width}', f'--kind={args.kind}']
    printed, time, memory = tools.run_measured(command)
    *lines, figures = printed.splitlines()
    for line in lines:
        print(line.replace(path, Path(path).name), flush=True)
    return json.loads(figures), time, memory


def main():
    parser = tools.parser(__doc__, rows=1_000_000, width=512, folder=('', 'keeps the gallery; default: a temporary folder'))
    parser.add_argument('--kind', choices=['clustered', 'random'], default='clustered')
    parser.add_argument('--stage', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(stage(args.stage, os.path.join(args.folder, 'gallery.npy'), args)))
        return
    with contextlib.nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'gallery.npy')
        for name in ('write', 'build'):
            _, time, memory = measured(name, path, args)
            print(f'{name:6} {time.wall:.0f} s ({time.cpu:.0f} s of processor), peak memory {memory:.2f} GB', flush=True)
        results = {}
        for name in ('exact', 'ivf', 'exact one', 'ivf one', 'limit'):
            row, _, memory = measured(name, path, args)
            results[name] = row
            queries = 1 if name.endswith('one') else QUERIES
            print(f'{name:9} {queries:4} queries: {row["ms"]:8.2f} ms a query ({row["cpu"]:.2f} of processor), '
                  f'peak memory {memory:.2f} GB', flush=True)
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(results['ivf']['found'], results['exact']['found'])])
        print(f'recall@{K} of the index against the exact search, on {QUERIES} new images: {recall:.3f}; '
              f'index {os.path.getsize(path + ".ivf") / 2 ** 20:.0f} MB')
        print(f'exact / limit {results["exact"]["cpu"] / results["limit"]["cpu"]:.2f}, '
              f'exact / index {results["exact"]["cpu"] / results["ivf"]["cpu"]:.1f} (processor time)')


if __name__ == '__main__':
    main()
