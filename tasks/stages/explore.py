"""Show the raw data: the first images and the number of images in each class."""

from __future__ import annotations

import numpy as np

from tasks.core.drawing import class_charts, image_grids
from tasks.core.drawing.lettering import lettering_of
from tasks.core.names import CLASS_COUNTS, RAW, TEST, TRAIN
from tasks.core.stage_specs import ExploreSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import COUNTS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

SAMPLES = 25


@stage_task(ExploreSpec)
def explore(spec: ExploreSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Draw 25 training images and the class balance of both raw splits.

    They are the first 25, or 25 at equal distances.
    """
    names = inputs.facts(RAW)["class_names"]
    lettering = lettering_of(outputs.basis)
    labels, families = lettering.labels(names), lettering.families
    train, test = inputs.by_rows(RAW, TRAIN), inputs.by_rows(RAW, TEST)
    counts = {
        name: np.bincount(split["labels"][:], minlength=len(names))
        for name, split in ((TRAIN, train), (TEST, test))
    }
    count = len(train["labels"])
    shown = np.arange(min(SAMPLES, count))
    if spec.spread:
        shown = shown * count // len(shown)
    grid = image_grids.sample_grid(
        train["images"][shown], train["labels"][shown], labels, spec.note, families
    )
    outputs.blob("samples", "png", grid)
    balance = class_charts.class_balance(counts[TRAIN], counts[TEST], labels, spec.note, families)
    outputs.blob("balance", "png", balance)
    outputs.table(CLASS_COUNTS, from_columns(COUNTS, {"class": names} | counts))
    return {"balanced": all(len(set(count.tolist())) == 1 for count in counts.values())}
