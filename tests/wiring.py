"""Carry a recipe out without computing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.recipe.contents import build
from flows.recipe.run import Run
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.run_settings import Settings


@dataclass
class Wired:
    """A stage and the stages that it was given, by role."""

    definition: Stage
    inputs: dict[str, Wired] = field(default_factory=dict)
    after: tuple[Wired, ...] = ()

    @property
    def stage(self) -> str:
        return self.definition.name


class Wiring(Run[Wired]):
    """Wires stages; each gate that is asked decides for the candidate."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Wired] = []

    def known(self, name: str, record: Record) -> Wired:
        raise AssertionError(f"{name}: no recipe here reads {record.stage} of an earlier run")

    def take(self, stage: Stage, after: Sequence[Wired], inputs: Mapping[str, Wired]) -> Wired:
        wired = Wired(stage, dict(inputs), tuple(after))
        self.taken.append(wired)
        return wired

    def value(self, handle: Wired) -> Outcome:
        facts = {"decision": "forward", "lowest_validation_loss_epoch": 3}
        return Record(handle.stage, handle.definition.kind, "", {}, facts, {})


def wire(**settings: Any) -> dict[str, Wired]:
    """Every stage of a run with these settings, by name."""
    made: dict[str, Wired] = build(Wiring(), Settings.model_validate(settings))
    return made
