"""The size and colours of a data set's images, chosen from its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.data.photographs import Frame
from tasks.core.settings.images import ImageSettings

# Images of one size keep it up to this many pixels a side.
LARGEST_KEPT = 128
# Other pictures get the largest of these sides at which all of them together have at most so many
# pixels, so that the notebook's plan takes minutes. (The notebook has 8 million, but its networks
# take more time per pixel of larger images.)
SIDES = (64, 48, 40, 32)
MOST_PIXELS = 4_000_000


def chosen_frame(shapes: Sequence[tuple[int, int, int]], settings: ImageSettings) -> Frame:
    """The frame for pictures of these shapes `(height, width, channels)`, at least one."""
    found = max(shape[2] for shape in shapes)
    channels = {"auto": found, "grey": 1, "rgb": 3}[settings.colour]
    sizes = {shape[:2] for shape in shapes}
    if settings.side is not None:
        return Frame(settings.side, settings.side, channels, settings.fit)
    height, width = max(sizes)
    if len(sizes) == 1 and max(height, width) <= LARGEST_KEPT:
        return Frame(height, width, channels, settings.fit)
    affordable = (side for side in SIDES if len(shapes) * side**2 <= MOST_PIXELS)
    sides = sorted(min(shape[:2]) for shape in shapes)
    side = min(next(affordable, SIDES[-1]), sides[(len(sides) - 1) // 2])
    return Frame(side, side, channels, settings.fit)
