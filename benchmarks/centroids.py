"""Re-identification against images and against centroids: size of the gallery, time of ranking, peak memory.

    python benchmarks/centroids.py                         # the sizes of DukeMTMC-reID, random embeddings
    python benchmarks/centroids.py --query=q.npy --gallery=g.npy --query_list=q.txt --gallery_list=g.txt

The files are those that infer.py wrote, and the lists it was given. The limit is the matrix product of the queries with the
gallery. The time of the centroids includes making them, which a service does once.
"""
import tracemalloc

import numpy as np
import tools

from src.accuracy import Images, make_centroids, reid_metrics
from src.datasets.reid import open_reid

# DukeMTMC-reID: 702 queried persons and 408 others in the gallery, 8 cameras, of which a person passes a few.
PERSONS, QUERIED, QUERIES, GALLERY, CAMERAS, PASSED = 1110, 702, 2228, 17661, 8, 3


def random_embeddings(width):
    """Clustered queries and gallery of Duke's sizes: (embeddings, ids, cameras) of each."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((PERSONS, width), dtype=np.float32)
    passed = np.argsort(rng.random((PERSONS, CAMERAS)), axis=1)[:, :PASSED]

    def draw(count, persons):
        ids = np.r_[np.arange(persons), rng.integers(0, persons, count - persons)]
        x = 0.2 * centers[ids] + rng.standard_normal((count, width), dtype=np.float32)
        return x, ids, passed[ids, rng.integers(0, PASSED, count)]
    return *draw(QUERIES, QUERIED), *draw(GALLERY, PERSONS)


def read(args):
    """Embeddings that infer.py wrote, with their lists: (embeddings, ids, cameras) of each."""
    lists = open_reid('lists', lists={'query': args.query_list, 'gallery': args.gallery_list}, training=False)[1:]
    arrays = np.load(args.query), np.load(args.gallery)
    return tuple(part for x, images in zip(arrays, lists) for part in (x, images.labels, images.cameras))


def measured(function):
    """(value, best of 3 times in seconds, peak of what it allocated in MB)."""
    seconds = tools.best_wall(function, 3)
    tracemalloc.start()
    value = function()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return value, seconds, peak


def main():
    parser = tools.parser(__doc__, width=2048, query='', gallery='', query_list='', gallery_list='')
    args = parser.parse_args()
    if len({bool(given) for given in (args.query, args.gallery, args.query_list, args.gallery_list)}) > 1:
        parser.error('--query, --gallery, --query_list and --gallery_list: give all or none')
    data = read(args) if args.query else random_embeddings(args.width)
    query, query_ids, query_cams, gallery, gallery_ids, gallery_cams = data
    records = Images('query', query, query_ids, query_cams), Images('gallery', gallery, gallery_ids, gallery_cams)
    (centroids, *_), making, _ = measured(lambda: make_centroids(*records))
    print(f'{len(query)} queries, width {query.shape[1]}; making the centroids takes {making:.3f} s of their time')

    rows = {}
    for kind, x, options in (('instance', gallery, {}), ('centroid', centroids, {'centroids': True})):
        _, alone, _ = measured(lambda: np.matmul(query, x.T))
        result, seconds, peak = measured(lambda: reid_metrics(*data, **options))
        rows[kind] = len(x), x.nbytes / 1e6, seconds, peak
        print(f'{kind}: gallery of {len(x)}, {x.nbytes / 1e6:.1f} MB; ranked in {seconds:.3f} s (product alone '
              f'{alone:.3f} s), {peak:.0f} MB allocated at the peak; mAP {result["mAP"]:.4f}')
    ratios = [a / b for a, b in zip(rows['instance'], rows['centroid'])]
    print('instance over centroid: {:.1f} x vectors, {:.1f} x gallery memory, {:.1f} x time, '
          '{:.1f} x memory at the peak'.format(*ratios))


if __name__ == '__main__':
    main()
