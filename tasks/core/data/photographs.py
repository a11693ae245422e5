"""Convert pictures of any size and kind to images like those that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from tasks.core.array_types import UInt8
from tasks.core.errors import UserError

Invert = Literal["auto", "yes", "no"]

# A picture is inverted only if that brings its background (brightness 0 to 1) nearer to the data
# set's by more than this. A middle grey (0.4 to 0.6 for Fashion-MNIST) is not clear enough.
CLEAR_DIFFERENCE = 0.2

# Lanczos avoids moire when a picture shrinks and blocks when it grows, and keeps edges sharp.
# Fashion-MNIST's makers sharpened after shrinking, so blurring filters, such as box averages, give
# images less like theirs. Overshoot beside an edge is clipped to 0 and 255.
FILTER = Image.Resampling.LANCZOS

WHITE = 255


@dataclass(frozen=True)
class ImageFormat:
    """The images of a data set.

    `channels` is 1 (grey) or 3 (RGB). `background` is the brightness of the background, in [0, 1],
    as computed by `tasks.core.data.preprocessing.background_brightness`.
    """

    height: int
    width: int
    channels: int
    background: float


@dataclass(frozen=True)
class Prepared:
    """A picture as a model sees it.

    `pixels`: `(height, width, channels)` uint8, in the data set's format.
    `inverted`: whether light and dark were swapped.
    `unlike`: whether the background still differs clearly from the data set's.
    """

    pixels: UInt8
    inverted: bool
    unlike: bool


def prepared(picture: Image.Image, like: ImageFormat, invert: Invert = "auto") -> Prepared:
    """Turn a decoded picture into an image like those of a data set.

    A picture that already has the data set's size and channels keeps every bit unless `invert` is
    `yes`, since it most likely comes from the data set. Any other picture is rotated according to
    its EXIF data, converted to grey or RGB and resized to fit; transparent parts get its background
    colour; it is inverted if necessary, centred, and padded with its background colour.

    With `auto`, a grey picture is inverted if its background is clearly unlike the data set's and
    the inverted background is not. Colour pictures are never inverted automatically.

    Raises:
        UserError: the pixels are 32-bit numbers without a defined black and white.
    """
    upright = ImageOps.exif_transpose(picture)
    size = (like.width, like.height)
    given = upright.mode == _mode(like.channels) and upright.size == size
    plain = upright if given else in_channels(eight_bits(upright), like.channels)
    background = background_color(plain)
    pixels = _pixels(plain) if given else on_background(_resized(plain, size), background)
    unlike = like.channels == 1 and is_unlike(background[0] / 255, like.background)
    inverts = invert == "yes" or (invert == "auto" and unlike and not given)
    if inverts:
        pixels, background = inverted(pixels), inverted(background)
    whole = padded(pixels, background, like.height, like.width)
    return Prepared(whole, inverts, unlike and not inverts)


def eight_bits(picture: Image.Image) -> Image.Image:
    """Convert a picture to eight bits per channel: L or RGB, or LA or RGBA with transparency.

    Raises:
        UserError: floating-point or 32-bit pixels, for which white is not defined.
    """
    mode = picture.mode
    if mode.startswith("I;16"):
        # 257 is 65535 / 255, so white stays white.
        wide = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if mode in ("I", "F"):
        raise UserError(
            "has 32-bit pixels, for which black and white are not defined; save it with 8 or 16 "
            "bits per channel."
        )
    grey = mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        return picture.convert("LA" if grey else "RGBA")
    return picture.convert("L" if grey else "RGB")


def in_channels(picture: Image.Image, channels: int) -> Image.Image:
    """Convert L, LA, RGB or RGBA to 1 channel (ITU-R 601 luma) or 3; keep transparency."""
    mode = _mode(channels) + ("A" if picture.mode.endswith("A") else "")
    return picture if picture.mode == mode else picture.convert(mode)


def _mode(channels: int) -> str:
    return "L" if channels == 1 else "RGB"


def _pixels(picture: Image.Image) -> UInt8:
    """`(h, w, c)` uint8 for any number of channels."""
    return np.atleast_3d(np.asarray(picture, np.uint8))


def background_color(picture: Image.Image) -> UInt8:
    """The median colour of the outermost pixels, `(1 or 3,)`.

    The border measured is one hundredth of the shorter side wide, at least one pixel, so a thin
    line around a large picture does not count. If most of the border is transparent, the picture
    is a cut-out and gets white, the usual background of product pictures.
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
    """Scaled to fit `into` (width, height), not stretched, at least one pixel on each side."""
    scale = min(new / old for old, new in zip(picture.size, into, strict=True))
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return _pixels(picture.resize((width, height), FILTER))


def on_background(pixels: UInt8, background: UInt8) -> UInt8:
    """Blend pixels whose last channel is opacity, `(h, w, 2 or 4)`, onto a colour `(1 or 3,)`.

    Pixels without opacity, `(h, w, 1 or 3)`, are returned unchanged.
    """
    if pixels.shape[2] in (1, 3):
        return pixels
    colour, opacity = pixels[..., :-1].astype(np.uint32), pixels[..., -1:]
    behind = background.astype(np.uint32) * (255 - opacity)
    return ((colour * opacity + behind + 127) // 255).astype(np.uint8)


def is_unlike(found: float, wanted: float) -> bool:
    """Whether inverting a background would bring it clearly nearer to the wanted one, in [0, 1]."""
    return bool(abs(1 - found - wanted) + CLEAR_DIFFERENCE < abs(found - wanted))


def inverted(pixels: UInt8) -> UInt8:
    """Swap light and dark."""
    return 255 - pixels


def padded(pixels: UInt8, background: UInt8, height: int, width: int) -> UInt8:
    """Centre `(h, w, c)` in `(height, width, c)` and fill the rest with a colour `(c,)`."""
    above, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    whole = np.empty((height, width, pixels.shape[2]), np.uint8)
    whole[:] = background
    whole[above : above + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole
