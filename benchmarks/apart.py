"""Run the recipe with each stage in a new process, to measure each stage's time and memory.

The parent process must not import TensorFlow: on Linux, a process's peak memory is at least that of
the process that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe.run import Run
from tasks.core.records import Outcome, Record, Stage
from tasks.engine.profile import prepare

if TYPE_CHECKING:
    from tasks.engine.stage import RunContext

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """The cost of a stage: wall seconds, CPU seconds, and its process's peak memory in MiB.

    The process imports TensorFlow before the stage, so the import only affects the peak.
    """

    wall: float
    cpu: float
    peak: float


class ApartRun(Run[Any]):
    """Runs the recipe; calls `seen` with each stage, its inputs, its outcome and its cost."""

    def __init__(
        self,
        root: Path,
        profile: Mapping[str, Any],
        seen: Callable[[Stage, Mapping[str, Outcome], Outcome, Cost], None],
    ) -> None:
        from tasks.engine.stage import RunContext

        super().__init__()
        self._context = RunContext(str(root), "apart", profile, workers=1)
        self._seen = seen

    def known(self, name: str, record: Record) -> Outcome:
        return replace(record, stage=name)

    def take(self, stage: Stage, after: Sequence[Any], inputs: Mapping[str, Outcome]) -> Outcome:
        del after
        # Unlike a Pool, this notices if the process is killed, e.g. because memory runs out.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            outcome, cost = pool.submit(_computed, stage, dict(inputs), self._context).result()
        print(
            f"{stage.name:<32}{cost.wall:8.1f} s{cost.cpu:8.1f} s of CPU{cost.peak:8,.0f} MiB",
            flush=True,
        )
        self._seen(stage, inputs, outcome, cost)
        return outcome

    def value(self, handle: Outcome) -> Outcome:
        return handle


def _computed(
    stage: Stage, inputs: dict[str, Outcome], context: RunContext
) -> tuple[Outcome, Cost]:
    from flows.build_model import TASKS

    # Discard TensorFlow's messages. Errors are raised as exceptions.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    prepare(stage.spec.arithmetic, context.profile)
    wall, cpu = time.perf_counter(), time.process_time()
    outcome: Outcome = TASKS[stage.kind].fn(stage, inputs, context).data
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    return outcome, Cost(wall, cpu, peak)
