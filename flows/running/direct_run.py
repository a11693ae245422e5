"""The recipe carried out in this process, one stage after another, without a Prefect server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prefect import Task

from flows.planning.stage_selection import Enough, StageSelection
from flows.recipe.contents import build
from flows.recipe.run import Run
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.run_settings import Settings
from tasks.engine.stage import RunContext
from tasks.storage.store import Store


@dataclass
class DirectHandle:
    """A stage of the recipe, and its outcome once it was needed.

    `definition` is None for a result of an earlier run.
    """

    stage: str
    definition: Stage | None
    before: tuple[DirectHandle, ...]
    inputs: Mapping[str, DirectHandle]
    outcome: Outcome | None = None


class DirectRun(Run[DirectHandle]):
    """Calls the functions of the stages' Prefect tasks, of the chosen stages and what they need."""

    def __init__(
        self, tasks: Mapping[str, Task[Any, Any]], context: RunContext, choice: StageSelection
    ) -> None:
        super().__init__(Store(context.store_url))
        self._tasks = tasks
        self._context = context
        self._choice = choice
        self._made: dict[str, DirectHandle] = {}

    def known(self, name: str, record: Record) -> DirectHandle:
        """A result of an earlier run."""
        return DirectHandle(name, None, (), {}, record)

    def take(
        self, stage: Stage, after: Sequence[DirectHandle], inputs: Mapping[str, DirectHandle]
    ) -> DirectHandle:
        """Carry the stage out, if it is chosen."""
        handle = self._made[stage.name] = DirectHandle(
            stage.name, stage, tuple(after), dict(inputs)
        )
        if stage.name in self._choice.only:
            self.value(handle)
        self._choice.check_enough(self._made)
        return handle

    def value(self, handle: DirectHandle) -> Outcome:
        """The outcome of a stage, after those that it reads and waits for."""
        if handle.outcome is None:
            assert handle.definition is not None, "a result of an earlier run is there already"
            for other in handle.before:
                self.value(other)
            inputs = {role: self.value(given) for role, given in handle.inputs.items()}
            task = self._tasks[handle.definition.kind]
            handle.outcome = task.fn(handle.definition, inputs, self._context).data
        return handle.outcome

    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of every stage that was carried out, by name."""
        return {name: h.outcome for name, h in self._made.items() if h.outcome is not None}


def carry_out(
    settings: Settings,
    tasks: Mapping[str, Task[Any, Any]],
    context: RunContext,
    choice: StageSelection,
) -> dict[str, Outcome]:
    """Carry out the chosen stages and what they need; return their outcomes by name."""
    run = DirectRun(tasks, context, choice)
    with suppress(Enough):
        build(run, settings)
    return run.outcomes()
