"""Draw what compares models, and what networks see of the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.core.drawing import comparisons, image_grids
from tasks.core.names import title_of
from tasks.core.seeds import generator
from tasks.core.settings.training import AugmentSettings
from tasks.core.training.augment import augment
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

SAMPLES = 8


@stage_task()
def figures(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave one PNG a picture."""
    note = settings["note"]
    names = inputs.facts("subset")["class_names"]
    table = inputs.table("results", "results").to_pydict()
    chart = comparisons.accuracy_chart(
        [_title(name, settings) for name in table["name"]],
        table["test_accuracy"],
        list(zip(table["test_accuracy_low"], table["test_accuracy_high"], strict=True)),
        table["notebook_test_accuracy"],
        note,
    )
    outputs.blob("accuracy", "png", chart)
    verdicts = inputs.table("results", "verdicts").to_pylist()
    if verdicts:
        outputs.blob(
            "decisions", "png", comparisons.decision_tree(verdicts, settings["changes"], note)
        )
    _draw_inputs(settings, inputs, outputs, names)
    return {}


def _title(model: str, settings: Mapping[str, Any]) -> str:
    control = settings["random_transfer"] and model.startswith("vgg16")
    return title_of(model) + (" (random weights)" if control else "")


def _draw_inputs(
    settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs, names: list[str]
) -> None:
    """What the networks see: distorted copies, and the images that VGG16 gets."""
    arrays = inputs.arrays("preprocess", "train")
    originals = arrays["x"][:SAMPLES]
    labels = arrays["y"][:SAMPLES].argmax(axis=1)
    if settings["augmentation"] is not None:
        spec = AugmentSettings.model_validate(settings["augmentation"])
        distorted = augment(originals, spec, generator(settings["seed"], "augmentation", 1))
        picture = image_grids.augmented_samples(originals, distorted, settings["note"])
        outputs.blob("augmentation", "png", picture)
    for role, variant in settings["vgg16_inputs"].items():
        if inputs.skipped(role) is None:
            seen = inputs.arrays(role, "input_samples")
            count = len(seen["before"])
            before = np.rint(seen["before"] * 255).astype(np.uint8)
            picture = image_grids.before_after(
                before, seen["after"], labels[:count], names, settings["note"]
            )
            outputs.blob(f"vgg16_input_{variant}", "png", picture)
