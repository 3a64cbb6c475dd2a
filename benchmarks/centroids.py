"""Re-identification against images and against centroids: gallery size, time of ranking, peak of memory.

    python benchmarks/centroids.py                         # the sizes of DukeMTMC-reID, random embeddings
    python benchmarks/centroids.py --query=q.npy --gallery=g.npy --query_list=q.txt --gallery_list=g.txt

The files are infer.py's and the lists it was given. The limit is the matrix product of the queries with the gallery.
The time of the centroids holds their making, which a service does once.
"""
import argparse
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.accuracy import make_centroids, reid_metrics  # noqa: E402
from src.datasets.reid import open_reid  # noqa: E402

# DukeMTMC-reID: 702 queried persons and 408 others in the gallery, 8 cameras, of which a person passes a few.
PERSONS, QUERIED, QUERIES, GALLERY, CAMERAS, PASSED = 1110, 702, 2228, 17661, 8, 3


def random_embeddings(width):
    """Clustered queries and gallery in Duke's numbers: (embeddings, ids, cameras) of each."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((PERSONS, width), dtype=np.float32)
    passed = np.argsort(rng.random((PERSONS, CAMERAS)), axis=1)[:, :PASSED]

    def draw(count, persons):
        ids = np.r_[np.arange(persons), rng.integers(0, persons, count - persons)]
        x = 0.2 * centers[ids] + rng.standard_normal((count, width), dtype=np.float32)
        return x, ids, passed[ids, rng.integers(0, PASSED, count)]
    return *draw(QUERIES, QUERIED), *draw(GALLERY, PERSONS)


def read(args):
    """What infer.py wrote of both lists: (embeddings, ids, cameras) of each."""
    lists = open_reid('lists', lists={'query': args.query_list, 'gallery': args.gallery_list}, training=False)[1:]
    arrays = np.load(args.query), np.load(args.gallery)
    return tuple(part for x, images in zip(arrays, lists) for part in (x, images.labels, images.cameras))


def timed(function, *arguments, runs=3, **options):
    """(value, best of `runs` times in seconds, peak of what it allocated in MB)."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        value = function(*arguments, **options)
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    function(*arguments, **options)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return value, min(times), peak


def main():
    parser = argparse.ArgumentParser(description='Time and memory of instance and centroid galleries.')
    parser.add_argument('--width', type=int, default=2048)
    for name in ('query', 'gallery', 'query_list', 'gallery_list'):
        parser.add_argument(f'--{name}')
    args = parser.parse_args()
    if len({bool(given) for given in (args.query, args.gallery, args.query_list, args.gallery_list)}) > 1:
        parser.error('--query, --gallery, --query_list and --gallery_list: give all or none')
    data = read(args) if args.query else random_embeddings(args.width)
    query, query_ids, query_cams, gallery, gallery_ids, gallery_cams = data
    (centroids, *_), making, _ = timed(make_centroids, gallery, gallery_ids, gallery_cams, query_ids, query_cams)
    print(f'{len(query)} queries, width {query.shape[1]}; of the centroids\' time their making is {making:.3f} s')

    rows = {}
    for kind, x, options in (('instance', gallery, {}), ('centroid', centroids, {'centroids': True})):
        _, alone, _ = timed(np.matmul, query, x.T)
        result, seconds, peak = timed(reid_metrics, *data, **options)
        rows[kind] = len(x), x.nbytes / 1e6, seconds, peak
        print(f'{kind}: gallery of {len(x)}, {x.nbytes / 1e6:.1f} MB; ranked in {seconds:.3f} s (product alone '
              f'{alone:.3f} s), {peak:.0f} MB allocated at the peak; mAP {result["mAP"]:.4f}')
    ratios = [a / b for a, b in zip(rows['instance'], rows['centroid'])]
    print('instance over centroid: {:.1f} x vectors, {:.1f} x gallery memory, {:.1f} x time, '
          '{:.1f} x memory at the peak'.format(*ratios))


if __name__ == '__main__':
    main()
