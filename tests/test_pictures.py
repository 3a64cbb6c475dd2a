"""The pictures are written whole, hold what they should, and bad input is named."""
import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image

from src.common.errors import InputError
from src.pictures import RIGHT, WRONG, named_picture, neighbours_picture, plot_curves


def history(epochs=3, steps=5, **more):
    return [dict(epoch=epoch, step=step, loss=2.0 / (epoch * steps + step), **more)
            for epoch in range(1, epochs + 1) for step in range(1, steps + 1)]


def count(path, colour):
    """How many pixels of a picture have about that colour."""
    pixels = np.asarray(Image.open(path).convert('RGB'), int)
    wanted = [int(colour[at:at + 2], 16) for at in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(2) < 12).sum())


@pytest.fixture()
def pictures(tmp_path):
    files = []
    for number in range(8):
        files.append(tmp_path / f'in_{number}.png')
        Image.new('RGB', (40, 40), (60 + 20 * number, 90, 200)).save(files[-1])
    return files


def test_curves_are_a_picture(tmp_path):
    plot_curves(history(), tmp_path / 'new' / 'curves.png')
    with Image.open(tmp_path / 'new' / 'curves.png') as picture:
        assert picture.format == 'PNG' and min(picture.size) > 300
    assert [file.name for file in (tmp_path / 'new').iterdir()] == ['curves.png']


def test_accuracy_and_learning_rate_get_their_own_panels(tmp_path):
    rows = history()
    plot_curves(rows, tmp_path / 'loss.png')
    rows[4]['accuracy'], rows[9]['accuracy'], rows[14]['accuracy'] = 0.25, None, 0.5
    plot_curves(rows, tmp_path / 'accuracy.png')
    plot_curves([dict(row, lr=0.1) for row in rows], tmp_path / 'lr.png')
    heights = [Image.open(tmp_path / f'{name}.png').height for name in ('loss', 'accuracy', 'lr')]
    assert heights == sorted(set(heights))
    assert count(tmp_path / 'loss.png', RIGHT) == 0 < count(tmp_path / 'accuracy.png', RIGHT)


@pytest.mark.parametrize('rows', [
    [dict(epoch=1, step=1, loss=1.0)],
    [dict(epoch=epoch, step=46, loss=1 / epoch) for epoch in range(1, 5)],
    [dict(epoch=1 + step // 50, step=step, loss=1000.0 / step) for step in range(1, 200)],
    [dict(epoch=1, step=1, loss=float('nan')), dict(epoch=1, step=2, loss=float('inf'))],
    [dict(epoch=1, step=1, loss=None, accuracy=0.5), dict(epoch=1, step=2, loss=0.0)]])
@pytest.mark.filterwarnings('error')
def test_unusual_histories_are_drawn(rows, tmp_path):
    plot_curves(rows, tmp_path / 'curves.png')
    with Image.open(tmp_path / 'curves.png') as picture:
        assert picture.width > 300


def test_the_drawn_loss_follows_the_loss(tmp_path):
    """The line of a falling loss lies higher at its left than at its right, of a rising one lower."""
    for name, sign in (('fall', -1), ('rise', 1)):
        rows = [dict(epoch=1, step=step, loss=5 + sign * step / 10) for step in range(1, 30)]
        plot_curves(rows, tmp_path / f'{name}.png')
        pixels = np.asarray(Image.open(tmp_path / f'{name}.png').convert('RGB'), int)
        y, x = np.nonzero(np.abs(pixels - (44, 111, 187)).max(2) < 12)
        left, right = y[x < x.min() + 20].mean(), y[x > x.max() - 20].mean()
        assert (right - left) * sign < -100


def test_suffix_names_the_format(tmp_path):
    plot_curves(history(), tmp_path / 'curves.svg')
    assert '<svg' in (tmp_path / 'curves.svg').read_text()[:1000]
    with pytest.raises(InputError, match='curves.xyz'):
        plot_curves(history(), tmp_path / 'curves.xyz')
    assert [file.name for file in tmp_path.iterdir()] == ['curves.svg']


def test_an_old_picture_is_replaced_whole(tmp_path):
    (tmp_path / 'curves.png').write_text('old')
    plot_curves(history(), tmp_path / 'curves.png')
    assert Image.open(tmp_path / 'curves.png').format == 'PNG'


def test_empty_history_is_refused(tmp_path):
    with pytest.raises(ValueError):
        plot_curves([], tmp_path / 'curves.png')


@pytest.mark.parametrize('right', [[[True, False, True], [False, False, True]], [[True] * 3] * 2, [[False] * 3] * 2])
def test_frames_stand_where_the_truth_says(right, pictures, tmp_path):
    """Each neighbour's own frame: the cells are found by the pictures' fill colours."""
    path = tmp_path / 'near.png'
    neighbours_picture(pictures[:2], [pictures[2:5], pictures[5:8]], right, path)
    pixels = np.asarray(Image.open(path).convert('RGB'), int)
    for number, good in zip(range(2, 8), np.ravel(right)):
        y, x = np.nonzero(np.abs(pixels - (60 + 20 * number, 90, 200)).max(2) < 6)
        assert len(y) > 1000
        # Just left of the picture's fill, half way down: the frame.
        frame = pixels[int(y.mean()), x.min() - 3:x.min()]
        wanted = [int((RIGHT if good else WRONG)[at:at + 2], 16) for at in (1, 3, 5)]
        assert (np.abs(frame - wanted).max(1) < 40).any()


def test_unknown_truth_has_no_green_or_red(pictures, tmp_path):
    neighbours_picture(pictures[:1], [pictures[1:4]], None, tmp_path / 'near.png', scores=[[0.9, 0.8, 0.7]])
    assert count(tmp_path / 'near.png', RIGHT) == count(tmp_path / 'near.png', WRONG) == 0


def test_rows_of_different_lengths_and_shapes(pictures, tmp_path):
    tall = tmp_path / 'tall.jpg'
    Image.new('L', (64, 128), 200).save(tall)
    neighbours_picture([tall, pictures[0], tall], [[tall] * 4, [pictures[1]], []], [[True] * 4, [False], []],
                       tmp_path / 'near.png', scores=[[0.5] * 4, [1.0], []])
    assert count(tmp_path / 'near.png', RIGHT) > count(tmp_path / 'near.png', WRONG) > 0


def test_scores_change_the_picture(pictures, tmp_path):
    for name, score in (('a', 0.125), ('b', 0.875)):
        neighbours_picture(pictures[:1], [pictures[1:2]], [[True]], tmp_path / f'{name}.png', scores=[[score]])
    assert (tmp_path / 'a.png').read_bytes() != (tmp_path / 'b.png').read_bytes()


def test_missing_and_broken_pictures_are_named(pictures, tmp_path):
    broken = tmp_path / 'broken.jpg'
    broken.write_text('no picture')
    for bad in (tmp_path / 'absent.jpg', broken):
        with pytest.raises(InputError, match=bad.name) as caught:
            neighbours_picture(pictures[:1], [[pictures[1], bad]], None, tmp_path / 'near.png')
        assert '\n' not in str(caught.value)
    assert not (tmp_path / 'near.png').exists()


def test_lists_of_different_lengths_are_refused(pictures, tmp_path):
    for arguments in (([], [], None), (pictures[:2], [pictures[2:4]], None),
                      (pictures[:1], [pictures[2:4]], [[True]]), (pictures[:1], [pictures[2:4]], [[True, True], []])):
        with pytest.raises(ValueError):
            neighbours_picture(*arguments, tmp_path / 'near.png')


def test_no_global_matplotlib_state(pictures, tmp_path):
    """Drawing works from any thread and leaves matplotlib's settings and backend alone."""
    before = dict(matplotlib.rcParams)
    threads = [threading.Thread(target=plot_curves, args=(history(), tmp_path / f'{at}.png')) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / '0.png').read_bytes() == (tmp_path / '1.png').read_bytes()


def test_named_picture(tmp_path):
    files = []
    for i in range(5):
        Image.new('RGB', (20 + i, 30), (40 * i, 0, 0)).save(tmp_path / f'{i}.png')
        files.append(str(tmp_path / f'{i}.png'))
    named = [[('zebra', 0.5, True), ('horse', 0.25, False)]] * 5
    for right in (None, [True, False, True, True, False]):
        named_picture(files, named, right, tmp_path / 'named.png')
        with Image.open(tmp_path / 'named.png') as picture:
            assert picture.width > picture.height > 100
    with pytest.raises(InputError, match='cannot be read as a picture'):
        named_picture([str(tmp_path / 'none.png')], named[:1], None, tmp_path / 'named.png')
