"""What each model confuses with what, class by class, and how far its probabilities hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.array_types import Int64
from tasks.core.drawing import class_charts, image_grids
from tasks.core.statistics.metrics import (
    Calibration,
    calibration,
    class_scores,
    confusion_matrix,
    most_confused,
)
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.prediction_tables import Predictions, predictions

CONFUSED_PAIRS = 5
IMAGES_A_PAIR = 8


@stage_task()
def quality(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave tables of every model, and pictures of the final one on test images.

    A model's trainings are counted together.
    """
    names = inputs.facts("preprocess")["class_names"]
    per_class: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    errors: dict[str, dict[str, float]] = {}
    confused: list[dict[str, Any]] = []
    for model, split, found in _predicted(settings, inputs):
        matrix = _matrix(found, len(names))
        held = _calibration(found)
        key = {"model": model, "split": split}
        per_class += [key | row for row in _class_rows(matrix, names)]
        cells += [key | row for row in _cell_rows(matrix, names)]
        bins += [key | row for row in _bin_rows(held)]
        errors.setdefault(model, {})[split] = held.error
        if (model, split) == ("final", "test"):
            _draw(matrix, held, names, settings["note"], outputs)
            confused = _confused(found[0], matrix, inputs, names, settings, outputs)
    outputs.table("per_class", pa.Table.from_pylist(per_class))
    outputs.table("confusion", pa.Table.from_pylist(cells))
    outputs.table("calibration", pa.Table.from_pylist(bins))
    return {"calibration_error": errors, "most_confused": confused}


def _predicted(
    settings: Mapping[str, Any], inputs: Inputs
) -> Iterator[tuple[str, str, list[Predictions]]]:
    for model in settings["models"]:
        stages = [training["stage"] for training in model["trainings"]]
        if any(inputs.skipped(stage) is not None for stage in stages if model["validated"]):
            continue
        if model["validated"]:
            found = [predictions(inputs, stage, "validation") for stage in stages]
            yield model["name"], "validation", found
        found = [predictions(inputs, f"test_{stage}", "test") for stage in stages]
        yield model["name"], "test", found


def _matrix(found: list[Predictions], classes: int) -> Int64:
    matrices = [
        confusion_matrix(one.probabilities.argmax(axis=1), one.label, classes) for one in found
    ]
    total: Int64 = np.sum(matrices, axis=0)
    return total


def _calibration(found: list[Predictions]) -> Calibration:
    confidence = np.concatenate([one.probabilities.max(axis=1) for one in found])
    correct = np.concatenate([one.probabilities.argmax(axis=1) == one.label for one in found])
    return calibration(confidence, correct)


def _class_rows(matrix: Int64, names: list[str]) -> list[dict[str, Any]]:
    found = class_scores(matrix)
    columns = (names, found.precision, found.recall, found.f1, found.support)
    return [
        {
            "class": name,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for name, precision, recall, f1, support in zip(*columns, strict=True)
    ]


def _cell_rows(matrix: Int64, names: list[str]) -> list[dict[str, Any]]:
    return [
        {"label": label, "predicted": predicted, "count": int(matrix[row, column])}
        for row, label in enumerate(names)
        for column, predicted in enumerate(names)
    ]


def _bin_rows(found: Calibration) -> list[dict[str, Any]]:
    width = 1 / len(found.count)
    return [
        {
            "above": number * width,
            "up_to": (number + 1) * width,
            "count": int(found.count[number]),
            "confidence": float(found.confidence[number]),
            "accuracy": float(found.accuracy[number]),
        }
        for number in range(len(found.count))
    ]


def _draw(matrix: Int64, held: Calibration, names: list[str], note: str, outputs: Outputs) -> None:
    title = "Final model, test images"
    outputs.blob("confusion_final", "png", class_charts.confusion(matrix, names, title, note))
    outputs.blob("reliability_final", "png", class_charts.reliability(held, title, note))


def _confused(
    found: Predictions,
    matrix: Int64,
    inputs: Inputs,
    names: list[str],
    settings: Mapping[str, Any],
    outputs: Outputs,
) -> list[dict[str, Any]]:
    """The pairs that the final model confuses most; images are those that its first training did.

    Of a pair's images those are shown of which it is the surest.
    """
    images = inputs.arrays("preprocess", "test")["x"]
    predicted = found.probabilities.argmax(axis=1)
    confidence = found.probabilities.max(axis=1)
    rows, facts = [], []
    for label, other, count in most_confused(matrix, CONFUSED_PAIRS):
        those = np.flatnonzero((found.label == label) & (predicted == other))
        surest = those[np.argsort(-confidence[those], kind="stable")][:IMAGES_A_PAIR]
        facts.append({"label": names[label], "predicted": names[other], "count": count})
        # Another training may make a mistake that the first does not.
        if len(surest):
            title = f"{names[label]} taken for {names[other]}, {count} times"
            rows.append((title, images[surest], confidence[surest]))
    if rows:
        outputs.blob("confused_final", "png", image_grids.confused_pairs(rows, settings["note"]))
    return facts
