"""The predictions that trainings left in the store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Float32, Int64
from tasks.core.statistics.evidence import Scored
from tasks.engine.stage import Inputs


@dataclass(frozen=True)
class Predictions:
    """`label` `(n,)` class indices and `probabilities` `(n, classes)`."""

    label: Int64
    probabilities: Float32


def predictions(inputs: Inputs, role: str, split: str) -> Predictions:
    """What the model of an input predicted on `validation` or `test` images."""
    table = inputs.table(role, f"{split}_predictions")
    classes = sum(name[:1] == "p" and name[1:].isdigit() for name in table.column_names)
    probabilities = [table[f"p{index}"].to_numpy() for index in range(classes)]
    return Predictions(table["label"].to_numpy().astype(np.int64), np.stack(probabilities, axis=1))


def scored(inputs: Inputs, role: str, split: str) -> Scored:
    """The outcome on each image of what the model of an input predicted."""
    found = predictions(inputs, role, split)
    return Scored.of(found.label, found.probabilities)
