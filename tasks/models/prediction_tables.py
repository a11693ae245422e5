"""Make and read the tables of predictions that training and evaluation stages store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.array_types import Float32, Int64
from tasks.core.names import predictions_name
from tasks.core.statistics.evidence import Scored
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.trainings import PREDICTIONS
from tasks.engine.stage import Inputs

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Predictions:
    """`label` `(n,)` class indices and `probabilities` `(n, classes)`."""

    label: Int64
    probabilities: Float32


def prediction_table(probabilities: Float32, y: Float32) -> pa.Table:
    """Return a row for each image: label, predicted class and the probability of every class.

    Args:
        probabilities: `(n, classes)`, each in [0, 1].
        y: `(n, classes)` one-hot labels.
    """
    columns: dict[str, Any] = {
        "label": y.argmax(axis=1),
        "predicted": probabilities.argmax(axis=1),
    }
    classes = probabilities.shape[1]
    columns |= {f"p{index}": probabilities[:, index] for index in range(classes)}
    return from_columns(PREDICTIONS, columns, classes)


def predictions(inputs: Inputs, role: str, split: str) -> Predictions:
    """Return the predictions that an input stores for `validation` or `test` images."""
    table = inputs.table(role, predictions_name(split))
    classes = len(table.column_names) - len(PREDICTIONS.columns)
    probabilities = [table[f"p{index}"].to_numpy() for index in range(classes)]
    return Predictions(table["label"].to_numpy().astype(np.int64), np.stack(probabilities, axis=1))


def scored(inputs: Inputs, role: str, split: str) -> Scored:
    """Return whether each of an input's predictions is correct, and its loss."""
    found = predictions(inputs, role, split)
    return Scored.of(found.label, found.probabilities)
