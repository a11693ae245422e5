"""Read the predictions that training and evaluation stages stored, and the sizes of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Float32, Int64
from tasks.core.names import INDEX, SUBSET, predictions_name
from tasks.core.statistics.evidence import Scored
from tasks.core.tables.trainings import PREDICTIONS
from tasks.storage.exchange import Inputs


@dataclass(frozen=True)
class Predictions:
    """`label` `(n,)` class indices and `probabilities` `(n, classes)`."""

    label: Int64
    probabilities: Float32


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


def class_counts(inputs: Inputs, split: str) -> Int64:
    """Return how many images of `split` each class has, `(classes,)`."""
    index = inputs.table(SUBSET, INDEX)
    labels = index["label"].to_numpy()[index["split"].to_numpy() == split]
    return np.bincount(labels, minlength=len(inputs.facts(SUBSET)["class_names"]))
