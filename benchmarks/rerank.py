"""k-reciprocal re-ranking: time and peak memory, beside the matrix products alone and the dense way's memory.

    OPENBLAS_NUM_THREADS=1 python benchmarks/rerank.py                                        # DukeMTMC-reID's sizes
    OPENBLAS_NUM_THREADS=1 python benchmarks/rerank.py --queries=0 --gallery=60000 --width=512  # all against all
    python benchmarks/rerank.py --queries=200 --gallery=1500 --dense  # and equal to the dense way, in numpy

Embeddings are random, with --spread around the centres of --persons; --queries=0 is leave-one-out. The limit is the
product of everything with everything, and of the queries with the gallery. The dense way holds float32 distances and V
of everything.
"""
import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.accuracy.reranking import Rerank  # noqa: E402
from src.common.arrays import block_rows, slices  # noqa: E402


def dense_rerank(everything, queries, k1, k2, weight):
    """The peer: the published shape of the computation, (Q + G) x (Q + G) matrices, queries one by one."""
    x = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    d = np.maximum(2 - 2 * (x @ x.T), 0)
    np.fill_diagonal(d, 0)
    d /= d.max(axis=1, keepdims=True)
    order = np.argsort(d, axis=1, kind='stable')

    def reciprocal(p, k):
        near = order[p, :k + 1]
        return near[(order[near, :k + 1] == p).any(axis=1)]

    v = np.zeros_like(d)
    half = int(np.around(k1 / 2))
    for p in range(len(x)):
        near = expanded = reciprocal(p, k1)
        for candidate in near:
            own = reciprocal(candidate, half)
            if len(np.intersect1d(own, near)) > 2 / 3 * len(own):
                expanded = np.append(expanded, own)
        expanded = np.unique(expanded)
        v[p, expanded] = np.exp(-d[p, expanded])
        v[p] /= v[p].sum()
    v = np.stack([v[order[p, :k2]].mean(axis=0) for p in range(len(x))])
    shared = np.stack([np.minimum(v[p], v[queries:]).sum(axis=1) for p in range(queries)])
    return (1 - weight) * (1 - shared / (2 - shared)) + weight * d[:queries, queries:]


def peak():
    """Peak memory of the process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def main():
    parser = argparse.ArgumentParser(description='Time and memory of re-ranking.')
    parser.add_argument('--queries', type=int, default=2228)
    parser.add_argument('--gallery', type=int, default=17661)
    parser.add_argument('--width', type=int, default=2048)
    parser.add_argument('--persons', type=int, default=1110)
    parser.add_argument('--spread', type=float, default=0.2, help='of the centres; 0 = random embeddings alone')
    parser.add_argument('--dense', action='store_true', help='measure the dense way too')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((args.queries + args.gallery, args.width), dtype=np.float32)
    if args.spread:
        centers = args.spread * rng.standard_normal((args.persons, args.width), dtype=np.float32)
        for rows in slices(len(x), 1024):
            x[rows] += centers[rng.integers(0, args.persons, rows.stop - rows.start)]
    gallery = x[args.queries:]
    queries = x[:args.queries] if args.queries else gallery
    print(f'{len(queries)} x {len(gallery)} x {args.width}, spread {args.spread:g}; input and process {peak():.2f} GB')

    start, cpu = time.perf_counter(), time.process_time()
    search = Rerank().search(queries, gallery)
    built = time.process_time() - cpu
    for rows in slices(len(queries), block_rows(len(gallery))):
        scores = search.scores(rows)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    stored = sum(part.nbytes for m in (search.rows, search.columns) for part in (m.data, m.indices, m.indptr))
    print(f'ours: {seconds:.1f} s, of the processor {cpu:.1f} s ({built:.1f} s neighbours and V); '
          f'peak {peak():.2f} GB; V {search.rows.nnz / len(x):.0f} values a row, {stored / 1e9:.3f} GB both '
          f'ways; the dense way holds {2 * 4e-9 * len(x) ** 2:.1f} GB and its sort {8e-9 * len(x) ** 2:.1f} GB')
    start = time.process_time()
    for one, other in ((x, x), (queries, gallery)):
        for rows in slices(len(one), 1024):
            one[rows] @ other.T
    alone = time.process_time() - start
    print(f'matrix products alone {alone:.1f} s of the processor, ratio {cpu / alone:.2f}')
    if args.dense and args.queries:
        start = time.process_time()
        expected = dense_rerank(x, args.queries, *Rerank())
        dense = time.process_time() - start
        print(f'dense {dense:.1f} s of the processor, {dense / cpu:.1f} times ours; peak {peak():.2f} GB; largest '
              f'difference {np.abs(expected + search.scores(slice(None))).max():.1e}')
    return scores


if __name__ == '__main__':
    main()
