"""Picture files -> pixels.

One decoder for all: Pillow's. It refuses what is damaged by an exception. MindSpore's decoder ends the process at many damaged
JPEGs (SIGFPE, SIGSEGV), or hangs, and takes a fifth more processor time for a photo.
"""
import io
import os
import warnings
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - formats must be imported

from src.common.errors import InputError

Pixels = NDArray[np.uint8]
FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'TIFF')
# Quarter turns and flips that bring a picture upright, by its EXIF orientation (tag 274).
ORIENTATION = 274
UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
           5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}
# The last bytes of a whole file, by its format; other formats have no such mark.
ENDS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82', 'GIF': b';'}
# A picture of 100 megapixels is a picture: Pillow refuses twice as much. Its other warnings are of metadata.
warnings.filterwarnings('ignore', module=r'PIL\.')


def decode(content: Pixels) -> Pixels:
    """Decode the bytes (n,) uint8 of a picture file to pixels (h, w, 3) uint8, RGB, as a viewer shows them.

    The EXIF orientation is applied, transparency is laid on white, 16 bits become 8 by their upper half, and of several frames
    the first is taken.

    Raises:
        ValueError: says why the bytes are no picture that can be decoded.
    """
    return decode_file(io.BytesIO(content))  # type: ignore[arg-type]  # an array is bytes


def decode_file(file: IO[bytes]) -> Pixels:
    """Decode an open picture file as decode; of what is no picture only the first bytes are read."""
    picture = _open(file)
    try:
        picture.load()
        return np.asarray(as_shown(picture))
    except Exception as error:  # Pillow raises whatever it meets in damaged bytes
        raise ValueError(_why(error)) from error


def _open(file: IO[bytes]) -> Image.Image:
    """A picture whose header was read. Raises ValueError as decode."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError('no picture of a known format') from None
    except Exception as error:  # see decode
        raise ValueError(_why(error)) from error


def _why(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def as_shown(picture: Image.Image) -> Image.Image:
    """A loaded picture as RGB: upright by its EXIF orientation, on white. Raises ValueError if its pixels have 32 bits."""
    try:
        turn = UPRIGHT.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata: whatever Pillow meets there
        turn = None
    if turn is not None:
        picture = picture.transpose(turn)
    if picture.mode.startswith('I'):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() >= 2 ** 16:
            raise ValueError('pixels of 32 bits; save it with 8 or 16 bits a channel')
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    if picture.mode == 'F':
        raise ValueError('pixels of floats; save it with 8 or 16 bits a channel')
    if 'transparency' in picture.info or picture.mode in ('RGBA', 'RGBa', 'LA', 'La', 'PA'):
        white = Image.new('RGBA', picture.size, 'white')
        white.alpha_composite(picture.convert('RGBA'))
        picture = white
    return picture if picture.mode == 'RGB' else picture.convert('RGB')


def looks_whole(path: str) -> bool:
    """Whether a picture file has a header that can be read and the end of its format: a hundredth of the time of decoding.

    Damage between the two is not seen; a file that does not look whole may still be decodable.
    """
    try:
        with open(path, 'rb') as file:
            picture = _open(file)
            end = ENDS.get(str(picture.format), b'')
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except (OSError, ValueError):
        return False


def read_picture(path: str) -> Pixels:
    """Read a picture file; see decode. Raises InputError naming the file."""
    why = ''
    try:
        return decode(np.fromfile(path, np.uint8))
    except OSError as error:
        why = f'cannot be read: {error.strerror or error}'
    except ValueError as error:
        why = f'is no image that can be decoded ({error})'
    raise InputError(f'{path}: {why}; repair it or remove it from the list')
