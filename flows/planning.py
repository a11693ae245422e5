"""What a run would do, found without doing it and without Prefect or TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.recipe import build, stage_names
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings import Settings
from tasks.store import Miss, Store

CACHED, WILL_RUN = "cached", "will run"


@dataclass(frozen=True)
class Planned:
    """What a run would do about one stage, and why; `record` where it is cached."""

    stage: str
    state: str
    reason: str
    record: Record | None = None


class _OpenError(Exception):
    """The recipe needs an outcome that is not there yet, so the rest can't be foreseen."""


class PlannedRun:
    """Carries the recipe out by looking each stage up in the store."""

    def __init__(self, store: Store, profile: Mapping[str, Any]) -> None:
        self._store = store
        self._profile = profile
        self.planned: dict[str, Planned] = {}

    def __call__(self, stage: Stage, after: Sequence[Any] = (), **inputs: Any) -> Planned:
        """Look the stage up; it will run where an input has to. The order does not matter here."""
        del after
        planned = self.planned[stage.name] = self._look_up(stage, inputs)
        return planned

    def value(self, handle: Planned) -> Outcome:
        """The record of a cached stage.

        Raises:
            _OpenError: it is not cached; the message is the stage's name.
        """
        if handle.record is None:
            raise _OpenError(handle.stage)
        return handle.record

    def _look_up(self, stage: Stage, inputs: Mapping[str, Planned]) -> Planned:
        waiting = next((item.stage for item in inputs.values() if item.record is None), None)
        if waiting:
            return Planned(stage.name, WILL_RUN, f"after {waiting}")
        records = {role: item.record for role, item in inputs.items() if item.record}
        key, _ = self._store.key_of(stage, records, self._profile)
        found = self._store.lookup(stage, key)
        if isinstance(found, Miss):
            return Planned(stage.name, WILL_RUN, found.reason)
        return Planned(stage.name, CACHED, f"record {key[:16]}", found)


def plan(store: Store, settings: Settings, profile: Mapping[str, Any]) -> list[Planned]:
    """Every stage of a run in the notebook's order, and what a run would do about it."""
    run = PlannedRun(store, profile)
    open_stage = ""
    try:
        build(run, settings)
    except _OpenError as error:
        open_stage = str(error).replace("gate_", "iteration_")
    unseen = f"depends on {open_stage}"
    return [run.planned.get(name, Planned(name, unseen, "")) for name in stage_names(settings)]
