"""The size and colours of a data set's images, chosen from its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tasks.core.data.photographs import Frame
from tasks.core.settings.images import ImageSettings

# Images of one size keep it up to this many pixels a side.
LARGEST_KEPT = 128
# Other pictures get the largest of these sides at which all of them together have at most so many
# pixels, so that the notebook's plan takes minutes. (The notebook has 8 million, but its networks
# take more time per pixel of larger images.)
SIDES = (64, 48, 40, 32)
MOST_PIXELS = 4_000_000


class Traits(NamedTuple):
    """What an image is like before it is framed.

    Attributes:
        height: in pixels, after its EXIF rotation; so is the width.
        channels: 1 or 3, without opacity.
        white: the number that is white in it alone, if it has more than 8 bits; otherwise 255.
    """

    height: int
    width: int
    channels: int
    white: int = 255


def chosen_frame(images: Sequence[Traits], settings: ImageSettings) -> Frame:
    """The frame for all of these images, at least one."""
    height, width = _size(images, settings.side)
    found = max(image.channels for image in images)
    channels = {"auto": found, "grey": 1, "rgb": 3}[settings.colour]
    white = max(image.white for image in images)
    return Frame(height, width, channels, settings.fit, white=white)


def _size(images: Sequence[Traits], side: int | None) -> tuple[int, int]:
    """Height and width."""
    if side is not None:
        return side, side
    sizes = {(image.height, image.width) for image in images}
    height, width = max(sizes)
    if len(sizes) == 1 and max(height, width) <= LARGEST_KEPT:
        return height, width
    affordable = (side for side in SIDES if len(images) * side**2 <= MOST_PIXELS)
    sides = sorted(min(image.height, image.width) for image in images)
    side = min(next(affordable, SIDES[-1]), sides[(len(sides) - 1) // 2])
    return side, side
