"""The whole numbers of pictures of more than 8 bits per channel.

Pillow has such numbers of grey pictures. Of colours, it keeps the upper 8 of 16 bits; so these are
decoded twice, the second time as if the bytes of each number were in the other order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.core.array_types import UInt8
from tasks.core.data.depths import WHITES
from tasks.core.data.picture_modes import Numbers, check_span
from tasks.core.errors import UserError

_COLOURS = ("RGB", "RGBA")
# The tags of a TIFF with the bits per channel and with the arrangement of its channels, and the
# value of the latter if each channel is stored by itself.
_BITS, _ARRANGEMENT, _APART = 258, 284, 2
# Pillow's names of numbers of two bytes: big end first, little end first, or as the processor does.
_OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


def is_deep(picture: Image.Image) -> bool:
    """Whether a picture, of which only the header was read, has numbers of more than 8 bits."""
    if picture.mode not in _COLOURS:
        return picture.mode.startswith("I")
    if picture.format == "TIFF":
        return bool(max(_tags(picture).get(_BITS, (8,))) > 8)
    return picture.format == "PNG" and ";16" in _raw_mode(picture)


def numbers_of(picture: Image.Image, again: Callable[[], Image.Image]) -> Numbers:
    """The numbers of such a picture; it is decoded, which turns a TIFF upright.

    Args:
        picture: the picture.
        again: opens it once more; called after it was decoded.

    Raises:
        UserError: numbers are below 0 or above 65,535, or colours are stored one after another.
        OSError, ValueError, ...: whatever Pillow raises for damaged files.
    """
    colours, opacity = _colours(picture, again) if picture.mode in _COLOURS else _grey(picture)
    key = picture.info.get("transparency")
    if opacity is None and key is not None:
        opacity = np.where((colours == key).all(axis=2), 0, WHITES[-1])
    # Pillow scales the numbers of a PGM to 16 bits, since its header says what white is.
    highest = WHITES[-1] if picture.format == "PPM" else int(colours.max())
    return Numbers(colours, opacity, highest)


def _grey(picture: Image.Image) -> tuple[NDArray[Any], None]:
    """`(h, w, 1)`."""
    numbers = np.asarray(picture)[..., None]
    check_span(numbers, WHITES[-1])
    return numbers, None


def _colours(
    picture: Image.Image, again: Callable[[], Image.Image]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """`(h, w, 1 or 3)` and the opacity `(h, w)`, if there is one."""
    if picture.format == "TIFF" and _tags(picture).get(_ARRANGEMENT) == _APART:
        raise UserError(
            "has colours of 16 bits that are stored one after another (planar); save it with "
            "interleaved channels, or as PNG."
        )
    channels, order = _raw_mode(picture).split(";")
    if channels == "LA":
        # Each pixel has two bytes of grey and two of opacity.
        pixels = _decoded(picture, "RGBA")
        numbers = _joined(pixels[..., ::2], pixels[..., 1::2])
    else:
        # Of colours that were multiplied by their opacity (a), Pillow would divide each byte.
        plain = channels.upper()
        upper = _decoded(picture, f"{plain};{order}")
        numbers = _joined(upper, _decoded(again(), f"{plain};{_OTHER_ORDER[order]}"))
    if numbers.shape[2] == 3:
        return numbers, None
    colours, opacity = numbers[..., :-1], numbers[..., -1]
    return (_divided(colours, opacity) if channels == "RGBa" else colours), opacity


def _joined(upper: UInt8, lower: UInt8) -> NDArray[np.uint16]:
    found = upper.astype(np.uint16)
    found <<= 8
    found |= lower
    return found


def _divided(colours: NDArray[np.uint16], opacity: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Colours that were multiplied by their opacity, as they were before."""
    whole = np.uint32(WHITES[-1])
    part = np.maximum(opacity, 1).astype(np.uint32)[..., None]
    found: NDArray[np.uint16] = np.minimum((colours * whole + part // 2) // part, whole).astype(
        "u2"
    )
    return found


def _decoded(picture: Image.Image, raw_mode: str) -> UInt8:
    """Decode a picture as if the bytes of its pixels were arranged in another way."""
    picture.tile = [  # type: ignore[attr-defined]
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
        for tile in _tiles(picture)
    ]
    return np.asarray(picture)


def _raw_mode(picture: Image.Image) -> str:
    """Pillow's name of the arrangement of the bytes of a pixel, e.g. `RGB;16B`."""
    tiles = _tiles(picture)
    if not tiles:
        # Pillow says what is wrong when it decodes the file.
        return ""
    arguments = tiles[0].args
    return str(arguments if isinstance(arguments, str) else arguments[0])


def _tiles(picture: Image.Image) -> list[Any]:
    found: list[Any] = picture.tile  # type: ignore[attr-defined]
    return found


def _tags(picture: Image.Image) -> Any:
    return picture.tag_v2  # type: ignore[attr-defined]
