"""Find out what a run would do, without doing it and without Prefect or TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.planning.differences import closest
from flows.planning.stage_selection import EVERYTHING, Enough, StageSelection
from flows.recipe.contents import build, stage_names
from flows.recipe.run import Run
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.core.names import gate_name, iteration_name
from tasks.core.records import Outcome, Record, Stage, digest_of
from tasks.core.settings.run_settings import Settings
from tasks.engine.keys import basis_of
from tasks.storage.run_log import computed
from tasks.storage.store import ABSENT, Miss, Store

CACHED, WILL_RUN, MAY_RUN, OPEN = "cached", "will run", "may run", "open"


@dataclass(frozen=True)
class Planned:
    """What a run would do about one stage.

    Attributes:
        stage: its name.
        state: `cached`; `will run`; `may run` if that depends on an input that will be computed;
            `open` if the stage itself depends on a decision.
        reason: why it is in this state.
        record: its record in the store; None if there is none.
        last: the log entry of the last computation of its record, or of the most similar one.
        downstream: whether it is in `refresh_from`, or downstream of a stage that is.
        needs: the stages that it depends on directly.
    """

    stage: str
    state: str
    reason: str
    record: Record | None = None
    last: Mapping[str, Any] = field(default_factory=dict)
    downstream: bool = False
    needs: tuple[str, ...] = ()


class _OpenError(Exception):
    """The recipe needs an outcome that is not in the store yet, so the rest is unknown."""


class PlannedRun(Run[Planned]):
    """Plans a run: looks each stage of the recipe up in the store instead of computing it."""

    def __init__(self, store: Store, profile: Mapping[str, Any], choice: StageSelection) -> None:
        super().__init__(store)
        self._store = store
        self._profile = profile
        self._choice = choice
        self._computed = computed(store)
        self.planned: dict[str, Planned] = {}

    def known(self, name: str, record: Record) -> Planned:
        """A result of an earlier run."""
        return Planned(name, CACHED, f"record {record.key[:16]}", record)

    def take(
        self, stage: Stage, after: Sequence[Planned], inputs: Mapping[str, Planned]
    ) -> Planned:
        """Look the stage up, and return what a run would do about it."""
        planned = self.planned[stage.name] = self._look_up(stage, inputs, after)
        self._choice.check_enough(self.planned)
        return planned

    def value(self, handle: Planned) -> Outcome:
        """The record of a cached stage.

        Raises:
            _OpenError: the stage is not cached; the message is its name.
        """
        if handle.record is None:
            raise _OpenError(handle.stage)
        return handle.record

    def _look_up(
        self, stage: Stage, inputs: Mapping[str, Planned], after: Sequence[Planned]
    ) -> Planned:
        read = {role: item for role, item in inputs.items() if stage.reads[role]}
        known = {role: item.record for role, item in read.items() if item.record}
        pending = [item.stage for item in read.values() if not item.record]
        basis = basis_of(stage, known, self._profile)
        found = Miss(ABSENT) if pending else self._store.lookup(stage, digest_of(basis))
        record = found if isinstance(found, Record) else None
        nearest, differences = (record, []) if record else self._closest(stage, basis, inputs)
        recomputed = [item.stage for item in inputs.values() if item.downstream]
        recompute = self._choice.recompute(stage.name, recomputed)
        if recompute:
            state, reason = WILL_RUN, recompute
        elif isinstance(found, Record):
            state, reason = CACHED, f"record {found.key[:16]}"
        elif found.reason != ABSENT:
            state, reason = WILL_RUN, found.reason
        else:
            state, reason = _why(nearest is not None, differences, pending)
        return Planned(
            stage.name,
            state,
            reason,
            record,
            self._computed.get(nearest.key, {}) if nearest else {},
            self._choice.is_downstream(stage.name, recomputed),
            # Not results of earlier runs.
            tuple(i.stage for i in (*inputs.values(), *after) if i.stage in self.planned),
        )

    def _closest(
        self, stage: Stage, basis: Mapping[str, Any], inputs: Mapping[str, Planned]
    ) -> tuple[Record | None, list[str]]:
        producers = {role: item.stage for role, item in inputs.items()}
        return closest(self._store.records(stage.name), basis, producers)


def _why(done_before: bool, differences: Sequence[str], pending: Sequence[str]) -> tuple[str, str]:
    """State and reason of a stage whose result is not, or may not be, in the store."""
    if differences:
        return WILL_RUN, "; ".join(differences)
    if not pending:
        return WILL_RUN, ABSENT
    first = pending[0] + (" or another input" if pending[1:] else "")
    return (MAY_RUN, f"if {first} changed") if done_before else (WILL_RUN, f"after {pending[0]}")


def plan(
    store: Store,
    settings: Settings,
    profile: Mapping[str, Any],
    choice: StageSelection = EVERYTHING,
) -> list[Planned]:
    """What a run would do about each of its stages, in the notebook's order.

    Raises:
        UserError: `choice` names a stage that the run does not have, or refreshes one that the
            stages in `only` do not need.
    """
    names = stage_names(settings)
    choice.check(names)
    run = PlannedRun(store, profile, choice)
    open_stage = ""
    try:
        build(run, settings)
    except _OpenError as error:
        open_stage = str(error)
    except Enough:
        pass
    # What a gate of step 7 is waited for is known by its candidate.
    known = {gate_name(n): iteration_name(n) for n in range(1, len(settings.plan) + 1)}
    unseen = f"depends on {known.get(open_stage, open_stage)}"
    shown = set(names)
    if choice.only:
        shown = _needed(run.planned, choice.only | ({open_stage} - {""}))
        unneeded = (choice.refresh | choice.refresh_from) - shown
        if unneeded and not open_stage:
            raise UserError(
                f"{listed(sorted(unneeded))} is not needed by {listed(sorted(choice.only))}, "
                "so it would not be computed again; name it with --only, too."
            )
    return [run.planned.get(name, Planned(name, OPEN, unseen)) for name in names if name in shown]


def _needed(planned: Mapping[str, Planned], wanted: Iterable[str]) -> set[str]:
    """The wanted stages and all stages that they depend on, directly or indirectly."""
    needed = set(wanted)
    pending = [name for name in needed if name in planned]
    while pending:
        needs = planned[pending.pop()].needs
        pending += [name for name in needs if name not in needed]
        needed |= set(needs)
    return needed
