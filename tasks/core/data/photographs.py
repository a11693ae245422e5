"""From a picture of any size and kind to an image like those that a model has learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from tasks.core.data.labelled import UInt8
from tasks.core.errors import UserError

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
    from 0 to 1, as `tasks.core.data.splitting.ground` finds it.
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
    given = upright.mode == _mode(like.channels) and upright.size == size
    plain = upright if given else in_channels(eight_bits(upright), like.channels)
    around = ground_of(plain)
    pixels = _pixels(plain) if given else on_ground(_resized(plain, size), around)
    unlike = like.channels == 1 and is_unlike(around[0] / 255, like.ground)
    inverts = invert == "yes" or (invert == "auto" and unlike and not given)
    if inverts:
        pixels, around = inverted(pixels), inverted(around)
    whole = padded(pixels, around, like.height, like.width)
    return Prepared(whole, inverts, unlike and not inverts)


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


def ground_of(picture: Image.Image) -> UInt8:
    """The colour of what things stand on, `(1 or 3,)`: the median of the outermost pixels.

    Of large pictures these are as many pixels deep as a hundredth of the shorter side, so that a
    line around the picture does not count. Where most of them are transparent, the picture is a
    cut-out, and product pictures stand on white.
    """
    width, height = picture.size
    deep = max(1, min(width, height) // 100)
    strips = (
        (0, 0, width, deep),
        (0, height - deep, width, height),
        (0, 0, deep, height),
        (width - deep, 0, width, height),
    )
    parts = [_pixels(picture.crop(strip)) for strip in strips]
    border = np.concatenate([part.reshape(-1, part.shape[2]) for part in parts])
    if border.shape[1] in (2, 4):
        opaque = border[border[:, -1] > 127, :-1]
        if 2 * len(opaque) <= len(border):
            return np.full(opaque.shape[1], WHITE, np.uint8)
        border = opaque
    middle: UInt8 = np.rint(np.median(border, axis=0)).astype(np.uint8)
    return middle


def _resized(picture: Image.Image, into: tuple[int, int]) -> UInt8:
    """As large as fits `into` (width, height) without being stretched, and at least one pixel."""
    scale = min(new / old for old, new in zip(picture.size, into, strict=True))
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return _pixels(picture.resize((width, height), FILTER))


def on_ground(pixels: UInt8, ground: UInt8) -> UInt8:
    """`(h, w, 2 or 4)`, opacity last, before a ground `(1 or 3,)`; the opaque stays as it is."""
    if pixels.shape[2] in (1, 3):
        return pixels
    colour, opacity = pixels[..., :-1].astype(np.uint32), pixels[..., -1:]
    return ((colour * opacity + ground.astype(np.uint32) * (255 - opacity) + 127) // 255).astype(
        np.uint8
    )


def is_unlike(found: float, wanted: float) -> bool:
    """Whether the inverse of a ground is clearly nearer to the wanted one; all from 0 to 1."""
    return bool(abs(1 - found - wanted) + CLEARLY < abs(found - wanted))


def inverted(pixels: UInt8) -> UInt8:
    """Light and dark exchanged; twice is as it was."""
    return 255 - pixels


def padded(pixels: UInt8, ground: UInt8, height: int, width: int) -> UInt8:
    """`(h, w, c)` in the middle of `(height, width, c)`, surrounded by a ground `(c,)`."""
    above, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    whole = np.empty((height, width, pixels.shape[2]), np.uint8)
    whole[:] = ground
    whole[above : above + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole
