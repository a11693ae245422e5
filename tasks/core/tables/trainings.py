"""Tables of a training: its history and its predictions."""

from __future__ import annotations

from tasks.core.names import HISTORY
from tasks.core.tables.schema import Column, Table

EPOCHS = Table(
    HISTORY,
    "each epoch",
    (
        Column("epoch", "int32", "from 1"),
        Column("accuracy", "float64", "mean over the epoch's batches, in training mode"),
        Column("loss", "float64", "mean over the epoch's batches, in training mode, nats"),
        Column("val_accuracy", "float64", "on held-out images after the epoch", optional=True),
        Column("val_loss", "float64", "on held-out images after the epoch, nats", optional=True),
    ),
)

PREDICTIONS = Table(
    "<split>_predictions",
    "each image of the split, in order",
    (
        Column("label", "int32", "index of the class"),
        Column("predicted", "int32", "index of the most probable class"),
    ),
    per_class=Column("p", "float32", "probability of the class with that index"),
)
