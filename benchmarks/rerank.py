"""k-reciprocal re-ranking: time and peak memory, beside the matrix products alone and the published computation.

    OPENBLAS_NUM_THREADS=1 python benchmarks/rerank.py                                        # DukeMTMC-reID's sizes
    OPENBLAS_NUM_THREADS=1 python benchmarks/rerank.py --queries=0 --gallery=60000 --width=512  # all against all
    python benchmarks/rerank.py --queries=200 --gallery=1500 --dense  # compared with the published computation

Embeddings are random, with --spread around the centres of --persons; --queries=0 is leave-one-out. The limit is the
product of all rows with all rows, and of the queries with the gallery. The published computation (dense) holds the float32
matrices of all distances and of all V.
"""
import numpy as np
import tools

from src.accuracy.reranking import Rerank
from src.common.arrays import block_rows, slices


def dense_rerank(everything, queries, k1, k2, weight):
    """The published computation: (Q + G) x (Q + G) matrices, queries one by one."""
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


def main():
    args = tools.parser(__doc__, queries=2228, gallery=17661, width=2048, persons=1110,
                        spread=(0.2, 'of the centres; 0 = random embeddings alone'),
                        dense=(False, 'measure the published computation too')).parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((args.queries + args.gallery, args.width), dtype=np.float32)
    if args.spread:
        centers = args.spread * rng.standard_normal((args.persons, args.width), dtype=np.float32)
        for rows in slices(len(x), 1024):
            x[rows] += centers[rng.integers(0, args.persons, rows.stop - rows.start)]
    gallery = x[args.queries:]
    queries = x[:args.queries] if args.queries else gallery
    print(f'{len(queries)} x {len(gallery)} x {args.width}, spread {args.spread:g}; input and process '
          f'{tools.peak_memory():.2f} GB')

    def all_scores(search):
        for rows in slices(len(queries), block_rows(len(gallery))):
            search.scores(rows)

    def products():
        for one, other in ((x, x), (queries, gallery)):
            for rows in slices(len(one), 1024):
                one[rows] @ other.T

    search, built = tools.timed(Rerank().search, queries, gallery)
    _, scored = tools.timed(all_scores, search)
    cpu = built.cpu + scored.cpu
    stored = sum(part.nbytes for m in (search.rows, search.columns) for part in (m.data, m.indices, m.indptr))
    print(f'ours: {built.wall + scored.wall:.1f} s, of the processor {cpu:.1f} s ({built.cpu:.1f} s neighbours and V); '
          f'peak {tools.peak_memory():.2f} GB; V {search.rows.nnz / len(x):.0f} values a row, {stored / 1e9:.3f} GB both '
          f'ways; the dense way holds {2 * 4e-9 * len(x) ** 2:.1f} GB and its sort {8e-9 * len(x) ** 2:.1f} GB')
    alone = tools.timed(products)[1].cpu
    print(f'matrix products alone {alone:.1f} s of the processor, ratio {cpu / alone:.2f}')
    if args.dense and args.queries:
        expected, dense = tools.timed(dense_rerank, x, args.queries, *Rerank())
        print(f'dense {dense.cpu:.1f} s of the processor, {dense.cpu / cpu:.1f} times ours; peak '
              f'{tools.peak_memory():.2f} GB; largest difference {np.abs(expected + search.scores(slice(None))).max():.1e}')


if __name__ == '__main__':
    main()
