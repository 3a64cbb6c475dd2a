"""The decoder: pictures as a viewer shows them, and damaged bytes."""
import io
import subprocess
import sys
import warnings
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.common.errors import InputError
from src.datasets.decoding import decode_file, looks_whole, read_picture

RNG = np.random.default_rng(0)
PIXELS = np.asarray(Image.fromarray(RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((40, 30), Image.BICUBIC))


def encoded(picture, format, **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def decode(content):
    return decode_file(io.BytesIO(content))


@pytest.mark.parametrize('format', ['PNG', 'TIFF', 'WEBP', 'JPEG'])
@pytest.mark.parametrize('orientation, upright', [
    (1, lambda x: x), (2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1, ::-1]), (4, lambda x: x[::-1]),
    (5, lambda x: x.transpose(1, 0, 2)), (6, lambda x: np.rot90(x, -1)), (7, lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
    (8, np.rot90), (9, lambda x: x)])
def test_pictures_are_upright(format, orientation, upright):
    exif = Image.Exif()
    exif[274] = orientation
    options = {'lossless': True} if format == 'WEBP' else {}
    content = encoded(Image.fromarray(PIXELS), format, exif=exif, **options)
    seen = decode(encoded(Image.fromarray(PIXELS), format)) if format == 'JPEG' else PIXELS
    np.testing.assert_array_equal(decode(content), upright(seen))


def test_damaged_metadata_leaves_the_picture():
    content = encoded(Image.fromarray(PIXELS), 'JPEG', exif=b'Exif\0\0MM\0*\0\0\0\x08\xff\xff' + b'\x01' * 40)
    np.testing.assert_array_equal(decode(content), decode(encoded(Image.fromarray(PIXELS), 'JPEG')))


@pytest.mark.parametrize('mode, format', [('RGBA', 'PNG'), ('LA', 'PNG'), ('RGBA', 'WEBP'), ('RGBA', 'TIFF')])
def test_transparency_is_laid_on_white(mode, format):
    alpha = RNG.integers(0, 256, (30, 40))
    colours = PIXELS if mode == 'RGBA' else PIXELS[..., :1]
    picture = Image.fromarray(np.concatenate([colours, alpha[..., None]], 2).astype(np.uint8), mode)
    options = {'lossless': True, 'exact': True} if format == 'WEBP' else {}
    expected = 255 + (colours.astype(float) - 255) * alpha[..., None] / 255
    assert np.abs(decode(encoded(picture, format, **options)) - expected).max() <= 1


def test_transparent_colours_of_palettes_are_white():
    palette = Image.fromarray((np.arange(1200).reshape(30, 40) % 4).astype(np.uint8), 'P')
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    expected = np.array([[10, 20, 30], [255, 255, 255], [70, 80, 90], [100, 110, 120]])[np.arange(1200).reshape(30, 40) % 4]
    for format in ('PNG', 'GIF'):
        np.testing.assert_array_equal(decode(encoded(palette, format, transparency=1)), expected)


def test_the_first_of_several_frames():
    first, second = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())
    for format, options in (('TIFF', {}), ('WEBP', {'lossless': True})):
        content = encoded(first, format, save_all=True, append_images=[second], **options)
        np.testing.assert_array_equal(decode(content), PIXELS)
    content = encoded(first.convert('L'), 'GIF', save_all=True, append_images=[second.convert('L')])
    np.testing.assert_array_equal(decode(content), np.repeat(np.asarray(first.convert('L'))[..., None], 3, 2))


def test_sixteen_bits_become_eight():
    values = RNG.integers(0, 2 ** 16, (30, 40)).astype(np.uint16)
    for format in ('PNG', 'TIFF'):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(values), format)),
                                      np.repeat((values >> 8)[..., None], 3, 2))
    with pytest.raises(ValueError, match='values below 256'):
        decode(encoded(Image.fromarray(values >> 8), 'PNG'))
    assert not decode(encoded(Image.fromarray(values * 0), 'PNG')).any()
    with pytest.raises(ValueError, match='floats'):
        decode(encoded(Image.fromarray(values.astype(np.float32)), 'TIFF'))
    with pytest.raises(ValueError, match='32 bits'):
        decode(encoded(Image.fromarray(values.astype(np.int32)), 'TIFF'))


@pytest.mark.parametrize('content, words', [
    (b'', 'empty'), (b'\0\0\0\x24ftypheic' + bytes(99), 'heic file'), (b'x' * 99, 'known'), (b'<!DOCTYPE html>', 'web page'),
    (b'version https://git-lfs', 'LFS pointer')])
def test_the_words_for_other_files(content, words):
    with pytest.raises(ValueError, match=words):
        decode(np.frombuffer(content, np.uint8))


def test_large_pictures_are_read_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    script = ('from PIL import Image; Image.MAX_IMAGE_PIXELS = 1000; from src.datasets.decoding import decode_file; import io, '
              'sys; print(decode_file(io.BytesIO(sys.stdin.buffer.read())).shape)')
    done = subprocess.run([sys.executable, '-c', script], input=encoded(Image.fromarray(PIXELS), 'PNG').tobytes(),
                          capture_output=True)
    assert (done.stdout, done.stderr) == (b'(30, 40, 3)\n', b'')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(ValueError, match='exceeds limit'):
            decode(encoded(Image.new('L', (50, 50)), 'PNG'))


@pytest.mark.parametrize('format', ['JPEG', 'PNG', 'GIF', 'BMP', 'WEBP', 'TIFF'])
def test_what_looks_whole(tmp_path, format):
    path, content = tmp_path / 'picture', encoded(Image.fromarray(PIXELS), format).tobytes()
    path.write_bytes(content)
    assert looks_whole(path) and not looks_whole(tmp_path) and not looks_whole(tmp_path / 'none')
    for damaged in (b'', b'text', content[:20], *([content[:-1], content[:len(content) // 2]] if format in (
            'JPEG', 'PNG', 'GIF') else [])):
        path.write_bytes(damaged)
        assert not looks_whole(path)
    with pytest.raises(InputError, match='picture: is no image that can be decoded'):
        path.write_bytes(b'')
        read_picture(str(path))
    with pytest.raises(InputError, match='none: cannot be read: No such file'):
        read_picture(str(tmp_path / 'none'))


@lru_cache(maxsize=None)
def whole_files():
    """Small pictures of every format and kind."""
    picture, files = Image.fromarray(PIXELS), []
    exif = Image.Exif()
    exif[274] = 6
    for mode in ('RGB', 'L', 'CMYK'):
        for progressive in (False, True):
            files.append(encoded(picture.convert(mode), 'JPEG', progressive=progressive, exif=exif))
    for format in ('PNG', 'GIF', 'BMP', 'WEBP', 'TIFF'):
        files.append(encoded(picture, format))
    files.append(encoded(picture.convert('RGBA'), 'PNG', exif=exif))
    files.append(encoded(picture, 'TIFF', compression='tiff_deflate'))
    return files


def check_damaged(number, cut, changes):
    content = whole_files()[number % len(whole_files())].copy()
    for place, value in changes:
        content[place % len(content)] = value
    content = content[:round(cut * len(content))]
    try:
        picture = decode(content)
    except ValueError as error:
        assert str(error) and '\n' not in str(error)
        return
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


CHANGES = st.lists(st.tuples(st.one_of(st.integers(0, 700), st.integers(0, 10 ** 6)), st.integers(0, 255)), max_size=4)
DAMAGE = (st.integers(0, 100), st.one_of(st.just(1.0), st.floats(0, 1)), CHANGES)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*DAMAGE)
def test_damaged_bytes_are_decoded_or_refused(number, cut, changes):
    check_damaged(number, cut, changes)


def test_a_jpeg_that_ends_between_header_and_scan():
    """At these MindSpore's decoder ends the process."""
    for content in whole_files()[:6]:
        for cut in range(2, len(content) - 2, 23):
            with pytest.raises(ValueError):
                decode(content[:cut])


@pytest.mark.by_hand
def test_damaged_bytes_in_a_process():
    """Many, in a process of their own, which a crash of a decoder would end."""
    script = ('import sys; sys.path.insert(0, "tests/datasets"); import test_decoding as t;'
              'from hypothesis import given, settings; '
              'settings(max_examples=20000, deadline=None)(given(*t.DAMAGE)(t.check_damaged))()')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
