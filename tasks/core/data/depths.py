"""Which number is white where pixels have more than 8 bits, and how they become 8."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import UInt8

# The bits per number that scanners and cameras use in files of 16 bits.
DEPTHS = (8, 10, 12, 14, 16)
WHITES = tuple((1 << depth) - 1 for depth in DEPTHS)


def white_of(highest: int, white: int = 255) -> int:
    """The number that is white where whole numbers may have more than 8 bits.

    Files of 16 bits often use only some of them. White is the largest number of the least depth in
    `DEPTHS` that has all numbers.

    Args:
        highest: the largest number, at most 65,535.
        white: what is white in other images of the same data set, 255 to 65,535; the result is not
            less.
    """
    return min(one for one in WHITES if one >= max(highest, white))


def scaled(numbers: NDArray[Any], white: int) -> UInt8:
    """Whole numbers from 0 to `white` as uint8 from 0 to 255, of the same shape."""
    wide = numbers.astype(np.uint32)
    found: UInt8 = ((wide * 255 + white // 2) // white).astype(np.uint8)
    return found
