"""Search for nearest neighbours in a gallery of embeddings: exact, or an index gives a shortlist that is ranked exactly.

The index lies beside its gallery: `X.npy.ivf` holds one line of JSON, the IndexCard, and then faiss's own bytes.
"""
import importlib.util
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, List, Optional, Tuple

import numpy as np

from src.accuracy.recall import nearest_neighbours
from src.accuracy.reranking import Rerank
from src.common.arrays import Array
from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import read_record
from src.retrieval.embedding_file import EmbeddingFile
from src.retrieval.thresholds import ways

SUFFIX = '.ivf'
LEAST_ROWS = 1000          # smaller galleries get no index
ROWS_PER_LIST, SAMPLE_PER_LIST = 800, 40
# How a list stores a row: one byte per value, or one bit per value for rows of more than WIDE values (RaBitQ, Gao and Long,
# SIGMOD 2024; faiss 1.11). Neither needs training; a product quantizer of 64 bytes took a hundred times longer to build and had
# the same recall.
NARROW_CODES, WIDE_CODES, WIDE = 'SQ8', 'RaBitQ', 128
MEASURED_QUERIES, MEASURED_K = 200, 10
WANTED_RECALL = 0.95
SHORTLIST = 20             # rows ranked exactly per requested neighbour
LEAST_SHORTLIST = 200
QUERIES_AT_ONCE = 256
RERANKED_WHOLE, RERANKED = 50_000, 100
SEED = 0


@dataclass(frozen=True)
class IndexCard:
    """The description in an index: identity, number and width of the gallery's rows, lists read per query, measured recall."""
    gallery: str
    rows: int
    width: int
    probes: int
    recall: float


def find_neighbours(queries: Array, gallery: EmbeddingFile, k: int, *, index: Optional['Index'] = None,
                    rerank: Optional[Rerank] = None) -> Tuple[Array, Array]:
    """The k gallery images most similar to each query by cosine; of equal similarities the lower number comes first.

    Memory: the queries, one block of the file and (N, k). With an index also the index and the shortlists of a block of
    queries.

    Args:
        queries: (N, D) float32.
        gallery: at least k images.
        index: built for this gallery. Only its shortlist and the images appended since it was built are ranked.
        rerank: settings, by whose distances the neighbours are ordered. In a gallery of more than RERANKED_WHOLE images only
            those that are among the RERANKED nearest of any query take part.

    Returns:
        (numbers (N, k) int64, similarities (N, k) float32, not in falling order after re-ranking).

    Raises:
        InputError: the widths differ, the gallery has fewer than k images, a row is NaN or Inf, or the file is cut short.
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


def _exact(queries: Array, gallery: EmbeddingFile, k: int, first: int = 0, end: Optional[int] = None) -> Tuple[Array, Array]:
    """As find_neighbours, among the images `first` to `end` - 1."""
    numbers, best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start, block in gallery.blocks(first):
        block = block if end is None else block[:max(0, end - start)]
        if not len(block):
            break
        more, similarities = nearest_neighbours(queries, block, min(k, len(block)))
        numbers, best = _merged(numbers, best, more + start, similarities, k)
    return numbers, best


def _merged(numbers: Array, best: Array, more: Array, more_best: Array, k: int) -> Tuple[Array, Array]:
    """The k best of two lists for each query; all numbers of the second list are higher than those of the first."""
    numbers, best = np.hstack([numbers, more]), np.hstack([best, more_best])
    order = np.argsort(-best, axis=1, kind='stable')[:, :k]
    return np.take_along_axis(numbers, order, 1), np.take_along_axis(best, order, 1)


class Index:
    """An inverted file of quantized rows (Jegou et al., TPAMI 2011) that gives shortlists for an exact ranking.

    Args:
        lists: faiss's index, whose ids are row numbers of the gallery's file.
        rows: number of leading rows of the gallery's file that it was built from.
        probes: lists read per query.
        recall: measured when it was built: the share of the MEASURED_K nearest that it finds.
    """

    def __init__(self, lists: Any, rows: int, probes: int, recall: float) -> None:
        self.lists, self.rows, self.recall = lists, rows, recall
        lists.nprobe = probes

    @property
    def probes(self) -> int:
        """Lists read per query."""
        return int(self.lists.nprobe)

    def search(self, queries: Array, gallery: EmbeddingFile, k: int) -> Tuple[Array, Array]:
        """As find_neighbours, among the rows that the index holds."""
        wanted = min(self.rows, max(LEAST_SHORTLIST, SHORTLIST * k))
        number_of = np.full(self.rows, -1, np.int64)
        kept = gallery.kept[:np.searchsorted(gallery.kept, self.rows)]
        number_of[kept] = np.arange(len(kept))
        size = min(k, len(kept))
        numbers, best = np.empty((len(queries), size), np.int64), np.empty((len(queries), size), np.float32)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[start:start + QUERIES_AT_ONCE]
            for i, row in enumerate(self.lists.search(_unit(some), wanted)[1], start):
                found = np.sort(number_of[row[row >= 0]])
                found = found[found >= 0]
                if len(found) < size:
                    # Too few rows in the lists that were read, or too many of them removed since.
                    numbers[[i]], best[[i]] = _exact(queries[[i]], gallery, size, end=len(kept))
                else:
                    order, best[[i]] = nearest_neighbours(queries[[i]], gallery.take(found), size)
                    numbers[i] = found[order[0]]
        return numbers, best


def index_path(gallery: EmbeddingFile) -> str:
    """The path of a gallery's index."""
    return gallery.path + SUFFIX


def build_index(gallery: EmbeddingFile) -> Index:
    """Build the index of a .npy, write it beside the gallery, and print its recall against the exact search to standard error.

    Doubles the number of lists that a query reads until the recall is WANTED_RECALL, with rows of the gallery as queries.
    Memory: D / 8 + 16 bytes per row (D + 8 up to WIDE values), twice that while writing, the training sample
    (SAMPLE_PER_LIST rows per list) and a block of the file.

    Raises:
        InputError: faiss is not installed, an .npz, a gallery of fewer than LEAST_ROWS rows, or one that cannot be read.
    """
    faiss = _faiss()
    if not gallery.path.endswith('.npy'):
        raise InputError(f'{gallery.path}: an index needs a .npy, of which single rows can be read; write it as one')
    if gallery.count < LEAST_ROWS:
        raise InputError(f'--index=ivf: {gallery.path} holds {gallery.count} images, among which the exact search takes '
                         'no time; leave the flag out')
    began = time.perf_counter()
    lists = _train(faiss, gallery)
    for start, block in gallery.blocks():
        lists.add_with_ids(_unit(block), gallery.kept[start:start + len(block)])
    built = time.perf_counter() - began
    index = Index(lists, gallery.rows, 1, 0.0)
    milliseconds = _choose_probes(index, gallery)
    card = IndexCard(gallery.identity, gallery.rows, gallery.width, index.probes, index.recall)
    with replacing(index_path(gallery)) as part, open(part, 'wb') as file:
        file.write(json.dumps(asdict(card)).encode() + b'\n')
        file.write(faiss.serialize_index(lists).data)
    # Standard output holds the neighbours alone, as programs may read it.
    print(f'index {index_path(gallery)}: {gallery.count} rows in {lists.nlist} lists, built in {built:.0f} s; '
          f'recall@{MEASURED_K} {index.recall:.3f} against the exact search, {milliseconds:.1f} ms a query that reads '
          f'{index.probes} lists' + ('' if index.recall >= WANTED_RECALL else
                                      f'; less than {WANTED_RECALL}: rather search this gallery exactly'), file=sys.stderr)
    return index


def open_index(gallery: EmbeddingFile) -> Optional[Index]:
    """The index beside a gallery; None if there is none.

    Raises:
        InputError: faiss is not installed, the index is damaged, or it was built for other rows. Removing and appending
            images keeps an index valid.
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


def _faiss() -> Any:
    if importlib.util.find_spec('faiss') is None:
        raise InputError('--index=ivf needs faiss: pip install faiss-cpu, or leave the flag out for the exact search')
    import faiss  # optional: not in requirements.txt
    return faiss


def _train(faiss: Any, gallery: EmbeddingFile) -> Any:
    """An empty faiss index, trained on a sample of the gallery."""
    lists = 2 ** int(np.log2(max(1, gallery.count // ROWS_PER_LIST)))
    codes = WIDE_CODES if gallery.width > WIDE else NARROW_CODES
    index = faiss.index_factory(gallery.width, f'IVF{lists},{codes}', faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed = 10, SEED + 1
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, SAMPLE_PER_LIST
    size = min(gallery.count, SAMPLE_PER_LIST * max(lists, 256))
    rows = np.random.default_rng(SEED).choice(gallery.count, size, replace=False)
    index.train(_unit(gallery.take(np.sort(rows))))
    return index


def _choose_probes(index: Index, gallery: EmbeddingFile) -> float:
    """Set the probes and the recall of an index: the fewest probes, doubled from 1, that reach WANTED_RECALL.

    Returns milliseconds per query.
    """
    rng = np.random.default_rng(SEED + 1)
    asked = np.sort(rng.choice(gallery.count, min(MEASURED_QUERIES, gallery.count), replace=False))
    queries = gallery.take(asked)
    k = min(MEASURED_K, gallery.count - 1)
    # A row is its own nearest neighbour, which any index finds: it does not count.
    true = _without(asked, _exact(queries, gallery, k + 1)[0])
    while True:
        began = time.perf_counter()
        found = _without(asked, index.search(queries, gallery, k + 1)[0])
        milliseconds = (time.perf_counter() - began) / len(asked) * 1000
        index.recall = float(np.mean([len(np.intersect1d(*rows)) / k for rows in zip(found, true)]))
        if index.recall >= WANTED_RECALL or index.probes >= index.lists.nlist:
            return milliseconds
        index.lists.nprobe = min(2 * index.probes, index.lists.nlist)


def _without(asked: Array, numbers: Array) -> List[Array]:
    """Each row of numbers without the query's own number, or without its last number if its own is not in it."""
    return [row[row != one][:len(row) - 1] for one, row in zip(asked, numbers)]


def _unit(rows: Array) -> Array:
    """Rows (N, D) at unit length, float32; lengths in float64, and zero rows stay zero."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def check_model(gallery: EmbeddingFile, model: Optional[str]) -> None:
    """Raise InputError if a gallery says that it holds embeddings of another identity than `model`."""
    if gallery.model and model and gallery.model != model:
        raise InputError(f'{gallery.path}: was written with another network or other preprocessing than the queries '
                         f'({ways(gallery.model, model)}); write both with the same network and flags')


def unknown(similarities: Array, threshold: float) -> Array:
    """Whether no neighbour of a query reaches the threshold: similarities (N, k) -> bool (N,)."""
    return similarities.max(axis=1) < threshold
