"""Image files -> pixels.

All decoding uses Pillow, which raises an exception for damaged files. MindSpore's decoder crashes (SIGFPE, SIGSEGV) or
hangs on many damaged JPEGs, and takes a fifth more processor time for a photo.
"""
import os
import warnings
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - formats must be imported

from src.common.errors import InputError
from src.common.files import is_failed_download

Pixels = NDArray[np.uint8]
FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'TIFF')
# Quarter turns and flips that bring an image upright, by its EXIF orientation (tag 274).
ORIENTATION = 274
UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
           5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}
# The last bytes of a complete file, by format; other formats have no such mark.
ENDS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82', 'GIF': b';'}
# Images of 100 megapixels are valid: Pillow refuses only twice as much. Its other warnings concern metadata.
warnings.filterwarnings('ignore', module=r'PIL\.')


def decode_file(file: IO[bytes]) -> Pixels:
    """Decode an open image file to pixels (h, w, 3) uint8, RGB, as a viewer shows them; of other files reads only the start.

    The EXIF orientation is applied, transparency is laid on white, 16 bits become 8 by their upper half, and the first of
    several frames is taken.

    Raises:
        ValueError: the bytes cannot be decoded as an image; says why.
    """
    picture = _open(file)
    try:
        picture.load()
        return np.asarray(as_shown(picture))
    except Exception as error:  # Pillow raises whatever it meets in damaged bytes
        raise ValueError(_why(error)) from error


def _open(file: IO[bytes]) -> Image.Image:
    """Open an image and read its header. Raises ValueError as decode_file."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(_not_a_picture(file)) from None
    except Exception as error:  # see decode_file
        raise ValueError(_why(error)) from error


def _not_a_picture(file: IO[bytes]) -> str:
    """Describe a file that Pillow does not recognise."""
    file.seek(0)
    start = file.read(32)
    if not start:
        return 'the file is empty'
    if start[4:8] == b'ftyp':
        return f'a {start[8:12].decode("ascii", "replace")} file (HEIC, AVIF or video); save it as JPEG or PNG'
    if is_failed_download(start):
        return 'a web page or a Git LFS pointer instead of a picture; download it again'
    return f'no picture of a known format ({", ".join(FORMATS)})'


def _why(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def as_shown(picture: Image.Image) -> Image.Image:
    """Convert a loaded image to RGB: upright by its EXIF orientation, on white. Raises ValueError for pixels of 32 bits."""
    if picture.mode == 'I' and picture.format == 'TIFF':  # in a PNG it is 16 bits
        raise ValueError('pixels of 32 bits; save it with 8 or 16 bits per channel')
    try:
        turn = UPRIGHT.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata: whatever Pillow meets there
        turn = None
    if turn is not None:
        picture = picture.transpose(turn)
    if picture.mode.startswith('I'):
        pixels = np.asarray(picture)
        if 0 < pixels.max() < 256:
            raise ValueError('16 bits per channel with values below 256, which are shown as black; save it with 8 bits')
        picture = Image.fromarray((pixels >> 8).astype(np.uint8))
    if picture.mode == 'F':
        raise ValueError('pixels of floats; save it with 8 or 16 bits per channel')
    if 'transparency' in picture.info or picture.mode in ('RGBA', 'RGBa', 'LA', 'La', 'PA'):
        white = Image.new('RGBA', picture.size, 'white')
        white.alpha_composite(picture.convert('RGBA'))
        picture = white
    return picture if picture.mode == 'RGB' else picture.convert('RGB')


def looks_whole(path: str) -> bool:
    """Whether an image file has a readable header and the end of its format; takes a hundredth of the time of decoding.

    Damage in between is not found; a file that does not look complete may still be decodable.
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
    """Read an image file; see decode_file. Raises InputError naming the file."""
    why = ''
    try:
        with open(path, 'rb') as file:
            return decode_file(file)
    except OSError as error:
        why = f'cannot be read: {error.strerror or error}'
    except ValueError as error:
        why = f'is no image that can be decoded ({error})'
    raise InputError(f'{path}: {why}; repair it or remove it from the list')
