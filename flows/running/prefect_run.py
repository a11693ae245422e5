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
from tasks.core.records import Outcome, Record, Stage
from tasks.engine.stage import RunContext
from tasks.storage.store import Store


@dataclass
class PrefectHandle:
    """A stage of the recipe, and its task run once it is submitted.

    Attributes:
        stage: its name.
        definition: the stage; None for a result of an earlier run, which `record` has.
        inputs: its inputs by role.
        after: the stages that must end before it starts, besides its inputs.
        downstream: whether it is in `refresh_from`, or downstream of a stage that is.
        recompute: why it is computed even if it is cached; empty if there is no reason.
        future: the future of its task run; None until it is submitted.
    """

    stage: str
    definition: Stage | None
    inputs: dict[str, PrefectHandle]
    after: tuple[PrefectHandle, ...]
    downstream: bool
    recompute: str
    future: PrefectFuture[Outcome] | None = None
    record: Record | None = None


class PrefectRun(Run[PrefectHandle]):
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
        super().__init__(Store(context.store_url))
        self._runner = runner
        self._tasks = tasks
        self._context = context
        self._choice = choice
        self._made: dict[str, PrefectHandle] = {}

    def known(self, name: str, record: Record) -> PrefectHandle:
        """A result of an earlier run."""
        return PrefectHandle(name, None, {}, (), downstream=False, recompute="", record=record)

    def take(
        self, stage: Stage, after: Sequence[PrefectHandle], inputs: Mapping[str, PrefectHandle]
    ) -> PrefectHandle:
        """Submit the stage's task, if the stage is chosen; Prefect waits for inputs and `after`."""
        recomputed = [given.stage for given in inputs.values() if given.downstream]
        handle = self._made[stage.name] = PrefectHandle(
            stage.name,
            stage,
            dict(inputs),
            tuple(after),
            self._choice.is_downstream(stage.name, recomputed),
            self._choice.recompute(stage.name, recomputed),
        )
        if not self._choice.only or stage.name in self._choice.only:
            self._submit(handle)
        self._choice.check_enough(self._made)
        return handle

    def value(self, handle: PrefectHandle) -> Outcome:
        """The outcome of a stage; if it failed, wait for the others and raise its error."""
        if handle.record is not None:
            return handle.record
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
            Exception: the error of the first stage that failed, other than by an input's failure.
        """
        futures = [handle.future for handle in self._made.values() if handle.future]
        for future in futures:
            future.wait()
        for future in futures:
            # A stage whose input failed never starts and remains pending.
            if future.state.is_failed() or future.state.is_crashed():
                future.result()

    def _submit(self, handle: PrefectHandle) -> PrefectFuture[Outcome]:
        if handle.future is None:
            assert handle.definition is not None, "a result of an earlier run is there already"
            inputs = {
                role: given.record or self._submit(given) for role, given in handle.inputs.items()
            }
            after = [self._submit(other) for other in handle.after]
            context = replace(self._context, recompute=handle.recompute)
            parameters = {"stage": handle.definition, "inputs": inputs, "context": context}
            task = self._tasks[handle.definition.kind]
            handle.future = self._runner.submit(task, parameters, wait_for=after)
        return handle.future
