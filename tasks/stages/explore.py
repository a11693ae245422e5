"""Look at the raw data: the first images, and how many there are of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.drawing import class_charts, image_grids
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

SHOWN = 25


@stage_task()
def explore(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Draw the first 25 training images with their class names, and both splits' class balance."""
    names = inputs.facts("raw")["class_names"]
    train, test = inputs.arrays("raw", "train"), inputs.arrays("raw", "test")
    counts = {
        name: np.bincount(split["labels"], minlength=len(names))
        for name, split in (("train", train), ("test", test))
    }
    note = settings["note"]
    grid = image_grids.sample_grid(train["images"][:SHOWN], train["labels"][:SHOWN], names, note)
    outputs.blob("samples", "png", grid)
    balance = class_charts.class_balance(counts["train"], counts["test"], names, note)
    outputs.blob("balance", "png", balance)
    outputs.table("class_counts", pa.table({"class": names} | counts))
    return {"balanced": all(len(set(count.tolist())) == 1 for count in counts.values())}
