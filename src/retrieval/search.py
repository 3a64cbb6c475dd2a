"""The nearest neighbours in a gallery of embeddings: exact, or shortlisted by an index and then ranked exactly.

An index lies beside its gallery: `X.npy.ivf` holds faiss's own bytes behind one line of JSON, its IndexCard.
"""
import importlib.util
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Optional, Tuple

import numpy as np

from src.accuracy.recall import nearest_neighbours
from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import read_record
from src.retrieval.embedding_file import EmbeddingFile
from src.retrieval.thresholds import ways

SUFFIX = '.ivf'
LEAST_ROWS = 1000          # of a gallery worth an index
ROWS_PER_LIST, SAMPLE_PER_LIST = 800, 40
# Of a row in its list: a byte a value, beyond WIDE values a bit a value (RaBitQ, Gao and Long, SIGMOD 2024; faiss 1.11).
# Both need no training; a product quantizer of 64 bytes took a hundred times longer here and found the same.
NARROW_CODES, WIDE_CODES, WIDE = 'SQ8', 'RaBitQ', 128
MEASURED_QUERIES, MEASURED_K = 200, 10
WANTED_RECALL = 0.95
SHORTLIST = 20             # rows ranked exactly for each neighbour asked for
LEAST_SHORTLIST = 200
QUERIES_AT_ONCE = 256
RERANKED_WHOLE, RERANKED = 50_000, 100
SEED = 0


@dataclass(frozen=True)
class IndexCard:
    """What an index says of itself: the identity of its gallery's rows, their number and width, how many lists a query reads
    and the recall that was measured."""
    gallery: str
    rows: int
    width: int
    probes: int
    recall: float


def find_neighbours(queries: np.ndarray, gallery: EmbeddingFile, k: int, *, index: Optional['Index'] = None, rerank: Any = None
           ) -> Tuple[np.ndarray, np.ndarray]:
    """The k images of a gallery most similar to each query by cosine; equal ones: the lower number first.

    Memory: the queries, one block of the file and (N, k); with an index it and the shortlists of a block of queries.

    Args:
        queries: (N, D) float32.
        gallery: at least k images.
        index: of this gallery: only its shortlist is ranked, and the images appended since it was built.
        rerank: src.accuracy.reranking.Rerank or None: the neighbours are ordered by its distances. In a gallery of more
            than RERANKED_WHOLE images it sees those alone that are among the RERANKED nearest of one of the queries.

    Returns:
        (numbers (N, k) int64, similarities (N, k) float32, which no longer fall where they were re-ranked).

    Raises:
        InputError: the widths differ, fewer than k images, a row is NaN or Inf, or the file is cut short.
    """
    if queries.shape[1] != gallery.width:
        raise InputError(f'{gallery.path}: embeddings of {gallery.width} values, those of --query have '
                         f'{queries.shape[1]}; write both with the same network')
    if k > gallery.count:
        raise InputError(f'--top_k={k}: {gallery.path} holds {gallery.count} images')
    if rerank is not None:
        seen = np.arange(gallery.count)
        if gallery.count > RERANKED_WHOLE:
            seen = np.unique(find_neighbours(queries, gallery, min(gallery.count, max(k, RERANKED)), index=index)[0])
        numbers, similarities = nearest_neighbours(queries, gallery.take(seen), k, rerank=rerank)
        return seen[numbers], similarities
    if index is None:
        return _exact(queries, gallery, k)
    numbers, best = index.search(queries, gallery, k)
    tail = int(np.searchsorted(gallery.kept, index.rows))
    if tail < gallery.count:
        more, more_best = _exact(queries, gallery, min(k, gallery.count - tail), tail)
        numbers, best = _merged(numbers, best, more, more_best, k)
    return numbers, best


def _exact(queries, gallery, k, first=0, end=None):
    """As find_neighbours, among the images from number `first` to before `end`."""
    numbers, best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start, block in gallery.blocks(first):
        block = block if end is None else block[:max(0, end - start)]
        if not len(block):
            break
        more, similarities = nearest_neighbours(queries, block, min(k, len(block)))
        numbers, best = _merged(numbers, best, more + start, similarities, k)
    return numbers, best


def _merged(numbers, best, more, more_best, k):
    """The k best of two lists for each query; the numbers of the second are the higher ones."""
    numbers, best = np.hstack([numbers, more]), np.hstack([best, more_best])
    order = np.argsort(-best, axis=1, kind='stable')[:, :k]
    return np.take_along_axis(numbers, order, 1), np.take_along_axis(best, order, 1)


class Index:
    """An inverted file of quantized rows (Jegou et al., TPAMI 2011), which shortlists for an exact ranking.

    Attributes: rows, how many rows of the gallery's file it holds; probes, how many of its lists a query reads; recall,
    as measured when it was built: share of the MEASURED_K nearest that it finds.
    """

    def __init__(self, lists: Any, rows: int, probes: int, recall: float):
        self._lists = lists
        self.rows, self.probes, self.recall = rows, probes, recall
        lists.nprobe = probes

    def search(self, queries: np.ndarray, gallery: EmbeddingFile, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """As find_neighbours, of the rows that the index holds."""
        wanted = min(self.rows, max(LEAST_SHORTLIST, SHORTLIST * k))
        number_of = np.full(self.rows, -1, np.int64)
        kept = gallery.kept[:np.searchsorted(gallery.kept, self.rows)]
        number_of[kept] = np.arange(len(kept))
        size = min(k, len(kept))
        numbers, best = np.empty((len(queries), size), np.int64), np.empty((len(queries), size), np.float32)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[start:start + QUERIES_AT_ONCE]
            for i, row in enumerate(self._lists.search(_unit(some), wanted)[1], start):
                found = np.sort(number_of[row[row >= 0]])
                found = found[found >= 0]
                if len(found) < size:
                    # The lists are too short, or their rows removed.
                    numbers[[i]], best[[i]] = _exact(queries[[i]], gallery, size, end=len(kept))
                else:
                    order, best[[i]] = nearest_neighbours(queries[[i]], gallery.take(found), size)
                    numbers[i] = found[order[0]]
        return numbers, best


def index_path(gallery: EmbeddingFile) -> str:
    """Where the index of a gallery is."""
    return gallery.path + SUFFIX


def build_index(gallery: EmbeddingFile) -> Index:
    """Build the index of a .npy, write it beside it and tell its recall against the exact search on standard error.

    How many lists a query reads is chosen here: as many as are needed for WANTED_RECALL, on rows of the gallery as queries.
    Memory: D / 8 + 16 bytes a row (D + 8 up to WIDE values), as much again while it is written, the
    training sample (SAMPLE_PER_LIST rows a list) and a block of the file.

    Raises:
        InputError: faiss is not installed, an .npz, a gallery of fewer than LEAST_ROWS rows, or one that cannot be read.
    """
    faiss = _faiss()
    if not gallery.path.endswith('.npy'):
        raise InputError(f'{gallery.path}: an index needs a .npy, of which single rows can be read; write it as one')
    if gallery.count < LEAST_ROWS:
        raise InputError(f'--index=ivf: {gallery.path} holds {gallery.count} images, which the exact search goes through '
                         'in no time; leave the flag out')
    began = time.perf_counter()
    lists = _train(faiss, gallery)
    for start, block in gallery.blocks():
        lists.add_with_ids(_unit(block), gallery.kept[start:start + len(block)])
    built = time.perf_counter() - began
    index = Index(lists, gallery.rows, 1, 0.0)
    index.probes, index.recall, milliseconds = _choose_probes(index, gallery)
    card = IndexCard(gallery.identity, gallery.rows, gallery.width, index.probes, index.recall)
    with replacing(index_path(gallery)) as part, open(part, 'wb') as file:
        file.write(json.dumps(asdict(card)).encode() + b'\n')
        file.write(faiss.serialize_index(lists).data)
    # Not among the neighbours, which a program may be reading.
    print(f'index {index_path(gallery)}: {gallery.count} rows in {lists.nlist} lists, built in {built:.0f} s; '
          f'recall@{MEASURED_K} {index.recall:.3f} against the exact search, {milliseconds:.1f} ms a query that reads '
          f'{index.probes} lists' + ('' if index.recall >= WANTED_RECALL else
                                      f'; less than {WANTED_RECALL}: rather search this gallery exactly'), file=sys.stderr)
    return index


def open_index(gallery: EmbeddingFile) -> Optional[Index]:
    """The index beside a gallery, None where there is none.

    Raises:
        InputError: faiss is not installed, or the index is damaged, of another gallery or of one that has changed since
            (other than by removed and appended images).
    """
    path = index_path(gallery)
    if not os.path.isfile(path):
        return None
    faiss = _faiss()
    try:
        with open(path, 'rb') as file:
            card = read_record(IndexCard, json.loads(file.readline()), path)
            known = gallery.rows_of(card.gallery)
            lists = faiss.deserialize_index(np.frombuffer(file.read(), np.uint8)) if known == card.rows else None
    except (OSError, ValueError, RecursionError, RuntimeError) as error:
        raise InputError(f'{path}: damaged or cut short; remove it and build it again with --index=ivf') from error
    if lists is None:
        raise InputError(f'{path}: is the index of another gallery, or {gallery.path} was written anew since; remove it '
                         'and build it again with --index=ivf')
    return Index(lists, card.rows, card.probes, card.recall)


def _faiss():
    if importlib.util.find_spec('faiss') is None:
        raise InputError('--index=ivf needs faiss: pip install faiss-cpu, or leave the flag out for the exact search')
    import faiss  # not a requirement
    return faiss


def _train(faiss, gallery):
    """An empty index trained on a sample of the gallery."""
    lists = 2 ** int(np.log2(max(1, gallery.count // ROWS_PER_LIST)))
    codes = WIDE_CODES if gallery.width > WIDE else NARROW_CODES
    index = faiss.index_factory(gallery.width, f'IVF{lists},{codes}', faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed = 10, SEED + 1
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, SAMPLE_PER_LIST
    size = min(gallery.count, SAMPLE_PER_LIST * max(lists, 256))
    rows = np.random.default_rng(SEED).choice(gallery.count, size, replace=False)
    index.train(_unit(gallery.take(np.sort(rows))))
    return index


def _choose_probes(index, gallery):
    """(lists to read, recall, milliseconds a query), the fewest that reach WANTED_RECALL, on rows as queries."""
    rng = np.random.default_rng(SEED + 1)
    asked = np.sort(rng.choice(gallery.count, min(MEASURED_QUERIES, gallery.count), replace=False))
    queries = gallery.take(asked)
    k = min(MEASURED_K, gallery.count - 1)
    # A row's nearest is itself, which every index finds.
    true = _without(asked, _exact(queries, gallery, k + 1)[0])
    probes = 1
    while True:
        index._lists.nprobe = probes
        began = time.perf_counter()
        found = _without(asked, index.search(queries, gallery, k + 1)[0])
        milliseconds = (time.perf_counter() - began) / len(asked) * 1000
        recall = float(np.mean([len(np.intersect1d(*rows)) / k for rows in zip(found, true)]))
        if recall >= WANTED_RECALL or probes >= index._lists.nlist:
            return probes, recall, milliseconds
        probes = min(2 * probes, index._lists.nlist)


def _without(asked, numbers):
    """Every row of numbers without the number asked for, or without its last where that is not in it."""
    return [row[row != one][:len(row) - 1] for one, row in zip(asked, numbers)]


def _unit(rows):
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def check_model(gallery: EmbeddingFile, model: Optional[str]) -> None:
    """Raise InputError when a gallery says that it holds other embeddings than those of `model`."""
    if gallery.model and model and gallery.model != model:
        raise InputError(f'{gallery.path}: was written with another network than that of the queries, or with images given to '
                         f'it in another way ({ways(gallery.model, model)}); write both in the same way')


def unknown(similarities: np.ndarray, threshold: float) -> np.ndarray:
    """Which queries have no neighbour at the threshold or above: bool (N,), of similarities (N, k)."""
    return similarities.max(axis=1) < threshold
