"""Seconds and peak memory of every stage as the number of images grows.

    python benchmarks/growth.py [--images 2000 8000 20000 60000] [--no-transfer]
                                [--only load explore subset guard preprocess]

Each stage runs in a process of its own, so that its peak is its own: what importing its libraries
takes, plus what it holds of its data. Every training has one epoch, which decides the time and not
the memory; the plan has one change, augmentation, which takes the most. One in six images is held
out for validation, and there is one test image for six others. VGG16 has random weights. Images are
drawn, grey, 28 x 28: which they are changes neither, but for `guard`, where more alike cost more.
With 60,000 images it takes an hour or so; `--only` ends when these stages are done.

The table says for each stage: the seconds of the processor for 1,000 images more, and how many
times as many as a line through the smaller numbers says the largest took (1 is linear); the MiB of
peak memory for 1,000 images more, the MiB of arrays and tables in memory that it reads and leaves
for 1,000 images more, and the one divided by the other (at most 2 is wanted).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.build_model import TASKS
from flows.presets import FULL
from flows.recipe import build
from tasks.core.records import Outcome, Record, Stage, StoredFile
from tasks.core.settings import Settings
from tasks.core.specs import ExecutionSettings
from tasks.runtime import resolve_profile
from tasks.stage import RunContext

MIB = 2**20
# Bytes of a column's values.
WIDTHS = {"int64": 8, "double": 8, "float": 4, "int32": 4, "uint8": 1, "bool": 1}


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds, those of the processor, peak MiB of its process.

    `data` is the MiB in memory of the arrays and tables that it read and left.
    """

    seconds: float
    processor: float
    peak: float
    data: float


class AllMeasuredError(Exception):
    """All stages that were asked for are measured."""


class ApartRun:
    """Carries the recipe out, each stage in a process of its own, up to the last that is wanted."""

    def __init__(self, root: Path, profile: Mapping[str, Any], only: Sequence[str]) -> None:
        self._context = RunContext(str(root), "growth", profile, workers=1)
        self._only = set(only)
        self.costs: dict[str, Cost] = {}

    def __call__(self, stage: Stage, after: Sequence[Any] = (), **inputs: Outcome) -> Outcome:
        del after
        arguments = (stage, inputs, self._context)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            outcome, seconds, processor, peak = pool.apply(computed, arguments)
        read = [
            given.files[name]
            for role, given in inputs.items()
            if isinstance(given, Record)
            for name in stage.reads[role]
            if name in given.files
        ]
        left = [*outcome.files.values()] if isinstance(outcome, Record) else []
        data = sum(map(in_memory, (*read, *left))) / MIB
        self.costs[stage.name] = Cost(seconds, processor, peak / MIB, data)
        print(
            f"{stage.name:<32}{seconds:8.1f} s{processor:8.1f} s of processor"
            f"{peak / MIB:8.0f} MiB, data {data:.0f} MiB",
            flush=True,
        )
        if self._only and self._only <= self.costs.keys():
            raise AllMeasuredError
        found: Outcome = outcome
        return found

    def value(self, handle: Outcome) -> Outcome:
        return handle


def in_memory(file: StoredFile) -> int:
    """Bytes of a file's arrays or columns in memory; of anything else its size."""
    if file.kind == "npz":
        arrays = (described.split(" ", 1) for described in file.schema.values())
        return sum(np.dtype(kind).itemsize * math.prod(json.loads(n)) for kind, n in arrays)
    if file.kind == "parquet":
        columns = (kind for name, kind in file.schema.items() if name != "rows")
        # Names are a few bytes long, and each has an offset.
        sizes = (WIDTHS.get(kind, 12) for kind in columns)
        return int(file.schema["rows"]) * sum(sizes)
    return file.size


def computed(
    stage: Stage, inputs: dict[str, Outcome], context: RunContext
) -> tuple[Outcome, float, float, int]:
    """The stage's outcome, its seconds, those of the processor, and the process's peak in bytes."""
    began, busy = time.perf_counter(), time.process_time()
    outcome = TASKS[stage.kind].fn(stage, inputs, context).data
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return outcome, time.perf_counter() - began, time.process_time() - busy, peak


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
    parser.add_argument("--only", nargs="+", default=[], help="end after these stages")
    options = parser.parse_args()
    profile = resolve_profile(ExecutionSettings(device="cpu"))
    found: dict[int, dict[str, Cost]] = {}
    for images in options.images:
        print(f"\n{images:,} images")
        with tempfile.TemporaryDirectory() as folder:
            run = ApartRun(Path(folder), profile, options.only)
            with suppress(AllMeasuredError):
                build(run, settings_with(images, not options.no_transfer))
            found[images] = run.costs
    _show(found)


def _show(found: Mapping[int, Mapping[str, Cost]]) -> None:
    sizes = list(found)
    print("\nPeak MiB (and seconds of the processor); then, for 1,000 images more, see above")
    print(f"{'stage':<24}" + "".join(f"{size:>16,}" for size in sizes), end="")
    print("".join(f"{title:>10}" for title in ("s", "of a line", "peak MiB", "data MiB", "ratio")))
    for stage in found[sizes[-1]]:
        costs = [found[size][stage] for size in sizes if stage in found[size]]
        row = "".join(f"{f'{cost.peak:,.0f} ({cost.processor:,.1f})':>16}" for cost in costs)
        print(f"{stage:<24}{row}", end="")
        if len(costs) == len(sizes) > 2:
            seconds, peak, data = (
                [getattr(cost, name) for cost in costs] for name in ("processor", "peak", "data")
            )
            slopes = [np.polyfit(sizes, values, 1)[0] * 1000 for values in (seconds, peak, data)]
            line = np.polyval(np.polyfit(sizes[:-1], seconds[:-1], 1), sizes[-1])
            print(f"{slopes[0]:10.3f}{seconds[-1] / line:10.2f}{slopes[1]:10.2f}", end="")
            print(f"{slopes[2]:10.2f}{slopes[1] / slopes[2]:10.2f}", end="")
        print()


if __name__ == "__main__":
    main()
