"""Look for images whose labels are probably wrong, by predictions on held-out folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.array_types import Float32, Int64
from tasks.core.data.rows import RowReader
from tasks.core.drawing.image_grids import label_suspects
from tasks.core.drawing.lettering import lettering_of
from tasks.core.names import (
    INDEX,
    LABEL_ERROR_COUNTS,
    LABEL_ERRORS,
    LABEL_ERRORS_PICTURE,
    LOAD,
    ORIGINS,
    SUBSET,
    TRAIN,
    TRAINING_SPLITS,
    VALIDATION,
)
from tasks.core.stage_specs import LabelCheckSpec
from tasks.core.statistics.label_errors import find_label_errors, self_confidence
from tasks.core.tables.arrow import from_columns, from_rows
from tasks.core.tables.images import ERRORS_BY_PAIR, SUSPECTS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.held_out import by_image
from tasks.models.stored_predictions import predictions

SUSPECTS_DRAWN = 50


@stage_task(LabelCheckSpec)
def label_check(spec: LabelCheckSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the suspects, the estimated errors of each pair of classes, and a picture.

    Positions in what follows are those of training images in order, then validation images.
    """
    splits = [inputs.by_rows(SUBSET, name) for name in TRAINING_SPLITS]
    names = inputs.facts(SUBSET)["class_names"]
    labels = np.concatenate([split["labels"][:] for split in splits]).astype(np.int64)

    def predicted(stage: str) -> Float32:
        return predictions(inputs, stage, VALIDATION).probabilities

    probabilities = by_image(spec.model, inputs, predicted)
    found = find_label_errors(labels, probabilities)
    table = from_columns(
        SUSPECTS,
        {
            "rank": np.arange(1, len(found.images) + 1),
            **_places(inputs, found.images, len(splits[0]["labels"]), known=spec.origins),
            "given": [names[label] for label in labels[found.images]],
            "suggested": [names[label] for label in found.suggested],
            "self_confidence": self_confidence(labels, probabilities)[found.images],
            "suggested_probability": self_confidence(found.suggested, probabilities[found.images]),
        },
    )
    outputs.table(LABEL_ERRORS, table)
    pairs = _pairs(found.joint, names)
    outputs.table(LABEL_ERROR_COUNTS, from_rows(ERRORS_BY_PAIR, pairs))
    if len(table):
        _draw(table.slice(0, SUSPECTS_DRAWN), splits, names, spec.note, outputs)
    return {
        "model": spec.model.name,
        "images": len(labels),
        "estimated_errors": found.estimated,
        "suspects": len(table),
    }


def _places(inputs: Inputs, positions: Int64, trained: int, *, known: bool) -> dict[str, Any]:
    """Where images come from; the first `trained` positions are those of training images.

    `known`: the images' files are known.
    """
    index = inputs.table(SUBSET, INDEX)["source_position"].to_numpy()[positions]
    return {
        "split": [TRAIN if position < trained else VALIDATION for position in positions],
        "position": np.where(positions < trained, positions, positions - trained),
        "source_position": index,
        "origin": _origins(inputs).take(index) if known else [None] * len(index),
    }


def _origins(inputs: Inputs) -> pa.ChunkedArray:
    """The origin of each raw training image."""
    table = inputs.table(LOAD, ORIGINS)
    return table.filter(pc.equal(table["split"], TRAIN))["name"]


def _pairs(joint: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """A row for each pair of different classes with an estimate above 0, the highest first."""
    errors = joint * (1 - np.eye(len(joint)))
    order = np.argsort(-errors, axis=None, kind="stable")
    return [
        {"given": names[given], "true": names[true], "images": float(errors[given, true])}
        for given, true in zip(*np.unravel_index(order, errors.shape), strict=True)
        if errors[given, true] > 0
    ]


def _draw(
    table: pa.Table,
    splits: Sequence[Mapping[str, RowReader]],
    names: list[str],
    note: str,
    outputs: Outputs,
) -> None:
    images = {name: split["images"] for name, split in zip(TRAINING_SPLITS, splits, strict=True)}
    rows = table.to_pylist()
    shown = [images[row["split"]][row["position"] : row["position"] + 1] for row in rows]
    lettering = lettering_of(outputs.basis)
    drawn = dict(zip(names, lettering.labels(names), strict=True))
    picture = label_suspects(
        np.concatenate(shown),
        [drawn[row["given"]] for row in rows],
        [(drawn[row["suggested"]], row["suggested_probability"]) for row in rows],
        note,
        lettering.families,
    )
    outputs.blob(LABEL_ERRORS_PICTURE, "png", picture)
