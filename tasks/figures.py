"""Draw the report's pictures from what the stages left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.core import figures as draw
from tasks.core.augment import augment
from tasks.core.metrics import confusion_matrix
from tasks.core.seeds import generator
from tasks.core.specs import AugmentSettings
from tasks.stage import Facts, Inputs, Outputs, stage_task

SAMPLES = 8


@stage_task(tags=["figure"])
def figures(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave one PNG a picture; models that were skipped have none."""
    note = settings["note"]
    names = inputs.facts("load")["class_names"]
    for model in settings["models"]:
        if inputs.skipped(model) is None:
            history = inputs.table(model, "history").to_pydict()
            curves = draw.final_curves if model == "final" else draw.learning_curves
            outputs.blob(f"curves_{model}", "png", curves(history, model, note))
    outputs.blob("confusion_final", "png", _confusion(inputs, names, note))
    table = inputs.table("results", "results").to_pydict()
    chart = draw.accuracy_chart(
        table["name"], table["test_accuracy"], table["notebook_test_accuracy"], note
    )
    outputs.blob("accuracy", "png", chart)
    _draw_inputs(settings, inputs, outputs, names)
    return {}


def _confusion(inputs: Inputs, names: list[str], note: str) -> bytes:
    predictions = inputs.table("test_final", "test_predictions")
    matrix = confusion_matrix(
        predictions["predicted"].to_numpy(), predictions["label"].to_numpy(), len(names)
    )
    return draw.confusion(matrix, names, "Final model on the test split", note)


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
        picture = draw.augmented_samples(originals, distorted, settings["note"])
        outputs.blob("augmentation", "png", picture)
    if "vgg16_block4" in inputs.roles and inputs.skipped("vgg16_block4") is None:
        seen = inputs.arrays("vgg16_block4", "input_samples")
        count = len(seen["before"])
        before = np.rint(seen["before"] * 255).astype(np.uint8)
        picture = draw.before_after(before, seen["after"], labels[:count], names, settings["note"])
        outputs.blob("vgg16_input", "png", picture)
