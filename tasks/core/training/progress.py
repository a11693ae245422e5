"""The state of a training between two epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, float]


@dataclass(frozen=True)
class Progress:
    """Everything that the rest of a training depends on, after a whole number of epochs.

    Attributes:
        history: a row an epoch, as `tasks.core.training.loop.train` returns them.
        variables: values of the model's variables, those of its seed generators included, then of
            the optimizer's.
    """

    history: tuple[Row, ...]
    variables: tuple[np.ndarray[Any, Any], ...]

    @property
    def epoch(self) -> int:
        """The number of epochs done."""
        return len(self.history)
