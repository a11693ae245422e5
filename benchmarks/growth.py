"""Seconds and peak memory of every stage as the number of images grows.

    python benchmarks/growth.py [--images 2000 8000 20000 60000] [--no-transfer]

Each stage runs in a process of its own, so that its peak is its own: what importing its libraries
takes, plus what it holds of its data. Every training has one epoch, which decides the time and not
the memory; the plan has one change, augmentation, which takes the most. One in five images is held
out for validation, and there is one test image for six others. VGG16 has random weights. Images are
drawn, grey, 28 x 28: which they are changes neither. With 60,000 images it takes an hour or so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.build_model import TASKS
from flows.presets import FULL
from flows.recipe import build
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings import Settings
from tasks.core.specs import ExecutionSettings
from tasks.runtime import resolve_profile
from tasks.stage import RunContext

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds, peak MiB of its process, MiB of what it read and left."""

    seconds: float
    peak: float
    data: float


class ApartRun:
    """Carries the recipe out, each stage in a process of its own."""

    def __init__(self, root: Path, profile: Mapping[str, Any]) -> None:
        self._context = RunContext(str(root), "growth", profile, workers=1)
        self.costs: dict[str, Cost] = {}

    def __call__(self, stage: Stage, after: Sequence[Any] = (), **inputs: Outcome) -> Outcome:
        del after
        arguments = (stage, inputs, self._context)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            outcome, seconds, peak = pool.apply(computed, arguments)
        read = sum(
            given.files[name].size
            for role, given in inputs.items()
            if isinstance(given, Record)
            for name in stage.reads[role]
            if name in given.files
        )
        left = sum(f.size for f in outcome.files.values()) if isinstance(outcome, Record) else 0
        self.costs[stage.name] = Cost(seconds, peak / MIB, (read + left) / MIB)
        print(f"{stage.name:<32}{seconds:8.1f} s{peak / MIB:8.0f} MiB", flush=True)
        found: Outcome = outcome
        return found

    def value(self, handle: Outcome) -> Outcome:
        return handle


def computed(
    stage: Stage, inputs: dict[str, Outcome], context: RunContext
) -> tuple[Outcome, float, int]:
    """The stage's outcome, its seconds, and the process's peak in bytes."""
    began = time.perf_counter()
    outcome = TASKS[stage.kind].fn(stage, inputs, context).data
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return outcome, time.perf_counter() - began, peak


def settings_with(images: int, transfer: bool) -> Settings:
    """All of that many images, one epoch of everything."""
    one = {"epochs": 1}
    full = FULL.model_dump()
    models = {name: full[name] | one for name in ("baseline", "low_capacity", "overfitting")}
    augmented = full["plan"][-1]
    ways = {
        way: full["transfer"][way] | one | {"fine_tune_epochs": 1}
        for way in ("as_notebook", "corrected")
    }
    return Settings.model_validate(
        full
        | models
        | {
            "dataset": "synthetic",
            "synthetic": {"train": images, "test": images // 6},
            "plan": [augmented | {"change": augmented["change"] | one}],
            "transfer": full["transfer"] | ways | {"weights": "random" if transfer else "off"},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 8000, 20000, 60000])
    parser.add_argument("--no-transfer", action="store_true", help="leave VGG16 out")
    options = parser.parse_args()
    profile = resolve_profile(ExecutionSettings(device="cpu"))
    found: dict[int, dict[str, Cost]] = {}
    for images in options.images:
        print(f"\n{images:,} images")
        with tempfile.TemporaryDirectory() as folder:
            run = ApartRun(Path(folder), profile)
            build(run, settings_with(images, not options.no_transfer))
            found[images] = run.costs
    _show(found)


def _show(found: Mapping[int, Mapping[str, Cost]]) -> None:
    sizes = list(found)
    print(f"\nPeak MiB (and seconds); of the largest, MiB read and left\n{'stage':<32}", end="")
    print("".join(f"{size:>16,}" for size in sizes), f"{'data':>10}{'MiB per 1,000':>15}")
    for stage in found[sizes[-1]]:
        costs = [found[size].get(stage) for size in sizes]
        cells = [f"{cost.peak:,.0f} ({cost.seconds:,.1f})" if cost else "" for cost in costs]
        known = [(size, cost.peak) for size, cost in zip(sizes, costs, strict=True) if cost]
        slope = np.polyfit(*zip(*known, strict=True), 1)[0] * 1000 if len(known) > 1 else np.nan
        last = costs[-1]
        assert last is not None
        row = "".join(f"{cell:>16}" for cell in cells)
        print(f"{stage:<32}{row} {last.data:>10,.0f}{slope:>15.1f}")


if __name__ == "__main__":
    main()
