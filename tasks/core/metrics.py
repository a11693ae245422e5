"""Counts of right and wrong predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data import Int64


def confusion_matrix(predicted: NDArray[Any], labels: NDArray[Any], classes: int) -> Int64:
    """`(classes, classes)` counts: row = label, column = prediction."""
    cells = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
    return cells.reshape(classes, classes)
