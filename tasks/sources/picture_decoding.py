"""Decode one picture with Pillow, or give the reason in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from PIL import Image

from tasks.core.data.photographs import Frame
from tasks.core.errors import UserError

# Pillow reads many more formats, some with external programs. These are common and well tested.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# Pillow's own limit. A small file with more pixels is more likely an attack than a picture.
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 0
THUMBNAIL = 160

TOO_LARGE = (
    f"has more than {MOST_PIXELS // 1_000_000} megapixels, so it may be a file made to exhaust "
    "memory; make it smaller."
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


def decoded(file: IO[bytes], frame: Frame) -> Image.Image:
    """The picture in a file, in at least twice the size of the frame and of a thumbnail.

    Raises:
        UserError: the file contains several pictures.
        OSError, ValueError, ...: whatever Pillow raises for damaged files.
    """
    picture = Image.open(file, formats=FORMATS)
    # Phones append a preview or a depth map to a JPEG. Pillow calls the result MPO and animated.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise UserError(
            "contains more than one picture (an animation, or pages); save one of them."
        )
    # Lets the decoder scale a large JPEG down by a power of two, which is fast.
    enough = 2 * max(THUMBNAIL, frame.height, frame.width)
    picture.draft(None, (enough, enough))
    picture.load()
    return picture
