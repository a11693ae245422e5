"""Put every model's scores into one table, every training's and every verdict into others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.statistics.evidence import Scored, accuracy
from tasks.core.statistics.multiple_testing import holm
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.prediction_tables import scored
from tasks.stages.decide import VERDICT

SIZES = ("params", "epochs", "batch_size", "train_samples")
TRAINED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
TESTED = ("test_loss", "test_accuracy")
LOSSES = ("val_loss", "test_loss")

RESULTS = pa.schema(
    [
        ("name", pa.string()),
        ("step", pa.string()),
        *((name, pa.int64()) for name in (*SIZES, "trainings")),
        *((name, pa.float64()) for name in (*TRAINED, *TESTED)),
        *(
            (f"{split}_{what}", pa.float64())
            for split in ("val", "test")
            for what in ("loss_sd", "accuracy_sd", "accuracy_low", "accuracy_high")
        ),
        ("decision", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("notebook_test_loss", pa.float64()),
        ("notebook_test_accuracy", pa.float64()),
    ]
)
REPLICATES = pa.schema(
    [
        ("model", pa.string()),
        ("stage", pa.string()),
        ("replicate", pa.int64()),
        ("fold", pa.int64()),
        ("seed", pa.int64()),
        ("epochs", pa.int64()),
        ("train_samples", pa.int64()),
        *((name, pa.float64()) for name in (*TRAINED, *TESTED)),
    ]
)
VERDICTS = VERDICT.insert(
    VERDICT.get_field_index("p_value") + 1, pa.field("p_value_adjusted", pa.float64())
)

# Stands in the rows of a transfer that is none.
CONTROL = "a control: VGG16 has random weights here"

Row = dict[str, Any]


@stage_task()
def results(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave a row a model, a row a training and a row a gate; what was skipped has no row."""
    skipped = {
        model["name"]: reason
        for model in settings["models"]
        if (reason := inputs.skipped(model["trainings"][0]["stage"])) is not None
    }
    models = [model for model in settings["models"] if model["name"] not in skipped]
    trainings = {model["name"]: _trainings(model, inputs) for model in models}
    rows = [_row(model, trainings[model["name"]], inputs, settings) for model in models]
    outputs.table("results", pa.Table.from_pylist(rows, RESULTS))
    everything = [row for of_model in trainings.values() for row in of_model]
    outputs.table("replicates", pa.Table.from_pylist(everything, REPLICATES))
    verdicts = [dict(inputs.facts(role)) for role in settings["gates"]]
    adjusted = holm([verdict["p_value"] for verdict in verdicts])
    for verdict, value in zip(verdicts, adjusted, strict=True):
        verdict["p_value_adjusted"] = value
    outputs.table("verdicts", pa.Table.from_pylist(verdicts, VERDICTS))
    return {"models": [row["name"] for row in rows], "skipped": skipped}


def _trainings(model: Mapping[str, Any], inputs: Inputs) -> list[Row]:
    rows = []
    for training in model["trainings"]:
        stage = training["stage"]
        facts = {**inputs.facts(stage), **inputs.facts(f"test_{stage}")}
        named = {name: facts[name] for name in ("epochs", "train_samples", *TRAINED, *TESTED)}
        rows.append({"model": model["name"], **training, **named})
    return rows


def _row(
    model: Mapping[str, Any], trainings: Sequence[Row], inputs: Inputs, settings: Mapping[str, Any]
) -> Row:
    name, gate = model["name"], model["gate"]
    stages = [training["stage"] for training in trainings]
    sizes = inputs.facts(stages[0])
    verdict = inputs.facts(gate) if gate else {}
    reported = NOTEBOOK_RESULTS.get(name) if settings["notebook"] else None
    control = settings["random_transfer"] and name.startswith("vgg16")
    row: Row = {
        "name": name,
        "step": model["step"],
        **{key: sizes[key] for key in SIZES},
        "trainings": len(trainings),
        **{key: _mean([training[key] for training in trainings]) for key in (*TRAINED, *TESTED)},
        **{f"{key}_sd": _sd([training[key] for training in trainings]) for key in LOSSES},
        "decision": verdict.get("decision"),
        "state": verdict.get("state"),
        "reason": CONTROL if control else verdict.get("reason"),
        "notebook_test_loss": reported.test_loss if reported else None,
        "notebook_test_accuracy": reported.test_accuracy if reported else None,
    }
    if model["validated"]:
        found = [scored(inputs, stage, "validation") for stage in stages]
        # Other trainings than those of the folds have the validation split in common.
        folds = settings["folds"] if trainings[0]["fold"] else None
        row |= _spread("val", found, folds)
    found = [scored(inputs, f"test_{stage}", "test") for stage in stages]
    return row | _spread("test", found, None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _sd(values: Sequence[float | None]) -> float | None:
    """Standard deviation between trainings; None where there is one, or none was scored."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _spread(split: str, found: Sequence[Scored], folds: int | None) -> Row:
    """Interval of a model's accuracy, and its standard deviation between trainings."""
    estimate = accuracy(found, folds)
    each = [float(training.correct.mean()) for training in found]
    return {
        f"{split}_accuracy_sd": _sd(each),
        f"{split}_accuracy_low": estimate.low,
        f"{split}_accuracy_high": estimate.high,
    }
