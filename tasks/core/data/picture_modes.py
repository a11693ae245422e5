"""Pictures of any mode, depth and colour profile as eight-bit grey or sRGB."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from tasks.core.array_types import UInt8
from tasks.core.data.depths import scaled, white_of
from tasks.core.errors import UserError


def upright(picture: Image.Image) -> Image.Image:
    """Turned as the EXIF orientation says, and converted from its colour profile to sRGB."""
    return _in_srgb(ImageOps.exif_transpose(picture))


def eight_bits(picture: Image.Image) -> Image.Image:
    """Convert a picture to eight bits per channel: L or RGB, or LA or RGBA with transparency.

    Numbers with a fraction are from 0 to 1 if none is larger, else from 0 to 255. Whole numbers of
    more bits are not known here: see `Numbers`.

    Raises:
        UserError: the pixels are numbers for which black and white are not defined.
    """
    mode = picture.mode
    if mode == "F":
        return Image.fromarray(_from_fractions(np.asarray(picture)))
    grey = mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        return picture.convert("LA" if grey else "RGBA")
    return picture.convert("L" if grey else "RGB")


def in_channels(picture: Image.Image, channels: int) -> Image.Image:
    """Convert L, LA, RGB or RGBA to 1 channel (ITU-R 601 luma) or 3; keep transparency."""
    mode = mode_of(channels) + ("A" if picture.mode.endswith("A") else "")
    return picture if picture.mode == mode else picture.convert(mode)


def mode_of(channels: int) -> str:
    """Pillow's name for 1 or 3 channels of eight bits."""
    return "L" if channels == 1 else "RGB"


def channels_of(mode: str) -> int:
    """1 for a mode of Pillow without colour, else 3."""
    return 1 if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I") else 3


@dataclass(frozen=True)
class Numbers:
    """The whole numbers of a picture of more than 8 bits per channel.

    Attributes:
        colours: `(h, w, 1 or 3)`, from 0 to 65,535.
        opacity: `(h, w)`, from 0 to 65,535; None where everything is opaque.
        highest: the largest number of the colours, or what the file says that white is.
    """

    colours: NDArray[Any]
    opacity: NDArray[Any] | None
    highest: int

    def picture(self, white: int) -> Image.Image:
        """L, LA, RGB or RGBA; white is not less than `white`, see `white_of`."""
        white = white_of(self.highest, white)
        parts = [scaled(self.colours[..., at], white) for at in range(self.colours.shape[2])]
        if self.opacity is not None:
            # Often of 16 bits where the colours use fewer.
            parts.append(scaled(self.opacity, white_of(int(self.opacity.max()), white)))
        modes = ("L", "LA", "RGB", "RGBA")
        return Image.merge(modes[len(parts) - 1], [Image.fromarray(part) for part in parts])


def _from_fractions(pixels: NDArray[np.float32]) -> UInt8:
    """`(h, w)` float as uint8."""
    check_span(pixels, 255)
    highest = pixels.max()
    found: UInt8 = np.rint(pixels * (255 if highest <= 1 else 1)).astype(np.uint8)
    return found


def check_span(pixels: NDArray[Any], highest: int) -> None:
    """Refuse numbers below 0 or above `highest`.

    Raises:
        UserError: there are some, so black and white are not defined.
    """
    if not (pixels.min() >= 0 and pixels.max() <= highest):
        raise UserError(
            f"has pixels from {pixels.min():g} to {pixels.max():g}, for which black and white are "
            "not defined; save it with 8 or 16 bits per channel."
        )


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of colours from its own profile to sRGB; keep one without a profile."""
    content = picture.info.get("icc_profile")
    if not content or picture.mode not in ("RGB", "RGBA", "P", "PA", "CMYK"):
        return picture
    if picture.mode in ("P", "PA"):
        transparent = picture.has_transparency_data
        picture = picture.convert("RGBA" if transparent else "RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        if _IS_SRGB.fullmatch(ImageCms.getProfileDescription(profile).strip().lower()):
            return picture
        colours = picture.convert("RGB") if picture.mode == "RGBA" else picture
        found = ImageCms.profileToProfile(colours, profile, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A profile that is damaged, or one for another kind of colours, is no reason to lose
        # the picture.
        return picture
    assert found is not None, "only a conversion in place returns None"
    if picture.mode == "RGBA":
        found.putalpha(picture.getchannel("A"))
    return found


# Descriptions of the profile of sRGB itself; converting from it would only cost time.
_IS_SRGB = re.compile(r"srgb( built-in| iec61966-2[-.]1.*| color space profile)?|c2")
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
