"""Put all models, trainings and verdicts into tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from tasks.core.array_types import Int64
from tasks.core.names import (
    COMMONEST_CLASS,
    REPLICATES,
    RESULTS,
    TEST,
    TRAIN,
    VALIDATION,
    VERDICTS,
    evaluation_name,
)
from tasks.core.settings.evaluation import Metric
from tasks.core.stage_spec import Model
from tasks.core.stage_specs import ModelInResults, ResultsSpec
from tasks.core.statistics.evidence import Scored, constant, score
from tasks.core.statistics.multiple_testing import holm
from tasks.core.statistics.notebook_results import notebook_result
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import MODELS, SCORES, SIZES, TRAININGS
from tasks.core.tables.verdicts import ALL_VERDICTS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.stored_predictions import class_counts, scored

LOSSES = ("val_loss", "test_loss")

# The reason in rows of transfer from random weights.
CONTROL = "a control: {} has random weights here"

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
    rows = _commonest_class(models, inputs) if models else []
    rows += [_row(model, trainings[model.name], inputs, spec) for model in models]
    outputs.table(RESULTS, from_rows(MODELS, rows))
    everything = [row for of_model in trainings.values() for row in of_model]
    outputs.table(REPLICATES, from_rows(TRAININGS, everything))
    outputs.table(VERDICTS, from_rows(ALL_VERDICTS, _verdicts(spec, inputs)))
    return {"models": [model.name for model in models], "skipped": skipped}


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


def _control(model: str) -> str | None:
    """What is said of a model that begins with random instead of pre-trained weights."""
    for prefix, network in (("vgg16_", "VGG16"), ("backbone_", "the backbone")):
        if model.startswith(prefix):
            return CONTROL.format(network)
    return None


def _row(model: ModelInResults, trainings: Sequence[Row], inputs: Inputs, spec: ResultsSpec) -> Row:
    stages = [training.stage for training in model.trainings]
    sizes = inputs.facts(stages[0])
    verdict = inputs.facts(model.gate) if model.gate else {}
    reported = None
    if spec.notebook:
        reported = notebook_result(model.name, same_plan=spec.notebook_plan)
    control = _control(model.name) if spec.random_transfer else None
    row: Row = {
        "name": model.name,
        "step": model.step,
        **{key: sizes[key] for key in SIZES},
        "trainings": len(trainings),
        **{key: _mean([training[key] for training in trainings]) for key in SCORES},
        **{f"{key}_sd": _sd([training[key] for training in trainings]) for key in LOSSES},
        "decision": verdict.get("decision"),
        "state": verdict.get("state"),
        "reason": control or verdict.get("reason"),
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


def _commonest_class(models: Sequence[ModelInResults], inputs: Inputs) -> list[Row]:
    """Return a row for what needs no training: always to name the commonest training class.

    It is scored on the images of another model's first replicate. Its scores follow from the
    numbers of images, so they have no intervals.
    """
    counts = class_counts(inputs, TRAIN)
    model = models[0]
    first = [training for training in model.trainings if training.replicate == 1]
    row: Row = {
        "name": COMMONEST_CLASS,
        "step": "5",
        "params": 0,
        "epochs": 0,
        "train_samples": int(counts.sum()),
        "trainings": 0,
        "train_accuracy": float(counts.max() / counts.sum()),
    }
    if model.validated:
        labels = [scored(inputs, training.stage, VALIDATION).label for training in first]
        row |= _without_images("val", np.concatenate(labels), counts)
    tested = scored(inputs, evaluation_name(first[0].stage), TEST).label
    return [row | _without_images("test", tested, counts)]


def _without_images(split: str, labels: Int64, counts: Int64) -> Row:
    blind = [constant(labels, counts)]
    found = {f"{split}_{metric}": score(metric, blind, None).value for metric in get_args(Metric)}
    return found | {f"{split}_loss": found[f"{split}_log_loss"]}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _sd(values: Sequence[float | None]) -> float | None:
    """Return the standard deviation between trainings; None for fewer than two."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _spread(split: str, found: Sequence[Scored], folds: int | None) -> Row:
    """Return a model's scores by each metric with intervals, and the accuracies' deviation."""
    row: Row = {f"{split}_accuracy_sd": _sd([float(one.correct.mean()) for one in found])}
    for metric in get_args(Metric):
        estimate = score(metric, found, folds)
        name = f"{split}_{metric}"
        row |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        if metric != "accuracy":
            row[name] = estimate.value
    return row
