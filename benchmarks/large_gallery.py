"""A gallery of many embeddings: time and memory of the exact search of a file, and of Milvus, each in a process of its own.

    python benchmarks/large_gallery.py                    # 1,000,000 x 512, clustered; 4 GB of disk
    python benchmarks/large_gallery.py --rows=200000 --milvus=http://localhost:19530#large --index=IVF_FLAT
    python benchmarks/large_gallery.py --rows=200000 --milvus=large.db --kind=random     # no index is good at these

Clustered: 10 images a class, classes around 1,000 centres. The queries are new images of the same classes. The limit of the
exact search is the matrix product alone, on rows in memory. Memory is that of our process: with NAME.db the engine is in it,
with a server it is not.
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
from src.retrieval.gallery import open_collection, open_gallery
from src.retrieval.search import find_neighbours

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
    file = EmbeddingFile(path)
    if name == 'load':
        gallery = open_collection(args.milvus, new=True)
        gallery.add(file.parts(), file.card)
        return {'rows': gallery.size()}
    if name == 'index':
        from src.retrieval.milvus import read_index
        print(open_collection(args.milvus).build_index(*read_index(args.index)))
        return {}
    rng = np.random.default_rng(1)
    queries = file.vectors(file.images, np.sort(rng.choice(args.rows, QUERIES, replace=False)))
    queries = queries + 0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    if name.endswith('one'):
        queries = queries[:1]
    if name == 'limit':
        block = next(file.blocks())[1]

        def search():
            for _ in range(0, args.rows, len(block)):
                queries @ block.T
            return [None]
    else:
        gallery = file if name.startswith('file') else open_gallery(args.milvus)

        def search():
            found = find_neighbours(queries, gallery, K)
            return [[found.images.paths[row] for row in line if row >= 0] for line in found.rows.tolist()]
        if gallery is not file:
            search()    # the first search of a collection that was just opened waits for it to be loaded
    found, time = tools.timed(search)
    return {'ms': time.wall / len(queries) * 1e3, 'cpu': time.cpu / len(queries) * 1e3, 'found': found}


def measured(name, path, args):
    """Run a stage in a process of its own: (its figures, Time, peak memory in GB)."""
    command = [__file__, f'--stage={name}', f'--folder={Path(path).parent}', f'--rows={args.rows}', f'--width={args.width}',
               f'--kind={args.kind}', f'--milvus={args.milvus}', f'--index={args.index}']
    printed, time, memory = tools.run_measured(command)
    *lines, figures = printed.splitlines()
    for line in lines:
        print(line.replace(path, Path(path).name), flush=True)
    return json.loads(figures), time, memory


def searched(name, path, args):
    """Measure and print one search; returns its figures."""
    row, _, memory = measured(name, path, args)
    queries = 1 if name.endswith('one') else QUERIES
    print(f'{name:14} {queries:4} queries: {row["ms"]:8.2f} ms a query ({row["cpu"]:.2f} of our processor), peak memory of our '
          f'process {memory:.2f} GB', flush=True)
    return row


def main():
    parser = tools.parser(__doc__, rows=1_000_000, width=512, folder=('', 'keeps the file; default: a temporary folder'))
    parser.add_argument('--kind', choices=['clustered', 'random'], default='clustered')
    parser.add_argument('--milvus', default='', help='also load into Milvus, NAME.db or http://HOST:PORT, and search there')
    parser.add_argument('--index', default='IVF_FLAT', help='index that Milvus gets after its exact search')
    parser.add_argument('--stage', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(stage(args.stage, os.path.join(args.folder, 'gallery.npy'), args)))
        return
    with contextlib.nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'gallery.npy')
        for name in ('write', *(['load'] if args.milvus else [])):
            _, time, memory = measured(name, path, args)
            print(f'{name:6} {args.rows / time.wall:.0f} rows/s ({time.wall:.0f} s, {time.cpu:.0f} s of our processor), peak '
                  f'memory of our process {memory:.2f} GB', flush=True)
        results = {name: searched(name, path, args) for name in ('file', 'file, one', 'limit')}
        print(f'file / limit {results["file"]["cpu"] / results["limit"]["cpu"]:.2f} (processor time)')
        for name in ('milvus', args.index) if args.milvus else ():
            if name == args.index:
                measured('index', path, args)
            row = searched(name, path, args)
            searched(f'{name}, one', path, args)
            recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(row['found'], results['file']['found'])])
            print(f'recall@{K} of {name} against the file, on {QUERIES} new images: {recall:.3f}')


if __name__ == '__main__':
    main()
