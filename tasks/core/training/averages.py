"""Averages of a network's weights over epochs, beside the weights that are trained.

They are no part of the optimiser: Keras's own averages replace the weights at the end of each call
of `fit`, and every epoch is such a call here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.core.settings.optimization import AverageSettings

Values = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Averages:
    """How the values of a model's variables are averaged.

    A state holds the values of all variables of a training, those of the model first, and after
    them the averages of the model's.

    Attributes:
        settings: the kind of average.
        epochs: the number of epochs of the training.
        count: the number of the model's variables.
    """

    settings: AverageSettings
    epochs: int
    count: int

    @property
    def wanted(self) -> bool:
        """Whether there are any averages."""
        return self.settings.kind != "none"

    def of(self, state: Sequence[Any]) -> Values:
        """The averages in a state."""
        return tuple(state[-self.count :])

    def without(self, state: Sequence[Any]) -> Values:
        """A state without its averages."""
        return tuple(state[: -self.count] if self.wanted else state)

    def after(self, epoch: int, before: Sequence[Any], values: Values) -> Values:
        """The state after an epoch, from 1, given that before it and the new values."""
        if not self.wanted:
            return values
        weight = self._weight(epoch)
        new = values[: self.count]
        old = self.of(before) if before else new
        return values + tuple(
            # Counters and the states of random generators have no average.
            (one + weight * (two - one)).astype(two.dtype) if two.dtype.kind == "f" else two
            for one, two in zip(old, new, strict=True)
        )

    def _weight(self, epoch: int) -> np.float32:
        """The weight of the new values."""
        if self.settings.kind == "ema":
            # The average starts at the first epoch's values.
            return np.float32(1 - self.settings.decay)
        begun = epoch - max(0, self.epochs - self.settings.epochs)
        return np.float32(1 / max(1, begun))
