"""The images of a collection as encoded pictures: files, or bytes from a table."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from PIL import Image, UnidentifiedImageError

from tasks.core.array_types import UInt8
from tasks.core.data.depths import white_of
from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame, framed
from tasks.core.data.picture_modes import channels_of
from tasks.core.errors import UserError
from tasks.sources.collection import Unusable
from tasks.sources.picture_decoding import (
    EMPTY,
    HEIC_ADVICE,
    HEIC_SUFFIXES,
    decoded,
    numbers_in,
    opened,
    quiet,
    reads_heic,
    reason_of,
)

# A picture in a file, its bytes, or why there is none.
Encoded = Path | bytes | Unusable

# So many pictures per thread are decoded before the first of them is handed out. Threads wait for
# each other only once in so many pictures, and memory stays small.
WINDOW = 8
# The EXIF orientations in which width and height are exchanged, and their tag.
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)

Made = TypeVar("Made")


@dataclass(frozen=True)
class PictureImages:
    """Encoded pictures, decoded on all cores.

    Attributes:
        pictures: yields them in the order of the entries, each time it is called.
    """

    pictures: Callable[[], Iterable[Encoded]]

    def traits(self) -> Iterator[Traits | Unusable]:
        """What each picture is like, from its header, and its numbers if they may exceed 255."""
        return _on_all_cores(_traits, self.pictures())

    def decoded(self, frame: Frame) -> Iterator[UInt8 | Unusable]:
        """Each picture in a frame: `(height, width, channels)` uint8."""
        return _on_all_cores(partial(_decoded, frame=frame), self.pictures())


def _on_all_cores(
    make: Callable[[IO[bytes]], Made], pictures: Iterable[Encoded]
) -> Iterator[Made | Unusable]:
    """What is made of each picture, in their order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = cores or 1
    left = iter(pictures)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(left, WINDOW * threads)):
            # This silences the whole process, so not while the caller works with the images.
            with quiet():
                made = list(pool.map(partial(_made, make), some))
            yield from made


def _made(make: Callable[[IO[bytes]], Made], picture: Encoded) -> Made | Unusable:
    if isinstance(picture, Unusable):
        return picture
    try:
        with io.BytesIO(picture) if isinstance(picture, bytes) else picture.open("rb") as file:
            if not file.read(1):
                raise UserError(EMPTY)
            file.seek(0)
            return make(file)
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError) and not reads_heic()
        if unknown and isinstance(picture, Path) and picture.suffix.lower() in HEIC_SUFFIXES:
            return Unusable(HEIC_ADVICE)
        return Unusable(reason_of(error))


def _traits(file: IO[bytes]) -> Traits:
    picture = opened(file)
    # Pillow's own method for PNG would decode the picture to look for EXIF data behind it.
    orientation = Image.Image.getexif(picture).get(ORIENTATION)
    # Pillow has turned the size of a TIFF already.
    turned = orientation in TURNED and picture.format != "TIFF"
    height, width = (picture.height, picture.width)[:: -1 if turned else 1]
    if numbers := numbers_in(file, picture):
        return Traits(height, width, numbers.colours.shape[2], white_of(numbers.highest))
    return Traits(height, width, channels_of(picture.mode))


def _decoded(file: IO[bytes], frame: Frame) -> UInt8:
    return framed(decoded(file, frame), frame)
