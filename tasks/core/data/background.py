"""The background behind the objects of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.rows import RowReader, blocks


def background_brightness(images: RowReader) -> float:
    """The brightness of the background behind the objects, in [0, 1].

    It is the median over the images `(n, h, w, c)` uint8 of the median over an image's outermost
    pixels. Fashion-MNIST has 0: its garments are light on black.
    """
    return float(np.median(np.concatenate([_borders(part) for part in blocks(images)])) / 255)


def _borders(images: NDArray[Any]) -> NDArray[Any]:
    """`(n,)`: the median of each image's outermost pixels."""
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    border = np.concatenate([edge.reshape(len(images), -1) for edge in edges], axis=1)
    found: NDArray[Any] = np.median(border, axis=1)
    return found
