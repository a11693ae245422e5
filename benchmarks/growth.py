"""Time and peak memory of every stage as the number of images grows.

    python benchmarks/growth.py [--images 2000 8000 20000 60000] [--transfer both]
                                [--only load explore subset guard preprocess]

Each stage runs in a new process, so its peak memory is its own: the imported libraries and the
data that it holds. TensorFlow is imported before the time is taken. Every training has one epoch,
since more epochs take more time but no more memory. The plan has one change, augmentation, which
takes the most memory. One in six images is held out for validation, and there is one test image
per six other images. VGG16 has random weights. The images are synthetic, grey, 28 x 28; their
content affects only `guard`, where similar images cost time. With 60,000 images the benchmark
takes about an hour; `--only` ends it after these stages.

For each stage, the table gives the growth per 1,000 images: CPU seconds, MiB of peak memory, and
MiB of the arrays and tables that the stage reads and writes. "of a line" is the CPU time at the
largest size divided by a linear extrapolation from the smaller sizes (1 means linear growth).
"ratio" is growth of peak memory divided by growth of data (should be at most 2). Stages that
hardly grow have no ratio.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from apart import MIB, ApartRun, Cost

from flows.recipe.contents import build
from flows.recipe.presets import FULL
from tasks.core.records import Outcome, Record, Stage, StoredFile
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.run_settings import Settings
from tasks.engine.profile import resolve_profile

# Smaller slopes, per 1,000 images, are noise.
LEAST_S, LEAST_MIB = 0.003, 0.1
# Bytes per value of a column.
WIDTHS = {"int64": 8, "double": 8, "float": 4, "int32": 4, "uint8": 1, "bool": 1}


@dataclass(frozen=True)
class Growing(Cost):
    """The cost of a stage, and the MiB in memory of the arrays and tables it reads and writes."""

    data: float


class AllMeasuredError(Exception):
    """All requested stages have been measured."""


def measured(
    images: int, folder: Path, profile: Mapping[str, Any], only: set[str], transfer: str
) -> dict[str, Growing]:
    """The cost of each stage with that many images, up to the last requested stage."""
    costs: dict[str, Growing] = {}

    def seen(stage: Stage, inputs: Mapping[str, Outcome], outcome: Outcome, cost: Cost) -> None:
        read = [
            given.files[name]
            for role, given in inputs.items()
            if isinstance(given, Record)
            for name in stage.reads[role]
            if name in given.files
        ]
        left = [*outcome.files.values()] if isinstance(outcome, Record) else []
        data = sum(map(in_memory, (*read, *left))) / MIB
        costs[stage.name] = Growing(**asdict(cost), data=data)
        if only and only <= costs.keys():
            raise AllMeasuredError

    with suppress(AllMeasuredError):
        build(ApartRun(folder, profile, seen), settings_with(images, transfer))
    return costs


def in_memory(file: StoredFile) -> int:
    """Bytes of a file's arrays or columns in memory; for other files, their size."""
    if file.kind == "npz":
        arrays = (described.split(" ", 1) for described in file.schema.values())
        return sum(np.dtype(kind).itemsize * math.prod(json.loads(n)) for kind, n in arrays)
    if file.kind == "parquet":
        columns = (kind for name, kind in file.schema.items() if name != "rows")
        # Strings are class names of a few bytes, each with an offset.
        sizes = (WIDTHS.get(kind, 12) for kind in columns)
        return int(file.schema["rows"]) * sum(sizes)
    return file.size


def settings_with(images: int, transfer: str) -> Settings:
    """Settings with that many images and one epoch per training."""
    one = {"epochs": 1}
    full = FULL.model_dump()
    models = {name: full[name] | one for name in ("baseline", "low_capacity", "overfitting")}
    augmented = full["plan"][-1]
    ways = {
        way: full["transfer"][way] | one | {"fine_tune_epochs": 1}
        for way in ("as_notebook", "corrected")
    }
    used = {"weights": "off"} if transfer == "off" else {"weights": "random", "variant": transfer}
    return Settings.model_validate(
        full
        | models
        | {
            "dataset": "synthetic",
            "synthetic": {"train": images, "test": images // 6},
            "plan": [augmented | {"change": augmented["change"] | one}],
            "transfer": full["transfer"] | ways | used,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 8000, 20000, 60000])
    ways = ("both", "as_notebook", "corrected", "off")
    parser.add_argument(
        "--transfer", choices=ways, default="both", help="variants of transfer from VGG16"
    )
    parser.add_argument("--only", nargs="+", default=[], help="end after these stages")
    options = parser.parse_args()
    profile = resolve_profile(ExecutionSettings(device="cpu"))
    found: dict[int, dict[str, Growing]] = {}
    for images in options.images:
        print(f"\n{images:,} images")
        with tempfile.TemporaryDirectory() as folder:
            found[images] = measured(
                images,
                Path(folder),
                profile,
                set(options.only),
                options.transfer,
            )
    _show(found)


def _show(found: Mapping[int, Mapping[str, Growing]]) -> None:
    sizes = list(found)
    print("\nPeak MiB (and CPU seconds), then, for 1,000 images more, the growth (see --help)")
    print(f"{'stage':<24}" + "".join(f"{size:>16,}" for size in sizes), end="")
    print("".join(f"{title:>10}" for title in ("s", "of a line", "peak MiB", "data MiB", "ratio")))
    for stage in found[sizes[-1]]:
        costs = [found[size][stage] for size in sizes if stage in found[size]]
        row = "".join(f"{f'{cost.peak:,.0f} ({cost.cpu:,.1f})':>16}" for cost in costs)
        print(f"{stage:<24}{row}", end="")
        if len(costs) == len(sizes) > 2:
            seconds, peak, data = (
                [getattr(cost, name) for cost in costs] for name in ("cpu", "peak", "data")
            )
            by_seconds, by_peak, by_data = (
                np.polyfit(sizes, values, 1)[0] * 1000 for values in (seconds, peak, data)
            )
            line = np.polyval(np.polyfit(sizes[:-1], seconds[:-1], 1), sizes[-1])
            ratios = [
                f"{seconds[-1] / line:.2f}" if by_seconds > LEAST_S else "-",
                f"{by_peak / by_data:.2f}" if max(by_peak, by_data) > LEAST_MIB else "-",
            ]
            print(f"{by_seconds:10.3f}{ratios[0]:>10}{by_peak:10.2f}{by_data:10.2f}", end="")
            print(f"{ratios[1]:>10}", end="")
        print()


if __name__ == "__main__":
    main()
