"""Draw the charts that compare models, and samples of the networks' inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.core.characters import CHANGES
from tasks.core.data.preprocessing import scaled
from tasks.core.drawing import comparisons, image_grids
from tasks.core.drawing.lettering import lettering_of
from tasks.core.drawing.titles import title_of
from tasks.core.names import (
    COMMONEST_CLASS,
    INPUT_SAMPLES,
    PREPROCESS,
    RESULTS,
    SUBSET,
    TRAIN,
    VERDICTS,
)
from tasks.core.seeds import generator
from tasks.core.stage_specs import FiguresSpec
from tasks.core.training.augment import augment
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

SAMPLES = 8


@stage_task(FiguresSpec)
def figures(spec: FiguresSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Draw accuracies, decisions, augmented images and VGG16's inputs; store a PNG for each."""
    table = inputs.table(RESULTS, RESULTS).to_pylist()
    outputs.blob("accuracy", "png", _chart(table, spec))
    verdicts = inputs.table(RESULTS, VERDICTS).to_pylist()
    if verdicts:
        lettering = lettering_of(outputs.basis)
        changes = lettering.labels(spec.changes, CHANGES)
        tree = comparisons.decision_tree(verdicts, changes, spec.note, lettering.families)
        outputs.blob("decisions", "png", tree)
    _draw_inputs(spec, inputs, outputs)
    return {}


def _chart(table: list[dict[str, Any]], spec: FiguresSpec) -> bytes:
    """Draw the scores of all models that see the images: beside theirs, others are far away."""
    rows = [row for row in table if row["name"] != COMMONEST_CLASS]
    score = f"test_{spec.metric}"
    return comparisons.score_chart(
        [_title(row["name"], spec) for row in rows],
        [row[score] for row in rows],
        [(row[f"{score}_low"], row[f"{score}_high"]) for row in rows],
        # The notebook has accuracies only.
        [row.get(f"notebook_{score}") if spec.metric == "accuracy" else None for row in rows],
        spec.note,
        spec.metric,
    )


def _title(model: str, spec: FiguresSpec) -> str:
    control = spec.random_transfer and model.startswith(("vgg16_", "backbone_"))
    return title_of(model) + (" (random weights)" if control else "")


def _draw_inputs(spec: FiguresSpec, inputs: Inputs, outputs: Outputs) -> None:
    """Draw augmented images, and images before and after VGG16's preprocessing."""
    lettering = lettering_of(outputs.basis)
    names = lettering.labels(inputs.facts(SUBSET)["class_names"])
    arrays = inputs.by_rows(PREPROCESS, TRAIN)
    originals = scaled(arrays["x"][:SAMPLES])
    labels = arrays["y"][:SAMPLES]
    if spec.augmentation is not None:
        rng = generator(spec.seed, "augmentation", 1)
        augmented = augment(originals, spec.augmentation, rng)
        picture = image_grids.augmented_samples(originals, augmented, spec.note)
        outputs.blob("augmentation", "png", picture)
    for role, variant in spec.vgg16_inputs.items():
        if inputs.skipped(role) is None:
            seen = inputs.arrays(role, INPUT_SAMPLES)
            count = len(seen["before"])
            before = np.rint(seen["before"] * 255).astype(np.uint8)
            picture = image_grids.before_after(
                before, seen["after"], labels[:count], names, spec.note, lettering.families
            )
            outputs.blob(f"vgg16_input_{variant}", "png", picture)
