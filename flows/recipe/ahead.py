"""What the iterations ahead may train, as far as decisions are open."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tasks.core.errors import UserError
from tasks.core.settings.base import changed
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import Decision, Iteration, TrainSettings

# Each open decision doubles the settings that may be tried later. Beyond this number, some are
# ignored. A training may then start from scratch although a snapshot could have been kept, and the
# options of a user's own network may be checked only when it is trained.
MOST_AHEAD = 4_096


def candidates(
    settings: Settings, possible: Sequence[TrainSettings], after: int
) -> set[TrainSettings]:
    """All settings that the iterations after iteration `after` may train.

    `possible` are the settings that may be the incumbent's by then. In the result, epochs taken
    from the overfitting model are not resolved.
    """
    incumbents = set(possible)
    tried: set[TrainSettings] = set()
    for number, iteration in enumerate(settings.plan[after:], start=after + 1):
        forward = set()
        for training in incumbents:
            with suppress(UserError):  # the change does not fit this incumbent
                forward.add(changed(training, iteration.change))
        tried |= forward
        known = known_decision(settings, number, iteration)
        if known == "forward":
            incumbents = forward
        elif known is None and len(incumbents) + len(forward) <= MOST_AHEAD:
            incumbents |= forward
    return tried


def known_decision(settings: Settings, gate: int, iteration: Iteration) -> Decision | None:
    """The decision if it is forced or replayed; None if it depends on the trainings."""
    replayed = iteration.replay if settings.replays else None
    return settings.force.get(gate, replayed)
