"""Decode one picture with Pillow, or give the reason in one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from tasks.core.data.photographs import Frame
from tasks.core.data.picture_modes import Numbers
from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources.deep_pictures import is_deep, numbers_of

# Pillow reads many more formats, some with external programs. These are common and well tested.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "PPM")
# In folders, only files with these suffixes are pictures. A file that is named may have any.
SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
        *(".gif", ".avif", ".pgm", ".ppm", ".pbm", ".pnm"),
    )
)
# These are read if the package that decodes them is installed.
HEIC_SUFFIXES = frozenset((".heic", ".heif"))
_HEIC_PACKAGE = "pillow_heif"
# Pillow's own limit. A small file with more pixels is more likely an attack than a picture.
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 0
THUMBNAIL = 160

TOO_LARGE = (
    f"has more than {MOST_PIXELS // 1_000_000} megapixels, so it may be a file made to exhaust "
    "memory; make it smaller."
)
EMPTY = "is empty (0 bytes); get another copy, or leave it out."
_UNKNOWN = (
    "is not a picture that can be read (PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF or PPM), or is "
    "damaged; convert it to PNG."
)


HEIC_ADVICE = (
    "is a HEIC photograph; save it as JPEG, or install the extra `heic` "
    "(pip install 'fashion-flow[heic]')."
)


@dataclass(frozen=True)
class Undecoded:
    """A picture that was found but not decoded yet.

    Attributes:
        source: its path, with its number if the file contains several.
        decode: decodes it; may raise any exception if it is damaged.
    """

    source: str
    decode: Callable[[], Image.Image]


def reads_heic() -> bool:
    """Whether the optional package that decodes HEIC is installed."""
    return find_spec(_HEIC_PACKAGE) is not None


def suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the files in a folder that are pictures."""
    return SUFFIXES | HEIC_SUFFIXES if reads_heic() else SUFFIXES


def opened(file: IO[bytes]) -> Image.Image:
    """The picture in a file, of which only the header was read.

    Raises:
        UserError: it has too many pixels, or the file contains several pictures.
        OSError, ValueError, ...: whatever Pillow raises for damaged files.
    """
    picture = Image.open(file, formats=_formats())
    # Pillow only warns of less than twice as many.
    if picture.width * picture.height > MOST_PIXELS:
        raise UserError(TOO_LARGE)
    # Phones append a preview or a depth map to a JPEG. Pillow calls the result MPO and animated.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise UserError(
            "contains more than one picture (an animation, or pages); save one of them."
        )
    return picture


def decoded(file: IO[bytes], frame: Frame) -> Image.Image:
    """The picture in a file, in at least twice the size of the frame and of a thumbnail.

    It has 8 bits per channel, or is grey with fractions (mode F).

    Raises:
        UserError: it has too many pixels, the file contains several pictures, or black and white
            are not defined.
        OSError, ValueError, ...: whatever Pillow raises for damaged files.
    """
    picture = opened(file)
    if numbers := numbers_in(file, picture):
        found = numbers.picture(frame.white)
        # Its EXIF data and colour profile; where it is transparent, its opacity says so.
        found.info = {name: picture.info[name] for name in picture.info if name != "transparency"}
        return found
    # Lets the decoder scale a large JPEG down by a power of two, which is fast.
    enough = 2 * max(THUMBNAIL, frame.height, frame.width)
    picture.draft(None, (enough, enough))
    picture.load()
    return picture


def numbers_in(file: IO[bytes], picture: Image.Image) -> Numbers | None:
    """The numbers of an opened picture of more than 8 bits per channel; None of any other.

    Others are not decoded.

    Raises:
        UserError, OSError, ValueError, ...: see `decoded`.
    """
    return numbers_of(picture, partial(_again, file)) if is_deep(picture) else None


def _again(file: IO[bytes]) -> Image.Image:
    file.seek(0)
    return opened(file)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings of odd metadata, which are irrelevant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reason_of(error: Exception) -> str:
    """Why a picture could not be read, and what to do about it, for whatever was raised."""
    if isinstance(error, UserError):
        reason = str(error)
    elif isinstance(error, Image.DecompressionBombError):
        reason = TOO_LARGE
    elif isinstance(error, UnidentifiedImageError):
        reason = _UNKNOWN
    elif isinstance(error, OSError) and error.strerror:
        reason = f"can't be read: {error.strerror}; check the path and its permissions."
    else:
        # Decoders raise all kinds of exceptions for damaged bytes.
        reason = f"is damaged ({first_line(error)}); get another copy, or leave it out."
    return printable(reason)


def printable(path: Path | str) -> str:
    """The text with its unprintable characters escaped, so that it can be printed and stored."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(path)
    )


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are read; teaches Pillow to read HEIC if that is possible."""
    if not reads_heic():
        return FORMATS
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return (*FORMATS, "HEIF")
