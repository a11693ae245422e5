"""Put all models, trainings and verdicts into tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.core.names import REPLICATES, RESULTS, TEST, VALIDATION, VERDICTS, evaluation_name
from tasks.core.stage_spec import Model
from tasks.core.stage_specs import ModelInResults, ResultsSpec
from tasks.core.statistics.evidence import Scored, accuracy
from tasks.core.statistics.multiple_testing import holm
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import MODELS, SCORES, SIZES, TRAININGS
from tasks.core.tables.verdicts import ALL_VERDICTS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.stored_predictions import scored

LOSSES = ("val_loss", "test_loss")

# The reason in rows of transfer from random weights.
CONTROL = "a control: VGG16 has random weights here"

Row = dict[str, Any]


@stage_task(ResultsSpec)
def results(spec: ResultsSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the tables of models, trainings and verdicts; skipped models are left out."""
    skipped = {
        model.name: reason
        for model in spec.models
        if (reason := inputs.skipped(model.trainings[0].stage)) is not None
    }
    models = [model for model in spec.models if model.name not in skipped]
    trainings = {model.name: _trainings(model, inputs) for model in models}
    rows = [_row(model, trainings[model.name], inputs, spec) for model in models]
    outputs.table(RESULTS, from_rows(MODELS, rows))
    everything = [row for of_model in trainings.values() for row in of_model]
    outputs.table(REPLICATES, from_rows(TRAININGS, everything))
    outputs.table(VERDICTS, from_rows(ALL_VERDICTS, _verdicts(spec, inputs)))
    return {"models": [row["name"] for row in rows], "skipped": skipped}


def _verdicts(spec: ResultsSpec, inputs: Inputs) -> list[Row]:
    verdicts = [dict(inputs.facts(gate)) for gate in spec.gates]
    adjusted = holm([verdict["p_value"] for verdict in verdicts])
    return [
        verdict | {"p_value_adjusted": value}
        for verdict, value in zip(verdicts, adjusted, strict=True)
    ]


def _trainings(model: Model, inputs: Inputs) -> list[Row]:
    rows = []
    for training in model.trainings:
        stage = training.stage
        facts = {**inputs.facts(stage), **inputs.facts(evaluation_name(stage))}
        named = {name: facts[name] for name in ("epochs", "train_samples", *SCORES)}
        rows.append({"model": model.name, **dict(training), **named})
    return rows


def _row(model: ModelInResults, trainings: Sequence[Row], inputs: Inputs, spec: ResultsSpec) -> Row:
    stages = [training.stage for training in model.trainings]
    sizes = inputs.facts(stages[0])
    verdict = inputs.facts(model.gate) if model.gate else {}
    reported = NOTEBOOK_RESULTS.get(model.name) if spec.notebook else None
    control = spec.random_transfer and model.name.startswith("vgg16")
    row: Row = {
        "name": model.name,
        "step": model.step,
        **{key: sizes[key] for key in SIZES},
        "trainings": len(trainings),
        **{key: _mean([training[key] for training in trainings]) for key in SCORES},
        **{f"{key}_sd": _sd([training[key] for training in trainings]) for key in LOSSES},
        "decision": verdict.get("decision"),
        "state": verdict.get("state"),
        "reason": CONTROL if control else verdict.get("reason"),
        "notebook_test_loss": reported.test_loss if reported else None,
        "notebook_test_accuracy": reported.test_accuracy if reported else None,
    }
    if model.validated:
        found = [scored(inputs, stage, VALIDATION) for stage in stages]
        # Trainings without a fold share the validation split.
        folds = spec.folds if model.trainings[0].fold else None
        row |= _spread("val", found, folds)
    found = [scored(inputs, evaluation_name(stage), TEST) for stage in stages]
    return row | _spread("test", found, None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _sd(values: Sequence[float | None]) -> float | None:
    """Return the standard deviation between trainings; None for fewer than two."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _spread(split: str, found: Sequence[Scored], folds: int | None) -> Row:
    """Return the interval of a model's accuracy, and its standard deviation between trainings."""
    estimate = accuracy(found, folds)
    each = [float(training.correct.mean()) for training in found]
    return {
        f"{split}_accuracy_sd": _sd(each),
        f"{split}_accuracy_low": estimate.low,
        f"{split}_accuracy_high": estimate.high,
    }
