"""Tables of results: models, trainings, the choice among models, the success criteria."""

from __future__ import annotations

from tasks.core.names import CRITERIA, REPLICATES, RESULTS, SELECTION
from tasks.core.tables.schema import Column, Table

TRAINED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
TESTED = ("test_loss", "test_accuracy")
SCORES = (*TRAINED, *TESTED)
SIZES = ("params", "epochs", "batch_size", "train_samples")

_SPLITS = {"train": "training", "val": "held-out", "test": "test"}


def _score(name: str, of: str) -> Column:
    split, what = name.split("_")
    unit = "nats, L2 penalties included" if what == "loss" else "in [0, 1]"
    return Column(name, "float64", f"{of}{what} on {_SPLITS[split]} images, {unit}")


def _spread(split: str) -> tuple[Column, ...]:
    images = _SPLITS[split]
    return (
        Column(
            f"{split}_loss_sd", "float64", f"standard deviation of {split}_loss between trainings"
        ),
        Column(
            f"{split}_accuracy_sd",
            "float64",
            f"standard deviation of {split}_accuracy between trainings",
        ),
        Column(f"{split}_accuracy_low", "float64", f"lower end of its 95 % interval, {images}"),
        Column(f"{split}_accuracy_high", "float64", f"upper end of its 95 % interval, {images}"),
        *_by_metric(f"{split}_balanced_accuracy", "mean recall of the classes", images),
        *_by_metric(f"{split}_log_loss", "categorical cross-entropy, nats, no penalties", images),
    )


def _by_metric(name: str, what: str, images: str) -> tuple[Column, ...]:
    return (
        Column(name, "float64", f"{what}, on {images} images"),
        Column(f"{name}_low", "float64", "lower end of its 95 % interval"),
        Column(f"{name}_high", "float64", "upper end of its 95 % interval"),
    )


MODELS = Table(
    RESULTS,
    "each model",
    (
        Column(
            "name",
            "string",
            "the model; `commonest_class` never looks at an image and is not trained",
        ),
        Column("step", "string", "its step in the notebook"),
        Column("params", "int64", "number of parameters"),
        Column("epochs", "int64", "epochs of a training"),
        Column("batch_size", "int64", "images per gradient step"),
        Column("train_samples", "int64", "images on which it was trained"),
        Column("trainings", "int64", "number of trainings"),
        *(_score(name, "mean ") for name in SCORES),
        *_spread("val"),
        *_spread("test"),
        Column("decision", "string", "`forward` or `back` if a gate decided on it"),
        Column("state", "string", "the Prefect state of that gate"),
        Column("reason", "string", "why, in words"),
        Column("notebook_test_loss", "float64", "the notebook's value, nats"),
        Column("notebook_test_accuracy", "float64", "the notebook's value, in [0, 1]"),
    ),
)

TRAININGS = Table(
    REPLICATES,
    "each training",
    (
        Column("model", "string", "the model"),
        Column("stage", "string", "the stage of the training"),
        Column("replicate", "int64", "number of the seed, from 1"),
        Column("fold", "int64", "the fold held out, from 1; null without folds"),
        Column("seed", "int64", "the seed"),
        Column("epochs", "int64", "number of epochs"),
        Column("train_samples", "int64", "images on which it was trained"),
        *(_score(name, "") for name in SCORES),
    ),
)

OPTIMISM = Table(
    SELECTION,
    "the run",
    (
        Column("looks", "int64", "decisions based on held-out images"),
        Column("models", "int64", "models that were tried"),
        Column("survivor", "string", "the model that survived the gates"),
        Column("metric", "string", "the metric of the scores"),
        Column("val_score", "float64", "its mean held-out score"),
        Column("optimism", "float64", "by how much the best model's held-out score is too good"),
        Column("best_corrected", "float64", "the best model's held-out score without `optimism`"),
        Column("best_corrected_low", "float64", "lower end of its 95 % interval"),
        Column("best_corrected_high", "float64", "upper end of its 95 % interval"),
        Column("method", "string", "how it was estimated"),
    ),
)

SUCCESS_CRITERIA = Table(
    CRITERIA,
    "each success criterion",
    (
        Column("criterion", "string", "requirement on the final model"),
        Column("met", "bool", "whether the test shows that it is met"),
        Column("metric", "string", "the metric of `value` and `threshold`"),
        Column("value", "float64", "test score, or its gain over the baseline"),
        Column("low", "float64", "lower end of the 95 % interval"),
        Column("high", "float64", "upper end of the 95 % interval"),
        Column("threshold", "float64", "value to beat"),
        Column(
            "p_value",
            "float64",
            "one-sided: probability of a value this good if the true one were at the threshold",
        ),
        Column("alpha", "float64", "significance level"),
    ),
)
