"""The recipe as a Prefect run: each stage becomes a run of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from flows.planning.stage_selection import StageSelection
from flows.recipe.run import Run
from tasks.core.records import Outcome, Stage
from tasks.engine.stage import RunContext


@dataclass
class Handle:
    """A stage of the recipe, and its task run once it is submitted.

    Attributes:
        follows: whether it runs again because of `--from`, or depends on a stage that does.
        anew: why it is computed although it may be cached; empty if it need not be.
    """

    definition: Stage
    inputs: dict[str, Handle]
    after: tuple[Handle, ...]
    follows: bool
    anew: str
    future: PrefectFuture[Outcome] | None = None

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self.definition.name


class PrefectRun(Run[Handle]):
    """Submits the stages of the recipe as runs of their Prefect tasks.

    If only some stages are chosen, the others are submitted when a chosen one needs them.
    """

    def __init__(
        self,
        runner: TaskRunner[Any],
        tasks: Mapping[str, Task[Any, Any]],
        context: RunContext,
        choice: StageSelection,
    ) -> None:
        super().__init__()
        self._runner = runner
        self._tasks = tasks
        self._context = context
        self._choice = choice
        self._made: dict[str, Handle] = {}

    def take(self, stage: Stage, after: Sequence[Handle], inputs: Mapping[str, Handle]) -> Handle:
        """Submit the stage's task; Prefect waits for its inputs and for the stages in `after`."""
        followed = [given.stage for given in inputs.values() if given.follows]
        follows = self._choice.follows(stage.name, followed)
        anew = self._choice.anew(stage.name, followed)
        handle = self._made[stage.name] = Handle(stage, dict(inputs), tuple(after), follows, anew)
        if not self._choice.only or stage.name in self._choice.only:
            self._submit(handle)
        self._choice.check_enough(self._made)
        return handle

    def value(self, handle: Handle) -> Outcome:
        """Wait for the outcome of a stage; raise its error if it failed."""
        try:
            return self._submit(handle).result()
        except Exception:
            self.wait()
            raise

    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of every submitted stage, by name."""
        return {h.stage: h.future.result() for h in self._made.values() if h.future}

    def wait(self) -> None:
        """Wait for every submitted stage.

        Raises:
            Exception: the error of the first stage that failed itself.
        """
        futures = [handle.future for handle in self._made.values() if handle.future]
        for future in futures:
            future.wait()
        for future in futures:
            # A stage whose input failed never starts and remains pending.
            if future.state.is_failed() or future.state.is_crashed():
                future.result()

    def _submit(self, handle: Handle) -> PrefectFuture[Outcome]:
        if handle.future is None:
            inputs = {role: self._submit(given) for role, given in handle.inputs.items()}
            after = [self._submit(other) for other in handle.after]
            context = replace(self._context, recompute=handle.anew)
            parameters = {"stage": handle.definition, "inputs": inputs, "context": context}
            task = self._tasks[handle.definition.kind]
            handle.future = self._runner.submit(task, parameters, wait_for=after)
        return handle.future
