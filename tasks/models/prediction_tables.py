"""Make the tables of predictions that training and evaluation stages store.

Separate from `stored_predictions`, so that an edit to the statistics recomputes no training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tasks.core.array_types import Float32
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.trainings import PREDICTIONS

if TYPE_CHECKING:
    import pyarrow as pa


def prediction_table(probabilities: Float32, labels: NDArray[Any]) -> pa.Table:
    """Return a row for each image: label, predicted class and the probability of every class.

    Args:
        probabilities: `(n, classes)`, each in [0, 1].
        labels: `(n,)` class indices, of any integer type.
    """
    columns: dict[str, Any] = {
        "label": labels,
        "predicted": probabilities.argmax(axis=1),
    }
    classes = probabilities.shape[1]
    columns |= {f"p{index}": probabilities[:, index] for index in range(classes)}
    return from_columns(PREDICTIONS, columns, classes)
