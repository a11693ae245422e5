"""Scores by class, confusion matrix and calibration of each model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.array_types import Int64
from tasks.core.data.preprocessing import scaled
from tasks.core.data.rows import RowReader
from tasks.core.drawing import class_charts, image_grids
from tasks.core.drawing.lettering import in_sentence, lettering_of
from tasks.core.names import (
    CALIBRATION,
    CONFUSION,
    FINAL,
    PER_CLASS,
    PREPROCESS,
    TEST,
    VALIDATION,
    evaluation_name,
)
from tasks.core.stage_specs import QualitySpec
from tasks.core.statistics.metrics import (
    Calibration,
    calibration,
    class_scores,
    confusion_matrix,
    most_confused,
)
from tasks.core.tables.arrow import from_columns, from_rows
from tasks.core.tables.quality import CLASS_SCORES, CONFUSIONS, RELIABILITY
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.stored_predictions import Predictions, predictions

CONFUSED_PAIRS = 5
IMAGES_PER_PAIR = 8

Row = dict[str, Any]


@stage_task(QualitySpec)
def quality(spec: QualitySpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store tables for every model, and pictures of the final model on test images.

    Counts are sums over all trainings of a model.
    """
    names = inputs.facts(PREPROCESS)["class_names"]
    per_class: list[Row] = []
    cells: list[pa.Table] = []
    bins: list[Row] = []
    errors: dict[str, dict[str, float]] = {}
    confused: list[Row] = []
    for model, split, found in _predicted(spec, inputs):
        matrix = _matrix(found, len(names))
        calibrated = _calibration(found)
        key = {"model": model, "split": split}
        per_class += [key | row for row in _class_rows(matrix, names)]
        cells.append(_cells(matrix, names, model, split))
        bins += [key | row for row in _bin_rows(calibrated)]
        errors.setdefault(model, {})[split] = calibrated.error
        if (model, split) == (FINAL, TEST):
            _draw(matrix, calibrated, names, spec.note, outputs)
            images = inputs.by_rows(PREPROCESS, TEST)["x"]
            confused = _confused(found[0], matrix, images, names, spec.note, outputs)
    outputs.table(PER_CLASS, from_rows(CLASS_SCORES, per_class))
    outputs.table(CONFUSION, pa.concat_tables(cells) if cells else from_rows(CONFUSIONS, []))
    outputs.table(CALIBRATION, from_rows(RELIABILITY, bins))
    return {"calibration_error": errors, "most_confused": confused}


def _predicted(spec: QualitySpec, inputs: Inputs) -> Iterator[tuple[str, str, list[Predictions]]]:
    """Yield model, split and the predictions of every training; skipped models are left out."""
    for model in spec.models:
        stages = [training.stage for training in model.trainings]
        if model.validated and any(inputs.skipped(stage) is not None for stage in stages):
            continue
        if model.validated:
            found = [predictions(inputs, stage, VALIDATION) for stage in stages]
            yield model.name, VALIDATION, found
        found = [predictions(inputs, evaluation_name(stage), TEST) for stage in stages]
        yield model.name, TEST, found


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


def _class_rows(matrix: Int64, names: list[str]) -> list[Row]:
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


def _cells(matrix: Int64, names: list[str], model: str, split: str) -> pa.Table:
    """A row for each pair of classes; built by columns, since there may be many."""
    return from_columns(
        CONFUSIONS,
        {
            "model": [model] * matrix.size,
            "split": [split] * matrix.size,
            "label": np.repeat(names, len(names)),
            "predicted": np.tile(names, len(names)),
            "count": matrix.ravel(),
        },
    )


def _bin_rows(found: Calibration) -> list[Row]:
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


def _draw(
    matrix: Int64, calibrated: Calibration, names: list[str], note: str, outputs: Outputs
) -> None:
    title = "Final model, test images"
    lettering = lettering_of(outputs.basis)
    labels, families = lettering.labels(names), lettering.families
    picture = class_charts.confusion(matrix, labels, title, note, families)
    outputs.blob("confusion_final", "png", picture)
    outputs.blob("reliability_final", "png", class_charts.reliability(calibrated, title, note))


def _confused(
    found: Predictions,
    matrix: Int64,
    images: RowReader,
    names: list[str],
    note: str,
    outputs: Outputs,
) -> list[Row]:
    """Draw and return the class pairs that the final model confuses most.

    `images` are the test images `(n, h, w, c)` uint8. A pair is illustrated with those errors
    of the first training that it makes with the highest confidence.
    """
    predicted = found.probabilities.argmax(axis=1)
    confidence = found.probabilities.max(axis=1)
    lettering = lettering_of(outputs.basis)
    labels = lettering.labels(names)
    rows, facts = [], []
    for label, other, count in most_confused(matrix, CONFUSED_PAIRS):
        wrong = np.flatnonzero((found.label == label) & (predicted == other))
        surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:IMAGES_PER_PAIR]
        facts.append({"label": names[label], "predicted": names[other], "count": count})
        # Another training may make an error that the first does not make.
        if len(surest):
            one, another = in_sentence(labels[label]), in_sentence(labels[other])
            title = f"{one} taken for {another}, {count} times"
            rows.append((title, scaled(images[surest]), confidence[surest]))
    if rows:
        outputs.blob(
            "confused_final", "png", image_grids.confused_pairs(rows, note, lettering.families)
        )
    return facts
