"""Tables of quality: scores of each class, confusions, calibration."""

from __future__ import annotations

from tasks.core.names import CALIBRATION, CONFUSION, PER_CLASS
from tasks.core.tables.schema import Column, Table

_SPLIT = (
    Column("model", "string", "the model; its trainings are pooled"),
    Column("split", "string", "`validation` or `test`"),
)

CLASS_SCORES = Table(
    PER_CLASS,
    "each class of each model and split",
    (
        *_SPLIT,
        Column("class", "string", "name of the class"),
        Column("precision", "float64", "share of its predictions that are right"),
        Column("recall", "float64", "share of its images that are recognised"),
        Column("f1", "float64", "harmonic mean of precision and recall"),
        Column("support", "int64", "number of its images"),
    ),
)

CONFUSIONS = Table(
    CONFUSION,
    "each cell of the confusion matrix of each model and split",
    (
        *_SPLIT,
        Column("label", "string", "name of the true class"),
        Column("predicted", "string", "name of the predicted class"),
        Column("count", "int64", "number of images"),
    ),
)

RELIABILITY = Table(
    CALIBRATION,
    "each bin of confidence of each model and split",
    (
        *_SPLIT,
        Column("above", "float64", "lower end of the bin, exclusive"),
        Column("up_to", "float64", "upper end of the bin, inclusive"),
        Column("count", "int64", "number of images"),
        Column("confidence", "float64", "mean probability of the predicted class"),
        Column("accuracy", "float64", "share of right predictions"),
    ),
)
