"""The size and colours of a data set's images, chosen from its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.data.photographs import Frame
from tasks.core.settings.images import ImageSettings

# Images of one size keep it up to this many pixels a side.
LARGEST_KEPT = 128
# Of pictures of many sizes, details below this size rarely tell classes apart, and the time of a
# training grows with the square of the side.
LARGEST_CHOSEN = 64


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
    sides = sorted(min(shape[:2]) for shape in shapes)
    side = min(LARGEST_CHOSEN, sides[(len(sides) - 1) // 2])
    return Frame(side, side, channels, settings.fit)
