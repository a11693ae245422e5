"""From a picture of any size and kind to an image like those that a model has learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from tasks.core.data import UInt8
from tasks.core.errors import UserError
from tasks.core.splits import ground

Invert = Literal["auto", "yes", "no"]

# How much nearer (in lightness from 0 to 1) the inverted ground must come to the data set's, for a
# picture to be inverted: one on middle grey, from 0.4 to 0.6 for Fashion-MNIST, says nothing.
CLEARLY = 0.2

# Lanczos leaves no moire when a picture shrinks, draws no blocks when it grows, and keeps edges
# sharp. Fashion-MNIST's makers sharpened after shrinking, so what is blurred, as by averaging
# boxes, is less like their images. Where it overshoots beside an edge, 0 and 255 are the end.
FILTER = Image.Resampling.LANCZOS

WHITE = 255


@dataclass(frozen=True)
class ImageFormat:
    """The images of a data set.

    `channels` is 1 (grey) or 3 (RGB); `ground` is how light the ground is that objects stand on,
    from 0 to 1, as `tasks.core.splits.ground` finds it.
    """

    height: int
    width: int
    channels: int
    ground: float


@dataclass(frozen=True)
class Prepared:
    """What a model is shown of a picture.

    `pixels`: `(height, width, channels)` uint8 as the data set has them.
    `inverted`: whether light and dark were exchanged.
    `unlike`: whether the ground is nevertheless clearly another than the data set's.
    """

    pixels: UInt8
    inverted: bool
    unlike: bool


def prepared(picture: Image.Image, like: ImageFormat, invert: Invert = "auto") -> Prepared:
    """Make an image like those of a data set of a picture that is decoded.

    A picture in the data set's size and channels keeps every bit, unless `invert` is `yes`: whoever
    has such an image has most likely got it from the data set. Any other is turned as its EXIF data
    say, made grey or RGB, shrunk or enlarged to fit, put on its own ground where it is transparent,
    inverted where that is wanted, and set in the middle of its own ground.

    With `auto`, a grey picture is inverted where its ground is clearly unlike the data set's and
    that of the inverted picture is not; light and dark of colours mean nothing of the kind.

    Raises:
        UserError: the pixels are numbers of which it is not known what is black and what is white.
    """
    upright = ImageOps.exif_transpose(picture)
    size = (like.width, like.height)
    if upright.mode == _mode(like.channels) and upright.size == size:
        pixels, given = _pixels(upright), True
    else:
        plain = in_channels(eight_bits(upright), like.channels)
        small = plain.resize(_fitting(plain.size, size), FILTER)
        pixels, given = _on_ground(_pixels(small)), False
    unlike = like.channels == 1 and is_unlike(ground(pixels[np.newaxis]), like.ground)
    inverts = invert == "yes" or (invert == "auto" and unlike and not given)
    if inverts:
        pixels = inverted(pixels)
    return Prepared(padded(pixels, like.height, like.width), inverts, unlike and not inverts)


def eight_bits(picture: Image.Image) -> Image.Image:
    """The same picture with eight bits a channel: L or RGB, LA or RGBA where it is transparent.

    Raises:
        UserError: floating-point or 32-bit pixels, of which it is not known what is white.
    """
    mode = picture.mode
    if mode.startswith("I;16"):
        # 257 is 65535 / 255: white stays white.
        wide = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if mode in ("I", "F"):
        raise UserError(
            "has 32-bit pixels, of which nobody knows what is black and what is white; save it "
            "with 8 or 16 bits a channel."
        )
    grey = mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        return picture.convert("LA" if grey else "RGBA")
    return picture.convert("L" if grey else "RGB")


def in_channels(picture: Image.Image, channels: int) -> Image.Image:
    """L, LA, RGB or RGBA as 1 channel (luma by ITU-R 601) or 3; transparency is kept."""
    mode = _mode(channels) + ("A" if picture.mode.endswith("A") else "")
    return picture if picture.mode == mode else picture.convert(mode)


def _mode(channels: int) -> str:
    return "L" if channels == 1 else "RGB"


def _pixels(picture: Image.Image) -> UInt8:
    """`(h, w, c)` uint8, whatever the number of channels."""
    return np.atleast_3d(np.asarray(picture, np.uint8))


def _fitting(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape that fits `into`, in whole pixels and at least one."""
    scale = min(new / old for old, new in zip(size, into, strict=True))
    width, height = (max(1, round(length * scale)) for length in size)
    return width, height


def _on_ground(pixels: UInt8) -> UInt8:
    """`(h, w, 2 or 4)` with opacity last as `(h, w, 1 or 3)`; what has no opacity stays as it is.

    What is transparent gets the ground that the opaque part of the border shows. Where most of the
    border is transparent, the picture is a cut-out, and product pictures stand on white.
    """
    if pixels.shape[2] in (1, 3):
        return pixels
    colour, opacity = pixels[..., :-1].astype(np.uint32), pixels[..., -1:]
    border = _border(pixels)
    opaque = border[border[:, -1] > 127, :-1]
    own = 2 * len(opaque) > len(border)
    behind = np.rint(np.median(opaque, axis=0)).astype(np.uint32) if own else np.uint32(WHITE)
    return ((colour * opacity + behind * (255 - opacity) + 127) // 255).astype(np.uint8)


def _border(pixels: UInt8) -> UInt8:
    """The outermost pixels, `(n, c)`; those in the corners count twice."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def is_unlike(found: float, wanted: float) -> bool:
    """Whether the inverse of a ground is clearly nearer to the wanted one; all from 0 to 1."""
    return abs(1 - found - wanted) + CLEARLY < abs(found - wanted)


def inverted(pixels: UInt8) -> UInt8:
    """Light and dark exchanged; twice is as it was."""
    return 255 - pixels


def padded(pixels: UInt8, height: int, width: int) -> UInt8:
    """`(h, w, c)` in the middle of `(height, width, c)`, surrounded by the median of its border."""
    above, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    around = np.rint(np.median(_border(pixels), axis=0)).astype(np.uint8)
    whole = np.empty((height, width, pixels.shape[2]), np.uint8)
    whole[:] = around
    whole[above : above + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole
