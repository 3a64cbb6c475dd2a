"""The page of `--report`: figures, curves, queries with their neighbours, confusions and a map, in one HTML file.

Nothing is loaded from elsewhere: pictures are inside as JPEG, drawings as SVG. The look is in page.html.
"""
import json
import sys
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from src import __version__
from src.accuracy.gzsl import Curve
from src.accuracy.thresholds import OpenSet
from src.common.arrays import Array, unit_rows
from src.common.errors import InputError
from src.common.files import check_replaceable, replacing
from src.pictures import open_picture, plot_curves, seen_unseen_picture, threshold_picture

TEMPLATE = Path(__file__).with_name('page.html')
PIXELS = 208           # of a picture; it is shown at half of that, which is sharp on a telephone
NEIGHBOURS = 8         # of each query
QUERIES = 6            # best and worst ones
POINTS = 1000          # of a map
FEW = 12               # images; of fewer there is no map
PAIRS = 12             # rows of a table
NAMED = 40             # pictures with names
CELLS = 60             # classes of a confusion matrix
MAIN, GREY = '#2c6fbb', '#c3cad1'
COLOURS = ('#2c6fbb', '#d7191c', '#1a9641', '#e08214', '#7b3294', '#00a0a0', '#b8860b', '#d6609a')


@dataclass(frozen=True)
class Shown:
    """Rows of a search.

    embeddings: (N, D), or None of a gallery that is not in memory. paths: N picture files, or None. classes: (N,) str, or None
    if not known.
    """
    embeddings: Optional[Array]
    paths: Optional[Sequence[str]]
    classes: Optional[Array]


def check_page(path: Optional[str]) -> None:
    """Raise InputError if --report is given and is no .html, or a file that is no page of this project."""
    if path and not path.endswith(('.html', '.htm')):
        raise InputError(f'--report={path}: the name of a page ends in .html')
    if path:
        check_replaceable(path, [b'a page of --report'], '--report')


class Page:
    """A page under construction.

    Args:
        title: its heading. facts: {name: value}, shown below it. figures: {name: number}, shown large; shares as per cent.
    """

    def __init__(self, title: str, facts: Mapping[str, Any], figures: Mapping[str, float] = {}):  # noqa: B006 - never changed
        self.title = title
        rows = ''.join(f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in facts.items() if value is not None)
        cards = ''.join(f'<div><b>{_number(value)}</b><span>{_text(name)}</span></div>' for name, value in figures.items())
        self.parts = [f'<h1>{_text(title)}</h1><dl>{rows}</dl><div class="figures">{cards}</div>']

    def add(self, heading: str, note: str, content: str) -> None:
        """Add a section. note: plain text. content: HTML."""
        self.parts.append(f'<section><h2>{_text(heading)}</h2><p>{_text(note)}</p>{content}</section>')

    def write(self, path: str) -> None:
        """Write the page. Raises InputError if it cannot be written."""
        self.parts.append(f'<footer>deep metric learning and zero-shot learning on MindSpore, version {__version__}</footer>')
        whole = Template(TEMPLATE.read_text(encoding='utf-8')).substitute(
            title=_text(self.title), content='\n'.join(self.parts))
        with replacing(path) as part:
            part.write_text(whole, encoding='utf-8')
        # Standard output may be answers that a program reads.
        print(f'report: {path}', file=sys.stderr)

    def add_training(self, checkpoint: Union[str, Path]) -> None:
        """Add the curves of the training that left a checkpoint, where its result.json lies beside it."""
        path = Path(checkpoint)
        result = (path if path.is_dir() else path.parent) / 'result.json'
        if not result.is_file():
            return
        note, curves = 'From result.json beside the checkpoint.', ''
        try:
            history = json.loads(result.read_text())['history']
            curves = _drawn(lambda file: plot_curves(history, file))
        except (OSError, ValueError, KeyError, TypeError):
            note = 'No curves: the result.json beside the checkpoint cannot be read.'
        self.add('Training', note, curves)

    def add_search(self, query: Shown, gallery: Shown, indices: Array, similarities: Array,
                   answerable: Optional[Array] = None) -> None:
        """Add Recall@K, the queries that went best and worst, confusions and the map.

        Args:
            query, gallery: what was searched for, and in.
            indices, similarities: (Q, n), neighbours in the gallery, nearest first, and their cosines; -1 for none.
            answerable: (Q,) bool, which queries have a right answer; None: those whose class is in the gallery.
        """
        def rows(numbers: Array, right: Optional[Array]) -> str:
            return ''.join(_ranked(query, gallery, row, indices[row], similarities[row], None if right is None else right[row])
                           for row in numbers.tolist())
        if query.classes is None or gallery.classes is None:
            self.add('Queries and neighbours', 'Similarity is the cosine. Whether a neighbour is right is not known: the '
                     'images have no labels.', rows(np.arange(min(2 * QUERIES, len(indices))), None))
            self._add_map(query if gallery.embeddings is None else gallery)
            return
        own, near = query.classes, gallery.classes[indices]
        right = (near == own[:, None]) & (indices >= 0)
        # A query without an image of its class to find says nothing about the network.
        asked = (np.isin(own, gallery.classes) if answerable is None else answerable) & (indices[:, 0] >= 0)
        ks = sorted({1, 2, 5, right.shape[1]} & set(range(1, right.shape[1] + 1))) if asked.any() else []
        self.add('Recall@K', f'Share of {asked.sum()} queries that have an image of their class among the K nearest.',
                 _table(('K', '% of the queries'), [(k, round(100 * right[asked, :k].any(1).mean(), 1)) for k in ks], 1))
        bad = np.flatnonzero(asked & ~right[:, 0])
        worst = _of_different(bad[np.argsort(-similarities[bad, 0], kind='stable')], own)
        good = np.flatnonzero(asked & right[:, 0])
        best = _of_different(good[np.lexsort((-similarities[good, 0], -right[good].sum(1)))], own)
        for name, numbers, note in (
                ('worst', worst, 'The nearest image is of another class; the most similar mistakes first.'),
                ('best', best, 'Most right neighbours first.')):
            self.add(f'Queries that went {name}', note + ' One query per class; green is right, red is wrong. Below each '
                     'picture: similarity, class and file.' if len(numbers) else 'None.', rows(numbers, right))
        self.add_confusions(own[bad], near[bad, 0], own[asked])
        self._add_map(query if gallery.embeddings is None else gallery, [*own[bad], *own])

    def add_confusions(self, own: Array, taken: Array, asked: Array) -> None:
        """Add the pairs of classes most often confused.

        Args:
            own, taken: (N,) str, the classes of the wrong answers' images and what they were taken for.
            asked: (M,) str, the classes of all images that were answered.
        """
        count, size = Counter(zip(own.tolist(), taken.tolist())), Counter(asked.tolist())
        rows = [(f'{one}', f'{other}', number, f'{100 * number / size[one]:.0f} %')
                for (one, other), number in count.most_common(PAIRS)]
        self.add('Classes most often confused', f'{len(own)} of {len(asked)} images have a wrong first answer'
                 + (f', in {len(count)} pairs of classes.' if rows else '.'),
                 _table(('class', 'taken for', 'images', 'of the class'), rows, 2) if rows else '')

    def add_threshold(self, measured: OpenSet, similarity: float, rate: float) -> None:
        """Add a threshold, see src.pictures.threshold_picture."""
        at, found = measured.at(similarity)[:2]
        self.add('Threshold', f'Wanted: at most {100 * rate:g} % false matches. At similarity {similarity:.4f} there are '
                 f'{100 * at:.2f} %, and {100 * found:.1f} % of the images are found, on {len(measured.different)} images that '
                 'the threshold was not chosen on.', _drawn(lambda file: threshold_picture(measured, similarity, rate, file)))

    def add_seen_unseen(self, curve: Curve, gamma: float) -> None:
        """Add seen over unseen accuracy for all calibrations; gamma: the chosen one."""
        at = curve.at(gamma)
        self.add('Seen and unseen classes', f'Accuracy for every calibration gamma. At the chosen {gamma:.4f}: unseen '
                 f'{100 * at["u"]:.1f} %, seen {100 * at["s"]:.1f} %, harmonic mean {100 * at["H"]:.1f} %.',
                 _drawn(lambda file: seen_unseen_picture(curve, gamma, file)))

    def add_classification(self, answers: Sequence[Array], names: Mapping[int, str], features: Array, prototypes: Array
                           ) -> None:
        """Add confusions, hubs and a map of a nearest-prototype classification.

        Args:
            answers: class ids (M,) of the images, of the answers, and of the nearest prototypes without calibration.
            names: {class id: name} of the C prototypes, in their order.
            features: (M, P), prototypes: (C, P), where they are compared.
        """
        places = {number: place for place, number in enumerate(names)}
        labels, predicted, nearest = (np.array([places[number] for number in ids.tolist()]) for ids in answers)
        table = np.array(list(names.values()), object)
        wrong = labels != predicted
        self.add_confusions(table[labels[wrong]], table[predicted[wrong]], table[labels])
        matrix = np.zeros((len(names), len(names)))
        np.add.at(matrix, (labels, predicted), 1)
        matrix = matrix[matrix.sum(1) > 0]
        if len(names) <= CELLS:
            self.add('Confusion matrix', 'One row per class, one column per answer; a darker cell is a larger share of the '
                     'class. Point at a cell to see its names.',
                     _matrix(matrix / matrix.sum(1, keepdims=True), table[np.unique(labels)], table))
        taken, own = np.bincount(nearest, minlength=len(names)), np.bincount(labels, minlength=len(names))
        order = np.argsort(-taken, kind='stable')[:PAIRS]
        self.add('Hubs', 'Classes that are nearest to the most images, without calibration. A class that is nearest to far '
                 'more images than it has is a hub.', _table(('class', 'nearest to', 'has images'), [
                     (table[i], int(taken[i]), int(own[i])) for i in order], 1))
        self._add_map(Shown(features, None, table[labels]), prototypes=Shown(prototypes, None, table))

    def add_named(self, images: Shown, named: Sequence[Sequence[Tuple[str, float, bool]]]) -> None:
        """Add pictures with their best classes (name, score, whether unseen), wrong answers first, and confusions."""
        assert images.paths is not None
        first = np.array([best[0][0] for best in named], object)
        right = None if images.classes is None else first == images.classes
        tiles = []
        for row in (np.arange(len(first)) if right is None else np.argsort(right, kind='stable')).tolist()[:NAMED]:
            kind, mark = ('', '') if right is None else _verdict(right[row])
            lines = [f'{_text(name)}{" (unseen)" * unseen} {score:.3f}' for name, score, unseen in named[row][:3]]
            tiles.append(_tile(images.paths[row], kind, f'{mark}{_text(first[row])}', lines))
        if images.classes is not None and right is not None:
            self.add('Right', f'{right.sum()} of {len(right)} pictures have the name of their folder.', '')
            self.add_confusions(images.classes[~right], first[~right], images.classes)
        self.add('Pictures and their names', 'Below each the best class, the first three with their calibrated scores, and the '
                 'file' + ('.' if right is None else '; wrong ones first.'), f'<div class="row wrap">{"".join(tiles)}</div>')
        self._add_map(images)

    def _add_map(self, images: Shown, first: Sequence[str] = (), prototypes: Optional[Shown] = None) -> None:
        """Add the two principal axes of unit vectors; first: classes to colour, those that come most often before others."""
        embeddings, classes = images.embeddings, images.classes
        assert embeddings is not None
        rows = np.unique(np.linspace(0, len(embeddings) - 1, min(POINTS, len(embeddings))).round().astype(int))
        x = unit_rows(np.asarray(embeddings[rows], np.float64))
        if len(x) < FEW or x.shape[1] < 2:
            return
        mean = x.mean(0)
        _, spread, axes = np.linalg.svd(x - mean, full_matrices=False)
        shown = [] if classes is None else [name for name, _ in Counter(
            first if len(first) else classes.tolist()).most_common(len(COLOURS))]
        colours = dict(zip(shown, COLOURS))
        names = ['image'] * len(x) if classes is None else classes[rows].tolist()
        marks = [(*at, name, colours.get(name, MAIN if classes is None else GREY), False)
                 for at, name in zip(((x - mean) @ axes[:2].T).tolist(), names)]
        if prototypes is not None:
            assert prototypes.embeddings is not None and prototypes.classes is not None
            at = ((unit_rows(prototypes.embeddings) - mean) @ axes[:2].T).tolist()
            marks += [(*two, f'prototype of {name}', colours[name], True) for two, name in zip(at, prototypes.classes)
                      if name in colours]
        other = [('other classes', GREY)] if any(mark[3] == GREY for mark in marks) else []
        share = 100 * (spread[:2] ** 2).sum() / max((spread ** 2).sum(), 1e-30)
        self.add('Map of the embeddings', f'{len(x)} of {len(embeddings)} images on the first two principal axes, which hold '
                 f'{share:.0f} % of the variance: points far apart here are far apart; points close together here need not be.'
                 + ' Squares are prototypes.' * (prototypes is not None),
                 _scatter(marks) + _legend([*colours.items(), *other]))


def evaluation_page(title: str, recipe: Mapping[str, Any], checkpoint: str, figures: Mapping[str, float],
                    counts: Mapping[str, Any]) -> Page:
    """The head of an evaluation's page: facts and figures. counts: further facts, e.g. numbers of images."""
    data = recipe.get('dataset_path') or recipe.get('data_path')
    page = Page(title, {'checkpoint': checkpoint, 'dataset': recipe['dataset'], 'data': data, 'recipe': recipe['recipe'],
                        'loss': recipe['loss_name'], **counts}, figures)
    page.add_training(checkpoint)
    return page


def cosines(queries: Array, gallery: Array, indices: Array) -> Array:
    """Cosines (Q, n) of queries (Q, D) and the rows `indices` (Q, n) of a gallery (M, D)."""
    unit = unit_rows(gallery)
    return np.stack([unit[near] @ query for query, near in zip(unit_rows(queries), indices)])


def _drawn(draw: Callable[[Path], None]) -> str:
    """A drawing of a function of src.pictures as part of the page."""
    with TemporaryDirectory() as folder:
        path = Path(folder, 'drawn.svg')
        draw(path)
        return f'<figure><img alt="" src="data:image/svg+xml;base64,{b64encode(path.read_bytes()).decode()}"></figure>'


def _scatter(marks: List[Tuple[float, float, str, str, bool]]) -> str:
    """Marks (x, y, name, colour, whether square) at one scale; coloured ones lie above grey ones."""
    marks = sorted(marks, key=lambda mark: (mark[4], mark[3] != GREY))
    points = np.array([mark[:2] for mark in marks])
    low, high = points.min(0), points.max(0)
    points = (points - low) * (480 / max((high - low).max(), 1e-12)) + 10
    height = points[:, 1].max() + 10
    drawn = [(f'<rect x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12" stroke="#fff" ' if square
              else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill-opacity=".75" ')
             + f'fill="{colour}"><title>{_text(name)}</title></{"rect" if square else "circle"}>'
             for (x, y), (_, _, name, colour, square) in zip(points.tolist(), marks)]
    return (f'<figure><svg viewBox="0 0 500 {height:.0f}" role="img" aria-label="map" style="max-width:680px">'
            f'{"".join(drawn)}</svg></figure>')


def _matrix(shares: Array, rows: Array, columns: Array) -> str:
    side = 12
    cells = ''.join(
        f'<rect x="{side * c}" y="{side * r}" width="{side - 1}" height="{side - 1}" fill="{MAIN}" fill-opacity='
        f'"{0.15 + 0.85 * shares[r, c]:.2f}"><title>{_text(rows[r])}: {100 * shares[r, c]:.0f} % taken for '
        f'{_text(columns[c])}</title></rect>' for r, c in zip(*(at.tolist() for at in np.nonzero(shares))))
    size = f'{side * len(columns)} {side * len(rows)}'
    return (f'<figure><svg viewBox="0 0 {size}" role="img" aria-label="confusion matrix" '
            f'style="max-width:{min(680, 2 * side * len(columns))}px;background:#f3f5f7">{cells}</svg></figure>')


def _ranked(query: Shown, gallery: Shown, row: int, indices: Array, similarities: Array, right: Optional[Array]) -> str:
    """A query and its neighbours as tiles."""
    def tile(shown: Shown, at: int, kind: str, said: str) -> str:
        assert shown.paths is not None
        return _tile(shown.paths[at], kind, said, [] if shown.classes is None else [_text(shown.classes[at])])
    tiles = [tile(query, row, 'query', 'query')]
    for place, (at, similarity) in enumerate(zip(indices.tolist()[:NEIGHBOURS], similarities.tolist())):
        if at >= 0:
            kind, mark = ('', '') if right is None else _verdict(right[place])
            tiles.append(tile(gallery, at, kind, f'{mark}{similarity:.3f}'))
    return f'<div class="row">{"".join(tiles)}</div>'


def _tile(path: str, kind: str, said: str, lines: List[str]) -> str:
    """A picture, and below it a word in bold, lines of HTML, and its file with the folder, which is often the class."""
    lines = [*lines, _text('/'.join(Path(path).parts[-2:]))]
    return f'<div class="tile {kind}">{_picture(path)}<b>{said}</b>{"<br>".join(lines)}</div>'


def _verdict(right: bool) -> Tuple[str, str]:
    return ('right', '✓ ') if right else ('wrong', '✗ ')


def _picture(path: str) -> str:
    try:
        picture = open_picture(path)
    except InputError:
        # A gallery outlives its pictures: the page shows which are gone.
        return '<div class="none">no picture</div>'
    picture.thumbnail((PIXELS, PIXELS))
    buffer = BytesIO()
    picture.save(buffer, 'JPEG', quality=82)
    return f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}">'


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], bar: int) -> str:
    """Rows as a table, with a bar for the numbers of column `bar`; columns from there on are numbers."""
    top = max((row[bar] for row in rows), default=0) or 1
    kinds = ['' if i < bar else ' class="n"' for i in range(len(head))]
    out = ''.join(f'<th{kind}>{_text(name)}</th>' for kind, name in zip(kinds, head)) + '<th></th>'
    for row in rows:
        out += ('</tr><tr>' + ''.join(f'<td{kind}>{_text(value)}</td>' for kind, value in zip(kinds, row))
                + f'<td class="bar"><i style="width:{100 * row[bar] / top:.0f}%"></i></td>')
    return f'<div class="wide"><table><tr>{out}</tr></table></div>'


def _legend(entries: Sequence[Tuple[str, str]]) -> str:
    return '<div class="legend">' + ''.join(f'<span><i style="background:{colour}"></i>{_text(name)}</span>'
                                            for name, colour in entries) + '</div>'


def _of_different(rows: Array, classes: Array) -> Array:
    """The first QUERIES of rows, one a class."""
    return rows[np.sort(np.unique(classes[rows], return_index=True)[1])][:QUERIES]


def _number(value: float) -> str:
    return f'{100 * value:.1f} %' if 0 <= value <= 1 else f'{value:.4g}'


def _text(value: Any) -> str:
    # A file name may hold bytes that are no text.
    return escape(str(value)).encode('utf-8', 'replace').decode()
