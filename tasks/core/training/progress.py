"""The state of a training between two epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, float]


@dataclass(frozen=True)
class Progress:
    """Everything that determines the rest of a training, after a whole number of epochs.

    Attributes:
        history: one row per epoch, as in `tasks.core.training.loop.train`.
        variables: values of the model's variables, including its seed generators, followed by those
            of the optimizer.
    """

    history: tuple[Row, ...]
    variables: tuple[np.ndarray[Any, Any], ...]

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return len(self.history)
