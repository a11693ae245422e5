"""Draw the report's pictures from what the stages left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.core import figures as draw
from tasks.core.augment import augment
from tasks.core.seeds import generator
from tasks.core.specs import AugmentSettings
from tasks.core.titles import title_of
from tasks.stage import Facts, Inputs, Outputs, stage_task

SAMPLES = 8


@stage_task()
def figures(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave one PNG a picture; models that were skipped have none."""
    note = settings["note"]
    names = inputs.facts("subset")["class_names"]
    for model, trainings in settings["models"].items():
        if inputs.skipped(trainings[0]) is None:
            histories = [inputs.table(stage, "history").to_pydict() for stage in trainings]
            outputs.blob(f"curves_{model}", "png", _curves(model, histories, settings))
    table = inputs.table("results", "results").to_pydict()
    chart = draw.accuracy_chart(
        [_title(name, settings) for name in table["name"]],
        table["test_accuracy"],
        list(zip(table["test_accuracy_low"], table["test_accuracy_high"], strict=True)),
        table["notebook_test_accuracy"],
        note,
    )
    outputs.blob("accuracy", "png", chart)
    verdicts = inputs.table("results", "verdicts").to_pylist()
    if verdicts:
        outputs.blob("decisions", "png", draw.decision_tree(verdicts, settings["changes"], note))
    _draw_inputs(settings, inputs, outputs, names)
    return {}


def _title(model: str, settings: Mapping[str, Any]) -> str:
    control = settings["random_transfer"] and model.startswith("vgg16")
    return title_of(model) + (" (random weights)" if control else "")


def _curves(
    model: str, histories: list[dict[str, list[float]]], settings: Mapping[str, Any]
) -> bytes:
    title, note = _title(model, settings), settings["note"]
    history, *others = histories
    if model == "final":
        return draw.final_curves(history, title, note)
    # The notebook's limits: binary cross-entropy is smaller by the number of classes.
    top = 0.3 if model in settings["binary"] else 1.2
    return draw.learning_curves(history, title, note, loss_top=top, others=others)


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
    for role, variant in settings["vgg16_inputs"].items():
        if inputs.skipped(role) is None:
            seen = inputs.arrays(role, "input_samples")
            count = len(seen["before"])
            before = np.rint(seen["before"] * 255).astype(np.uint8)
            picture = draw.before_after(
                before, seen["after"], labels[:count], names, settings["note"]
            )
            outputs.blob(f"vgg16_input_{variant}", "png", picture)
