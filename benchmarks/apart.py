"""Carry the recipe out, each stage in a process of its own, so that what it takes is its own.

TensorFlow stays out of the process that runs it: to Linux a process has at least the peak memory of
the one that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe.run import Run
from tasks.core.records import Outcome, Stage
from tasks.engine.profile import configure

if TYPE_CHECKING:
    from tasks.engine.stage import RunContext

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds, those of the processor, and its process's peak in MiB.

    TensorFlow is imported beforehand, so that counts for the peak only.
    """

    wall: float
    cpu: float
    peak: float


class ApartRun(Run[Any]):
    """Carries the recipe out and tells `seen` of each stage, its inputs, its outcome and cost."""

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

    def take(self, stage: Stage, after: Sequence[Any], inputs: Mapping[str, Outcome]) -> Outcome:
        del after
        # Unlike a Pool, this notices a process that was killed, for want of memory for one.
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

    # TensorFlow's notes on itself; what goes wrong is raised.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    if stage.spec.numerical:
        configure(context.profile)
    wall, cpu = time.perf_counter(), time.process_time()
    outcome: Outcome = TASKS[stage.kind].fn(stage, inputs, context).data
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    return outcome, Cost(wall, cpu, peak)
