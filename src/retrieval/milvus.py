"""Galleries in Milvus: embedded (NAME.db, by milvus-lite) or on a server or cluster (http://HOST:PORT).

One collection is one gallery. Fields: path (primary key, so that adding an image again replaces it), label, class_name,
camera, embedding. Where classes have names, a label is the number within the folder that the image was added from. The
properties of the collection keep its Card.
"""
import json
import logging
import os
import re
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from src.common.arrays import Array, slices
from src.common.errors import InputError
from src.common.records import parse_json, read_record
from src.common.values import SERVERS
from src.datasets.image_list import ImageList
from src.recipes.types import settings
from src.retrieval.gallery import Card, ClassId, Gallery, Neighbours, Part, ways

COLLECTION = 'gallery'
PROPERTY = 'embedding_card'
ADVICE = 'write the gallery again with infer.py'
PATH, VECTOR, FACTS = 'path', 'embedding', ['label', 'class_name', 'camera']
LONGEST = 4096             # bytes of a path or of a class's name
NO_NUMBER = -1             # in a column that the images do not have; the card says which
BATCH_BYTES = 4 * 2 ** 20  # of embeddings in one request: servers refuse more than 64 MB, and Python lists are 8 times as large
PATHS_AT_ONCE, QUERIES_AT_ONCE = 8192, 100
SECONDS, RETRIES = 30, 8   # to connect, and where the server does not answer (a minute); what it works on takes its time
# pymilvus asks an idle server every ten seconds whether it lives. The one of milvus-lite, in the same process, ends the
# connection at the third, and gRPC prints two lines.
NEVER_PING = {'grpc.keepalive_time_ms': 2 ** 31 - 1}
# Default parameters of each index; the last one belongs to the search. 0: chosen by the number of images.
INDEXES: Dict[str, Dict[str, int]] = {'FLAT': {}, 'IVF_FLAT': {'nlist': 0, 'nprobe': 0},
                                      'HNSW': {'M': 16, 'efConstruction': 200, 'ef': 64}}
MEASURED_QUERIES, MEASURED_K = 200, 10


class MilvusGallery(Gallery):
    """A collection of Milvus.

    Args:
        where: NAME.db or http://HOST:PORT, and #COLLECTION if it is not `gallery`.
        new: whether the collection may be absent, for `add`.

    Raises (from every method):
        InputError: the package is missing, no such gallery, it is locked by another process, the server does not answer, or
            it refuses the request.
    """

    def __init__(self, where: str, new: bool = False):
        self.path = where
        self._where, _, name = where.partition('#')
        self._name = name or COLLECTION
        if not re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', self._name):
            raise InputError(f'{where}: the name of a collection has letters, digits and _ only, and begins with no digit')
        self._card: Optional[Card] = None    # while there is no collection
        self._client = _connect(self._where, new)
        if self._call('has_collection'):
            self._open()
        elif not new:
            raise InputError(f'{where}: no such gallery; write it with infer.py --output={where}')

    def _open(self) -> None:
        described = self._call('describe_collection')
        card = dict(described.get('properties') or {}).get(PROPERTY)
        vectors = [one for one in described['fields'] if one['name'] == VECTOR]
        if card is None or not vectors:
            raise InputError(f'{self.path}: is a collection of another program; give another name, as {self._where}#NAME')
        self._card = read_record(Card, parse_json(card, self.path, ADVICE), self.path, ADVICE)
        self.width = int(vectors[0]['params']['dim'])
        # A process killed right after it had made the collection leaves it without an index.
        if not self._call('list_indexes'):
            self._make_index('FLAT', {})
        self._call('load_collection')

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the client on the collection; its errors become InputErrors."""
        with self._refusals():
            return getattr(self._client, method)(self._name, *args, retry_times=RETRIES, **options)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        import grpc
        from pymilvus.exceptions import MilvusException
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            text = ' '.join((getattr(error, 'message', '') or str(error)).split())
            gone = re.search('UNAVAILABLE|DEADLINE|failed to connect', f'{text} {getattr(error, "code", "")}', re.IGNORECASE)
            raise InputError(f'{self.path}: ' + (
                'the server does not answer; start it and run the command again' if gone else
                f'Milvus refuses: {text[:300]}')) from error

    @property
    def card(self) -> Card:
        assert self._card is not None
        return self._card

    # Adding and removing

    def add(self, parts: Iterable[Part], card: Card) -> int:
        """Add images, or replace those of the same paths; the collection is made if there is none.

        Whoever is killed on the way adds all of them again. Memory: one batch.

        Args:
            parts: the images.
            card: what they are; labels, names and cameras must be known if the gallery has them.

        Returns:
            The width D.

        Raises:
            InputError: another network, width or kind of labels than the gallery's, NaN or Inf.
        """
        self._check_card(card)
        for images, classes, batch in parts:
            if self._card is None:
                self._create(replace(card, index={}, recall=None), batch.shape[1])
                self._check_card(card)     # another process may have been faster
            if batch.shape[1] != self.width:
                raise InputError(f'{self.path}: holds embeddings of {self.width} values, the new ones have {batch.shape[1]}; '
                                 'use the network that it was written with')
            # A server leaves embeddings of zeros out of its answers.
            bad = ~np.isfinite(batch).all(1) | ~batch.any(1)
            if bad.any():
                raise InputError(f'{self.path}: {images.paths[int(np.argmax(bad))]}: its embedding is zero or holds NaN or '
                                 'Inf; check the network that wrote it')
            for rows in slices(len(batch), self._batch_rows):
                some = Part(images.select(rows), classes[rows] if card.named and classes is not None else None, batch[rows])
                self._call('upsert', _entities(some, self.path))
        self._call('flush')
        return self.width

    def _check_card(self, new: Card) -> None:
        old = self._card
        if old is None:
            return
        if old.model and new.model and old.model != new.model:
            raise InputError(f'{self.path}: was written with another network than these embeddings, or with images given to it '
                             f'in another way ({ways(old.model, new.model)}); use the network and flags it was written with')
        for name, what in (('labels', 'labels'), ('cameras', 'cameras'), ('named', 'names of classes')):
            if getattr(old, name) != getattr(new, name):
                raise InputError(f'{self.path}: has {what if getattr(old, name) else f"no {what}"}, the new images '
                                 f'{"do" if getattr(new, name) else "have none"}; give images like those of the gallery')

    def _create(self, card: Card, width: int) -> None:
        from pymilvus import DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(PATH, DataType.VARCHAR, is_primary=True, max_length=LONGEST)
        schema.add_field('label', DataType.INT64)
        schema.add_field('class_name', DataType.VARCHAR, max_length=LONGEST)
        schema.add_field('camera', DataType.INT64)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=width)
        try:
            # Strong: whatever was added before is seen, by whichever process.
            self._call('create_collection', schema=schema, consistency_level='Strong',
                       properties={PROPERTY: json.dumps(asdict(card))})
        except InputError:
            if not self._call('has_collection'):
                raise
        self._open()

    def remove(self, paths: Sequence[str]) -> int:
        """Remove images by their paths; returns how many are left.

        Raises:
            InputError: an image that the gallery does not have; none is removed then.
        """
        wanted = list(dict.fromkeys(paths))
        batches = [wanted[rows] for rows in slices(len(wanted), PATHS_AT_ONCE)]
        found = {row[PATH] for batch in batches for row in self._rows(_among(batch), [PATH])}
        absent = [path for path in wanted if path not in found]
        if absent:
            raise InputError(f'{self.path}: has no image {absent[0]} ({len(absent)} of {len(wanted)} are not in it); give '
                             'paths as infer.py prints them')
        for batch in batches:
            self._call('delete', filter=_among(batch))
        return self.size()

    def keep_threshold(self, threshold: Dict[str, Any]) -> None:
        """Keep the values of a KeptThreshold with the gallery, for all who search in it."""
        self._change_card(threshold=threshold)

    def _change_card(self, **changes: Any) -> None:
        self._card = replace(self.card, **changes)
        self._call('alter_collection_properties', properties={PROPERTY: json.dumps(asdict(self.card))})

    # Reading

    @property
    def _batch_rows(self) -> int:
        return max(1, min(PATHS_AT_ONCE, BATCH_BYTES // (4 * self.width)))

    def _rows(self, where: str, fields: List[str], **options: int) -> List[Dict[str, Any]]:
        return list(self._call('query', filter=where, output_fields=fields, **options))

    def _all_rows(self, fields: List[str], size: int, where: Optional[str] = None) -> Iterator[List[Dict[str, Any]]]:
        """All rows in blocks of `size`, by path."""
        iterator = self._call('query_iterator', batch_size=size, filter=where or '', output_fields=[PATH, *fields])
        try:
            while True:
                with self._refusals():
                    rows = iterator.next()
                if not rows:
                    return
                yield rows
        finally:
            iterator.close()

    def size(self, where: Optional[str] = None) -> int:
        return int(self._rows(where or '', ['count(*)'])[0]['count(*)'])

    def search(self, queries: Array, k: int, where: Optional[str] = None) -> Neighbours:
        return self._search(queries, k, where, self.card.index)

    def _search(self, queries: Array, k: int, where: Optional[str], params: Mapping[str, int]) -> Neighbours:
        if 'ef' in params:
            params = {'ef': max(k, params['ef'])}
        rows, similarities = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
        number: Dict[str, int] = {}
        found: List[Dict[str, Any]] = []
        for some in slices(len(queries), QUERIES_AT_ONCE):
            answers = self._call('search', data=list(queries[some].astype(np.float32)), anns_field=VECTOR, limit=k,
                                 filter=where or '', output_fields=[PATH, *FACTS],
                                 search_params={'metric_type': 'COSINE', 'params': dict(params)})
            for query, hits in enumerate(answers, some.start):
                for place, hit in enumerate(hits):
                    entity = dict(hit['entity'], path=hit.id)
                    rows[query, place] = number.setdefault(hit.id, len(found))
                    if rows[query, place] == len(found):
                        found.append(entity)
                    similarities[query, place] = hit['distance']
        return Neighbours(rows, similarities, *self._images(found))

    def _images(self, rows: Sequence[Mapping[str, Any]]) -> Tuple[ImageList, Optional[Array]]:
        """Images and their classes from rows with FACTS."""
        labels, cameras = (np.array([row[name] for row in rows], np.int64) for name in ('label', 'camera'))
        card = self.card
        classes = np.array([row['class_name'] for row in rows], object) if card.named else labels
        images = ImageList([row[PATH] for row in rows], labels if card.labels else None, cameras if card.cameras else None)
        return images, classes if card.labels else None

    def vectors(self, images: ImageList, rows: Array) -> Array:
        paths, vectors = images.select(rows).paths, np.empty((len(rows), self.width), np.float32)
        number = {path: row for row, path in enumerate(paths)}
        for some in slices(len(paths), self._batch_rows):
            for row in self._rows(_among(paths[some]), [PATH, VECTOR]):
                vectors[number[row[PATH]]] = row[VECTOR]
        return vectors

    def parts(self, where: Optional[str] = None) -> Iterator[Part]:
        for rows in self._all_rows([*FACTS, VECTOR], self._batch_rows, where):
            yield Part(*self._images(rows), np.array([row[VECTOR] for row in rows], np.float32))

    def class_sizes(self) -> Dict[ClassId, int]:
        sizes: Counter[ClassId] = Counter()
        for rows in self._all_rows(FACTS, PATHS_AT_ONCE) if self.card.labels else ():
            sizes.update(row['class_name' if self.card.named else 'label'] for row in rows)
        return dict(sorted(sizes.items()))

    # The index

    def _make_index(self, kind: str, params: Mapping[str, int]) -> None:
        wanted = self._client.prepare_index_params()
        wanted.add_index(VECTOR, index_type=kind, index_name=VECTOR, metric_type='COSINE', params=dict(params))
        self._call('create_index', wanted)

    def index_kind(self) -> str:
        """Index type: FLAT, IVF_FLAT, HNSW, or another one of Milvus."""
        return str(self._call('describe_index', VECTOR)['index_type'])

    def build_index(self, kind: str, given: Mapping[str, int]) -> str:
        """Replace the index, measure its recall on rows of the gallery against FLAT, and keep the parameter of the search.

        Meanwhile nobody can search in the gallery.

        Args:
            kind, given: the index and its parameters, from read_index; defaults: see INDEXES, nlist the power of 2 nearest to
                4 sqrt(rows), nprobe a sixteenth of it.

        Returns:
            A line that tells the recall.
        """
        size = self.size()
        lists = 2 ** round(np.log2(max(1, 4 * size ** 0.5)))
        params = {**INDEXES[kind], 'nlist': lists, 'nprobe': max(8, lists // 16), **given}
        params = {name: params[name] for name in INDEXES[kind]}
        if 'nprobe' in params:
            params['nprobe'] = min(params['nprobe'], params['nlist'])
        search = dict(list(params.items())[-1:])
        began, k = time.perf_counter(), min(MEASURED_K + 1, size)
        self._call('flush')
        queries = np.array([row[VECTOR] for row in self._rows('', [VECTOR], limit=MEASURED_QUERIES)], np.float32)
        self._replace_index('FLAT', {})
        exact = self._search(queries, k, None, {})
        self._replace_index(kind, {name: value for name, value in params.items() if name not in search})
        built, began = time.perf_counter() - began, time.perf_counter()
        found = self._search(queries, k, None, search)
        milliseconds = (time.perf_counter() - began) / len(queries) * 1000
        # Without the first neighbour of each query, which is the query.
        true, mine = (np.array(one.images.paths, object)[one.rows] for one in (exact, found))
        recall = float(np.mean([np.isin(wanted[1:], got[number >= 0]).mean() if k > 1 else 1
                                for wanted, got, number in zip(true, mine, found.rows)]))
        self._change_card(index=search, recall=recall)
        told = ''.join(f', {name} {value}' for name, value in params.items())
        return (f'index of {self.path}: {kind}{told}; {size} rows, built in {built:.0f} s; recall@{k - 1} {recall:.3f} against '
                f'the exact search, {milliseconds:.1f} ms a query')

    def _replace_index(self, kind: str, params: Mapping[str, int]) -> None:
        if self.index_kind() == kind == 'FLAT':
            return
        self._call('release_collection')
        self._call('drop_index', VECTOR)
        self._make_index(kind, params)
        self._call('load_collection')


def read_index(text: str) -> Tuple[str, Dict[str, Any]]:
    """Kind and parameters of an index, as in `HNSW,M=16,ef=64`. Raises InputError: no such kind, or a bad parameter."""
    kind, comma, rest = text.partition(',')
    try:
        given = settings().parse(rest) if comma else {}
        if kind not in INDEXES or not all(type(value) is int and value > 0 for value in given.values()):
            raise ValueError
    except ValueError as error:
        raise InputError(f'--index={text}: expected {", ".join(INDEXES)}, or one with whole numbers as in '
                         'HNSW,M=16,ef=64') from error
    unknown = set(given) - set(INDEXES[kind])
    if unknown:
        raise InputError(f'--index={text}: has no parameter {min(unknown)}, only {", ".join(INDEXES[kind]) or "none"}')
    return kind, given


def _entities(part: Part, where: str) -> List[Dict[str, Any]]:
    """Rows for the client. The part has classes where they have names."""
    images, count = part.images, len(part.images)
    labels, cameras = ([NO_NUMBER] * count if column is None else column.tolist() for column in (images.labels, images.cameras))
    called = [''] * count if part.classes is None else part.classes.tolist()
    for text in (*images.paths, *called):
        encoded = text.encode('utf-8', 'replace')
        if len(encoded) > LONGEST or encoded.decode() != text:
            raise InputError(f'{where}: {text[:60]!r}...: longer than {LONGEST} bytes, or no UTF-8; give it another name')
    return [{PATH: path, 'label': label, 'class_name': name, 'camera': camera, VECTOR: row}
            for path, label, name, camera, row in zip(images.paths, labels, called, cameras,
                                                      np.ascontiguousarray(part.embeddings, np.float32))]


def _among(paths: Sequence[str]) -> str:
    """The filter that selects images by their paths."""
    return f'{PATH} in [{", ".join(json.dumps(path, ensure_ascii=False) for path in paths)}]'


def _connect(where: str, new: bool) -> Any:
    """A client of pymilvus."""
    server = where.startswith(SERVERS)
    if not server:
        if not new and not os.path.isdir(where):
            raise InputError(f'{where}: no such gallery; write it with infer.py --output={where}')
        if os.path.exists(where) and not os.path.isdir(where):
            raise InputError(f'{where}: is no gallery of milvus-lite 3, which is a folder; give another name')
    try:
        # First: it needs the Python implementation of protobuf, which the first import of protobuf chooses.
        import mindspore  # noqa: F401
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException
        for package in ('pymilvus', 'milvus_lite', 'grpc'):    # they log tracebacks of what is raised too
            logging.getLogger(package).setLevel(logging.CRITICAL + 1)
        if not server:
            import milvus_lite  # noqa: F401  # its own dependencies may be missing
        try:
            return MilvusClient(where, timeout=SECONDS, grpc_options={} if server else NEVER_PING)
        except MilvusException as error:
            raise InputError(f'{where}: ' + (
                'no Milvus server answers; start one, or check host and port' if server else
                'cannot be opened: another process has it open (a server, http://HOST:PORT, serves several), or it is damaged'
            )) from error
    except ImportError as error:
        raise InputError(f'{where}: needs pymilvus ({error}): pip install -r requirements-gallery.txt') from error
