"""Convert pictures of any size and kind to images like those that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from tasks.core.array_types import UInt8
from tasks.core.data.picture_modes import eight_bits, in_channels, mode_of, upright

Invert = Literal["auto", "yes", "no"]
Fit = Literal["pad", "crop", "stretch"]

# A picture is inverted only if that brings its background (brightness 0 to 1) nearer to the data
# set's by more than this. A middle grey (0.4 to 0.6 for Fashion-MNIST) is not clear enough.
CLEAR_DIFFERENCE = 0.2

# Lanczos avoids moire when a picture shrinks and blocks when it grows, and keeps edges sharp.
# Fashion-MNIST's makers sharpened after shrinking, so blurring filters, such as box averages, give
# images less like theirs. Overshoot beside an edge is clipped to 0 and 255.
FILTER = Image.Resampling.LANCZOS

WHITE = 255


@dataclass(frozen=True)
class Frame:
    """The size into which pictures are fitted.

    `channels` is 1 (grey) or 3 (RGB). `fit` says what happens to pictures of other proportions:
    `pad` fills the rest with their background, `crop` cuts off what is outside, `stretch` changes
    the proportions. `white` is the least number that is white in images of more than 8 bits, see
    `tasks.core.data.depths.white_of`.
    """

    height: int
    width: int
    channels: int
    fit: Fit = "pad"
    white: int = field(default=255, kw_only=True)


@dataclass(frozen=True)
class ImageFormat(Frame):
    """The images of a data set: their frame, and the brightness of their background, in [0, 1].

    See `tasks.core.data.background.background_brightness`.
    """

    background: float = 0.0


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


def framed(picture: Image.Image, frame: Frame) -> UInt8:
    """Turn a decoded picture into an image of a data set: `(height, width, channels)` uint8.

    It is turned according to its EXIF data, and its colours become sRGB. If it then has the frame's
    size and channels, it keeps every bit. Otherwise it is converted to RGB or grey, and resized;
    transparent parts get its background colour; it is centred.

    Raises:
        UserError: the pixels are numbers for which black and white are not defined.
    """
    return _framed(upright(picture), frame)[0]


def prepared(picture: Image.Image, like: ImageFormat, invert: Invert = "auto") -> Prepared:
    """Turn a decoded picture into an image like those of a data set: framed, perhaps inverted.

    With `auto`, a grey picture is inverted if its background is clearly unlike the data set's and
    the inverted background is not, unless it already has the data set's size: then it most likely
    comes from the data set. Colour pictures are never inverted automatically.

    Raises:
        UserError: the pixels are numbers for which black and white are not defined.
    """
    found = upright(picture)
    pixels, background = _framed(found, like)
    unlike = like.channels == 1 and is_unlike(background[0] / 255, like.background)
    inverts = invert == "yes" or (invert == "auto" and unlike and not _has_size(found, like))
    return Prepared(inverted(pixels) if inverts else pixels, inverts, unlike and not inverts)


def _framed(picture: Image.Image, frame: Frame) -> tuple[UInt8, UInt8]:
    """An upright picture in a frame, and its background colour `(channels,)`."""
    if _has_size(picture, frame):
        return _pixels(picture), background_color(picture)
    found = in_channels(eight_bits(picture), frame.channels)
    background = background_color(found)
    pixels = on_background(_resized(found, frame), background)
    return padded(pixels, background, frame.height, frame.width), background


def _has_size(picture: Image.Image, frame: Frame) -> bool:
    return picture.mode == mode_of(frame.channels) and picture.size == (frame.width, frame.height)


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


def _resized(picture: Image.Image, frame: Frame) -> UInt8:
    """Scaled into the frame, at least one pixel on each side; cut to it if that is its fit."""
    into = (frame.width, frame.height)
    if frame.fit == "stretch":
        return _pixels(picture.resize(into, FILTER))
    ratios = [new / old for old, new in zip(picture.size, into, strict=True)]
    if frame.fit == "pad":
        scale = min(ratios)
        width, height = (max(1, round(length * scale)) for length in picture.size)
        return _pixels(picture.resize((width, height), FILTER))
    # Rounding must not make the part that is kept larger than the picture.
    kept = [min(old, new / max(ratios)) for old, new in zip(picture.size, into, strict=True)]
    left, above = ((old - new) / 2 for old, new in zip(picture.size, kept, strict=True))
    box = (left, above, picture.width - left, picture.height - above)
    return _pixels(picture.resize(into, FILTER, box))


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
