"""Convert raw images and labels to the arrays that networks read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, UInt8


def scaled(images: UInt8) -> Float32:
    """`(n, h, w, c)` uint8 in [0, 255] as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def one_hot(labels: NDArray[Any], classes: int) -> Float32:
    """`(n,)` class indices as `(n, classes)` float32, 1 at the label and 0 elsewhere."""
    found = np.zeros((len(labels), classes), np.float32)
    found[np.arange(len(labels)), labels] = 1
    return found
