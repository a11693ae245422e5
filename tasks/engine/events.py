"""What happens in a run, as log records that a view can show without reading their text.

Every event is a log record of `fashion_flow`; the event itself is its attribute `event`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

log = logging.getLogger("fashion_flow")

RUNNING, WAITING, FAILED = "Running", "Waiting", "Failed"


@dataclass(frozen=True)
class StageEvent:
    """A stage came into a state: `Running`, `Waiting`, `Failed`, or that of its end."""

    stage: str
    state: str
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the stage."""
        return self.state not in (RUNNING, WAITING)


@dataclass(frozen=True)
class EpochEvent:
    """An epoch of a training is done; `row` has its losses and accuracies by name."""

    stage: str
    epoch: int
    epochs: int
    row: Mapping[str, float]


def stage_is(stage: str, state: str, message: str, level: int = logging.INFO) -> None:
    """Log a stage's state."""
    event = StageEvent(stage, state, message)
    log.log(level, "%-31s %-14s %s", stage, state, message, extra={"event": event})


def log_epoch(stage: str, epoch: int, epochs: int, row: Mapping[str, float]) -> EpochEvent:
    """Log an epoch; return the event."""
    values = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name != "epoch")
    event = EpochEvent(stage, epoch, epochs, row)
    log.debug("%-31s epoch %d/%d  %s", stage, epoch, epochs, values, extra={"event": event})
    return event
