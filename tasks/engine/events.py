"""Events of a run, logged so that a view can show them without parsing text.

Each event is a log record of the logger `fashion_flow`, with the event as its attribute `event`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

log = logging.getLogger("fashion_flow")

RUNNING, WAITING, FAILED = "Running", "Waiting", "Failed"


@dataclass(frozen=True)
class StageEvent:
    """A stage entered a state: `Running`, `Waiting`, `Failed`, or the state in which it ended."""

    stage: str
    state: str
    message: str

    @property
    def ended(self) -> bool:
        """Whether this was the stage's last event, unless it is retried."""
        return self.state not in (RUNNING, WAITING)


@dataclass(frozen=True)
class EpochEvent:
    """A training finished an epoch; `row` has its losses and accuracies by name."""

    stage: str
    epoch: int
    epochs: int
    row: Mapping[str, float]


def stage_is(stage: str, state: str, message: str, level: int = logging.INFO) -> None:
    """Log that a stage entered a state."""
    event = StageEvent(stage, state, message)
    log.log(level, "%-31s %-14s %s", stage, state, message, extra={"event": event})


def log_epoch(stage: str, epoch: int, epochs: int, row: Mapping[str, float]) -> EpochEvent:
    """Log a finished epoch and return the event."""
    values = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name != "epoch")
    event = EpochEvent(stage, epoch, epochs, row)
    log.debug("%-31s epoch %d/%d  %s", stage, epoch, epochs, values, extra={"event": event})
    return event
