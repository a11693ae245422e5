"""The parts of drawn garments: random draws, shapes and the pattern of the cloth.

Shapes are signed distances (negative inside) on a grid from -1 (left, top) to 1 (right, bottom).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tasks.core.array_types import Float32

SIZE = 28
PIXEL = 2 / SIZE

# One number per image, `(n, 1, 1)`, or one per pixel, `(n, 28, 28)`; both float32.
Field = Float32
Scalar = Field | float


class Dice:
    """Hands out each image's uniform draws, one column `(n, 1, 1)` at a time."""

    def __init__(self, draws: Float32) -> None:
        self._columns: Iterator[Field] = iter(draws.T[:, :, np.newaxis, np.newaxis])

    def __call__(self, low: float, high: float) -> Field:
        """A number from [low, high) for each image."""
        return np.float32(low) + np.float32(high - low) * next(self._columns)

    def chance(self, probability: float) -> Field:
        """1 with that probability for each image, else 0."""
        return (next(self._columns) < probability).astype(np.float32)


def ink(distance: Field) -> Field:
    """The share of each pixel that lies inside, in [0, 1]; the edge is one pixel wide."""
    share: Field = np.clip(0.5 - distance / PIXEL, 0, 1)
    return share


def profile(along: Field, *knots: tuple[Scalar, Scalar]) -> Field:
    """Linear interpolation between `(place, height)` knots, constant beyond the ends."""
    height = np.zeros_like(along) + knots[0][1]
    for (start, low), (end, high) in pairwise(knots):
        height += (high - low) * np.clip((along - start) / (end - start), 0, 1)
    return height


def band(along: Field, start: Scalar, end: Scalar) -> Field:
    """The strip between two coordinates."""
    distance: Field = np.maximum(start - along, along - end)
    return distance


def ellipse(x: Field, y: Field, wide: Scalar, tall: Scalar) -> Field:
    """An ellipse around the origin with these semi-axes; distances are approximate."""
    return (np.sqrt((x / wide) ** 2 + (y / tall) ** 2) - 1) * np.minimum(
        wide, tall, dtype=np.float32
    )


def limb(
    x: Field,
    y: Field,
    start: tuple[Scalar, Scalar],
    end: tuple[Scalar, Scalar],
    radii: tuple[Scalar, Scalar],
) -> Field:
    """A straight sleeve or strap from `start` to `end`, with a radius at each end."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    away = np.sqrt((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)
    distance: Field = away - (1 - along) * radii[0] - along * radii[1]
    return distance


# Strength of vertical and horizontal stripes: plain three times, vertical, horizontal, check, knit.
_WEAVES: Float32 = np.array(
    [[0, 0], [0, 0], [0, 0], [1, 0], [0, 1], [0.6, 0.6], [0.3, 0.6]], dtype=np.float32
)
_KNIT = len(_WEAVES) - 1


def weave(x: Field, y: Field, dice: Dice, strength: float) -> Field:
    """The pattern of the cloth as a factor around 1 with a contrast of at most `strength`."""
    kind = dice(0, len(_WEAVES)).astype(np.intp)
    per_unit = np.where(kind == _KNIT, dice(5.0, 6.5), dice(1.5, 4.5))
    upright, across = _WEAVES[kind, 0], _WEAVES[kind, 1]
    pattern: Field = upright * wave(per_unit * x + dice(0, 1))
    pattern = pattern + across * wave(per_unit * y + dice(0, 1))
    return 1 + strength * dice(0.2, 1.0) * pattern


def wave(turns: Field) -> Field:
    """A triangle wave in [-1, 1] with period 1."""
    wave: Field = 4 * np.abs(turns - np.rint(turns)) - 1
    return wave
