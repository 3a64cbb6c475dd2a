"""Pictures of trainings, comparisons, thresholds and retrieval results.

Each function writes the file `path`, whose suffix chooses the format (PICTURES), and raises InputError if it cannot.
"""
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from src.accuracy.gzsl import Curve
from src.accuracy.thresholds import OpenSet
from src.common.arrays import Array
from src.common.errors import InputError
from src.common.files import check_replaceable, replacing
from src.datasets.decoding import as_shown

FilePath = Union[str, Path]
PICTURES = ('.png', '.pdf', '.svg')
RIGHT, WRONG, QUERY = '#1a9641', '#d7191c', '#333333'


def check_picture(path: Optional[str]) -> None:
    """Raise InputError if --picture is given and names a format that cannot be written, or a picture not drawn here."""
    if path and not path.endswith(PICTURES):
        raise InputError(f'--picture={path}: the name of a picture ends in {", ".join(PICTURES)}')
    if path:
        check_replaceable(path, [b'atplotlib'], '--picture')


def plot_curves(history: Sequence[Mapping[str, Any]], path: FilePath) -> None:
    """Draw the loss and, if the history has them, the validation accuracy and the learning rate.

    Args:
        history: mappings with `epoch` (from 1), `step` and `loss`, optionally `lr` and `accuracy` (0..1); a value may be
            missing or None. If `step` grows through the whole run, the axis is the step; if it restarts in each epoch, the
            axis is the epoch.

    Raises:
        ValueError: the history is empty.
    """
    if not history:
        raise ValueError('plot_curves: the history is empty')
    epochs, steps = (np.array([row[key] for row in history], float) for key in ('epoch', 'step'))
    if (np.diff(steps) > 0).all():
        x, unit = steps, 'step'
    else:
        x, unit = epochs - 1 + steps / steps.max(), 'epoch'
    series = {key: np.array([row.get(key) for row in history], float) for key in ('loss', 'accuracy', 'lr')}
    panels = [key for key, values in series.items() if key == 'loss' or np.isfinite(values).any()]

    figure = Figure(figsize=(6, 2.2 + 1.7 * len(panels)), dpi=110, layout='constrained')
    heights = [{'loss': 2, 'accuracy': 1.3, 'lr': 0.8}[key] for key in panels]
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={'height_ratios': heights})[:, 0]
    for axis, key in zip(axes, panels):
        known = np.isfinite(series[key])
        at, values = x[known], series[key][known]
        _clean(axis)
        if key == 'loss':
            _draw_loss(axis, at, values)
        elif key == 'accuracy':
            axis.plot(at, values, color=RIGHT, marker='o', markersize=4)
            best = int(values.argmax())
            axis.set_title(f'validation accuracy: best {values[best]:.4g} at {unit} {at[best]:g}', loc='left', fontsize=10)
        else:
            axis.step(at, values, where='post', color=QUERY)
            axis.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3))
        axis.set_ylabel('learning rate' if key == 'lr' else key)
    axes[-1].set_xlabel(unit)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, path)


def neighbours_picture(query_paths: Sequence[FilePath], neighbour_paths: Sequence[Sequence[FilePath]],
                       right: Optional[Sequence[Sequence[bool]]], path: FilePath,
                       scores: Optional[Sequence[Sequence[float]]] = None) -> None:
    """Draw each query and, to its right, its ranked neighbours, framed green (right) or red (wrong).

    Args:
        query_paths: Q picture files.
        neighbour_paths: Q lists of picture files, nearest first; their lengths may differ.
        right: Q lists of bool of the same lengths; None if the truth is unknown (grey frames).
        scores: Q lists of numbers of the same lengths, written below the neighbours.

    Raises:
        ValueError: no query, or lists of different lengths.
        InputError: a picture file is missing or is not a picture.
    """
    rows = len(query_paths)
    lengths = [len(row) for row in neighbour_paths]
    if not rows or any(len(lists) != rows or [len(row) for row in lists] != lengths
                       for lists in (neighbour_paths, right, scores) if lists is not None):
        raise ValueError('neighbours_picture: needs one list of neighbours, right and scores for each query, '
                         'with as many entries as that query has neighbours')
    pictures = [[open_picture(file) for file in [query, *near]] for query, near in zip(query_paths, neighbour_paths)]
    tall = float(np.clip(np.median([picture.height / picture.width for row in pictures for picture in row]), 0.5, 2))
    captions = right is not None or scores is not None
    column, line, top, gap = 1.14, tall + (0.32 if captions else 0.14), 0.34, 0.22
    columns = 1 + max(lengths)
    width, height = columns * column + gap, top + rows * line
    figure, axes = _canvas(width, height, 1.05, -0.07)
    for number in range(columns):
        axes.text(number * column + gap * (number > 0) + 0.5, top / 2, 'query' if number == 0 else str(number),
                  ha='center', va='center', fontsize=11, weight='bold', color=QUERY)
    axes.plot([column + gap / 2 - 0.07] * 2, [top, height - 0.1], color='#bbbbbb', linewidth=1)
    for row, line_pictures in enumerate(pictures):
        for number, picture in enumerate(line_pictures):
            x, y = number * column + gap * (number > 0), top + row * line
            shrink = min(1, tall * picture.width / picture.height)
            w, h = shrink, shrink * picture.height / picture.width
            x, y = x + (1 - w) / 2, y + (tall - h) / 2
            colour, thick, caption = QUERY, 1.5, ''
            if number:
                if right is not None:
                    good = bool(right[row][number - 1])
                    colour, thick, caption = RIGHT if good else WRONG, 4, '\u2713' if good else '\u2717'
                if scores is not None:
                    caption = f'{caption} {scores[row][number - 1]:.3f}'.strip()
            _show(axes, picture, (x, y, w, h), colour, thick)
            axes.text(x + w / 2, y + h + 0.05, caption, ha='center', va='top', fontsize=9, color=colour)
    _save(figure, path)


def seen_unseen_picture(curve: Curve, gamma: float, path: FilePath) -> None:
    """Draw seen over unseen accuracy for all calibrations, and the point of the chosen one, gamma."""
    figure = Figure(figsize=(6, 4.6), dpi=110, layout='constrained')
    axis = figure.add_subplot()
    axis.plot(100 * curve.unseen, 100 * curve.seen, color=QUERY)
    u, s, harmonic = (100 * share for share in curve.at(gamma).values())
    axis.plot([u], [s], 'o', color=WRONG, label=f'chosen on val classes: u {u:.1f}, s {s:.1f}, H {harmonic:.1f}')
    axis.set(xlabel='accuracy of unseen classes, %', ylabel='accuracy of seen classes, %', xlim=(0, None), ylim=(0, None))
    axis.legend(loc='lower left')
    _save(figure, path)


def threshold_picture(measured: OpenSet, similarity: float, false_match_rate: float, path: FilePath) -> None:
    """Draw a threshold in the distributions of similarities to the nearest images of the same and of another class, and its
    point on the curve of found images over false matches.

    Args:
        measured: images that the threshold was not chosen on.
        similarity: the threshold.
        false_match_rate: the requested rate, 0..1.
    """
    figure = Figure(figsize=(6, 8), dpi=110, layout='constrained')
    shares, curve = figure.subplots(2, 1)
    same, different = measured.same[np.isfinite(measured.same)], measured.different
    edges = np.histogram_bin_edges(np.concatenate([same, different, [similarity]]), 60)
    for values, colour, label in ((same, RIGHT, 'nearest of the same class'), (different, WRONG, 'nearest of another class')):
        shares.hist(values, edges, weights=np.full(len(values), 100 / max(1, len(values))), color=colour, alpha=0.55,
                    label=label)
    shares.axvline(similarity, color=QUERY, linewidth=1.5, label=f'threshold {similarity:.3f}')
    shares.set(xlabel='cosine similarity', ylabel='% of the images')
    rates, found = measured.curve()[1:]
    rate, now = measured.at(similarity)[:2]
    curve.plot(100 * rates, 100 * found, color=QUERY)
    curve.axvline(100 * false_match_rate, color='#999999', linestyle='--', linewidth=1,
                  label=f'wanted: at most {100 * false_match_rate:g} % false matches')
    # A logarithmic axis has no 0: no false match is drawn as half of one.
    curve.plot([100 * max(rate, 0.5 / len(different))], [100 * now], 'o', color=WRONG,
               label=f'threshold: {100 * rate:.2f} % false matches, {100 * now:.1f} % found')
    curve.set(xlabel='false matches, %', ylabel='found, %', xscale='log', ylim=(0, 102))
    for axis in (shares, curve):
        _clean(axis)
        axis.set_axisbelow(True)
        axis.legend(frameon=False, fontsize=9)
    _save(figure, path)


def named_picture(paths: Sequence[FilePath], named: Sequence[Sequence[Tuple[str, float, bool]]],
                  right: Optional[Sequence[bool]], path: FilePath) -> None:
    """Draw pictures in a grid, each with its best classes and their scores beside it.

    Args:
        paths: picture files, at least one.
        named: for each picture (class, score, whether unseen), best first; the first three are written.
        right: for each picture whether its best class is right; None if the truth is unknown.

    Raises:
        InputError: a picture file is missing or is not a picture.
    """
    columns = min(4, len(paths))
    rows = -(-len(paths) // columns)
    figure, axes = _canvas(2.4 * columns, rows, 1.5)
    for number, (file, best) in enumerate(zip(paths, named)):
        picture = open_picture(file)
        x, y = 2.4 * (number % columns) + 0.05, number // columns + 0.05
        longest = max(picture.width, picture.height)
        w, h = 0.9 * picture.width / longest, 0.9 * picture.height / longest
        colour = QUERY if right is None else RIGHT if right[number] else WRONG
        _show(axes, picture, (x, y, w, h), colour, 2)
        for line, (name, score, unseen) in enumerate(best[:3]):
            axes.text(x + 1, y + 0.2 + 0.28 * line, f'{name[:22]}{" (unseen)" if unseen else ""}\n{score:.3f}', va='center',
                      fontsize=7, color=colour if line == 0 else QUERY, weight='bold' if line == 0 else 'normal')
    _save(figure, path)


def _canvas(width: float, height: float, inches: float, left: float = 0) -> Tuple[Figure, Axes]:
    """Make a figure with one empty axes: `width` x `height` units of `inches`; x begins at `left`, y at 0, downwards.

    One axes holds all images: a hundred axes of one image each take seconds to lay out.
    """
    figure = Figure(figsize=(width * inches, height * inches), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, left + width), ylim=(height, 0), aspect='equal')
    axes.axis('off')
    return figure, axes


def _show(axes: Axes, picture: Image.Image, box: Tuple[float, float, float, float], colour: str, thick: float) -> None:
    """Draw a picture with a frame. box: left, top, width, height."""
    x, y, width, height = box
    axes.imshow(np.asarray(picture), extent=(x, x + width, y + height, y), interpolation='bilinear')
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=thick))


def _clean(axis: Axes) -> None:
    """Draw light grid lines and no box around them."""
    axis.grid(color='#dddddd', linewidth=0.7)
    axis.spines[['top', 'right']].set_visible(False)


def _draw_loss(axis: Axes, at: Array, values: Array) -> None:
    """Draw the recorded losses and, from 60 on, their running mean over a twentieth of the run."""
    window = len(values) // 20
    if window < 3:
        axis.plot(at, values, color='#2c6fbb', marker='o' if len(values) < 40 else None, markersize=4)
    else:
        sums = np.cumsum(np.insert(values, 0, 0.0))
        begin = np.maximum(np.arange(1, len(values) + 1) - window, 0)
        mean = (sums[1:] - sums[begin]) / (np.arange(1, len(values) + 1) - begin)
        axis.plot(at, values, color='#2c6fbb', alpha=0.3, linewidth=0.8, label='recorded')
        axis.plot(at, mean, color='#2c6fbb', linewidth=2, label=f'mean of the last {window}')
        axis.legend(frameon=False, fontsize=9)
    if len(values):
        axis.set_title(f'training loss: last {values[-1]:.4g}', loc='left', fontsize=10)
        if values.min() > 0 and values.max() > 100 * values.min():
            axis.set_yscale('log')


def open_picture(file: FilePath) -> Image.Image:
    """Open an image file as RGB, at most 256 pixels per side."""
    try:
        with Image.open(file) as opened:
            opened.draft('RGB', (256, 256))      # a JPEG is decoded no larger than it is drawn
            opened.load()
            picture = as_shown(opened)
    except (OSError, ValueError) as error:
        raise InputError(f'{file}: cannot be read as a picture ({error.__class__.__name__}); '
                         'check the list and the folder it is relative to') from error
    picture.thumbnail((256, 256))
    return picture


def _save(figure: Figure, path: FilePath) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as part:
        try:
            figure.savefig(part)
        except ValueError as error:
            raise InputError(f'{path}: the picture cannot be written ({str(error).splitlines()[0]})') from error
