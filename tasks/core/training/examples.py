"""Labelled inputs of a network, made into batches when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, Int64
from tasks.core.data.preprocessing import one_hot, scaled
from tasks.core.data.rows import Joined, Picked, RowReader, read_ahead


@dataclass(frozen=True)
class Examples:
    """Inputs with their labels.

    Attributes:
        x: `(n, h, w, c)` uint8 images, or `(n, ...)` float32 inputs; need not be in memory.
        labels: `(n,)` class indices in [0, classes), of any integer type.
        classes: the number of classes.
        weights: `(n,)` float32, how much each example counts in training; None if all count the
            same. Scores ignore them.
    """

    x: RowReader
    labels: NDArray[Any]
    classes: int
    weights: Float32 | None = None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, chosen: slice | Int64) -> tuple[Float32, Float32]:
        """Some inputs `(m, ...)` float32, images in [0, 1]; one-hot labels `(m, classes)`."""
        x = self.x[chosen]
        return (
            scaled(x) if x.dtype == np.uint8 else x,
            one_hot(self.labels[chosen], self.classes),
        )

    def batches(self, size: int) -> Iterator[tuple[Float32, Float32]]:
        """All examples in order, in batches; what is not in memory is read ahead."""
        found = (self.batch(slice(start, start + size)) for start in range(0, len(self), size))
        return found if isinstance(self.x, np.ndarray) else read_ahead(found)

    def take(self, positions: Int64) -> Examples:
        """The examples at `positions`, in that order; no input is copied."""
        weights = None if self.weights is None else self.weights[positions]
        return Examples(Picked(self.x, positions), self.labels[positions], self.classes, weights)


def joined(parts: Sequence[Examples]) -> Examples:
    """Consecutive examples of the same classes; no input is copied.

    Where only some parts have weights, the others count 1.
    """
    weights = None
    if any(part.weights is not None for part in parts):
        ones = [np.ones(len(part), np.float32) for part in parts]
        weights = np.concatenate(
            [
                one if part.weights is None else part.weights
                for part, one in zip(parts, ones, strict=True)
            ]
        )
    return Examples(
        Joined([part.x for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].classes,
        weights,
    )
