"""What every training stage does around the core's training: build, report, score, save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import pyarrow as pa

from tasks.core.array_types import Float32
from tasks.core.networks.fast_layers import fast_network
from tasks.core.networks.stack import build_network
from tasks.core.settings.training import TrainSettings
from tasks.core.training.loop import Examples, Schedule, evaluate, train
from tasks.core.training.progress import Progress, Row
from tasks.models.model_files import save_keras
from tasks.storage.store import Outputs


def fit_network(
    settings: Mapping[str, Any], examples: Examples, validation: Examples | None, outputs: Outputs
) -> tuple[keras.Model, dict[str, Any]]:
    """Build, train and save the network of `settings`; return it and the stage's facts."""
    spec = TrainSettings.model_validate(settings["training"])
    seed = settings["seed"]
    shape, classes = examples.x.shape[1:], examples.y.shape[1]
    model = build_network(spec, shape, classes, seed)
    assert isinstance(spec.epochs, int), "the flow resolves epochs before a stage is made"
    schedule = Schedule(
        spec.epochs, spec.batch_size, spec.learning_rate, augmentation=spec.augmentation
    )
    quick, lineage = fast_network(model), without_epochs(settings, "training")
    history = fit(quick, examples, validation, schedule, seed, outputs, lineage)
    outputs.file("model", "keras", lambda path: save_keras(model, path))
    write_history(history, outputs)
    facts = scores(quick, examples, validation, schedule.loss, outputs)
    return model, facts | {
        "params": model.count_params(),
        "epochs": schedule.epochs,
        "batch_size": schedule.batch_size,
        "train_samples": len(examples),
        "steps_per_epoch": -(-len(examples) // schedule.batch_size),
    } | turning_points(history)


def fit(
    model: keras.Model,
    examples: Examples,
    validation: Examples | None,
    schedule: Schedule,
    seed: int,
    outputs: Outputs,
    lineage: Mapping[str, Any],
) -> tuple[Row, ...]:
    """Train in place from where the stage was stopped, if it was; return a row an epoch.

    Args:
        model: the network in its seeded start.
        examples: what it learns from.
        validation: what it is scored on after each epoch, if anything.
        schedule: how it is trained.
        seed: what the order of samples and the augmentation come from.
        outputs: where the checkpoints go.
        lineage: the stage's settings without the number of epochs; trainings that share them have
            their beginnings in common.
    """
    checkpoints = outputs.checkpoints(lineage, schedule.epochs)

    def on_epoch(progress: Progress) -> None:
        # What is told of it may take a while; the epoch is safe by then.
        checkpoints.save(progress)
        outputs.epoch_done(progress.epoch, schedule.epochs, progress.history[-1])

    start = checkpoints.latest()
    outputs.resumed_after = start.epoch if start else 0
    return train(model, examples, validation, schedule, seed, start, on_epoch).history


def without_epochs(settings: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """Nested settings without the `epochs` in the group that `path` leads to."""
    if not path:
        return {name: value for name, value in settings.items() if name != "epochs"}
    return {**settings, path[0]: without_epochs(settings[path[0]], *path[1:])}


def write_history(history: Sequence[Row], outputs: Outputs) -> None:
    """Store a row an epoch."""
    columns: dict[str, Any] = {name: [row[name] for row in history] for name in history[0]}
    columns["epoch"] = pa.array([int(epoch) for epoch in columns["epoch"]], pa.int32())
    outputs.table("history", pa.table(columns))


def turning_points(history: Sequence[Row]) -> dict[str, Any]:
    """Where validation loss was lowest and validation accuracy highest (first such epoch)."""
    if "val_loss" not in history[0]:
        return {}
    lowest = min(history, key=lambda row: row["val_loss"])
    highest = max(history, key=lambda row: row["val_accuracy"])
    return {
        "lowest_validation_loss": lowest["val_loss"],
        "lowest_validation_loss_epoch": int(lowest["epoch"]),
        "highest_validation_accuracy": highest["val_accuracy"],
        "highest_validation_accuracy_epoch": int(highest["epoch"]),
    }


def scores(
    model: keras.Model,
    examples: Examples,
    validation: Examples | None,
    loss: str,
    outputs: Outputs,
) -> dict[str, float | None]:
    """Loss and accuracy in inference mode on both splits; store the validation predictions."""
    found: dict[str, float | None] = {"val_loss": None, "val_accuracy": None}
    found |= score(model, examples, loss, "train")[0]
    if validation is not None:
        validation_scores, probabilities = score(model, validation, loss, "val")
        found |= validation_scores
        outputs.table("validation_predictions", prediction_table(probabilities, validation.y))
    return found


def score(
    model: keras.Model, examples: Examples, loss: str, prefix: str, **passing: Any
) -> tuple[dict[str, float | None], Float32]:
    """Loss and accuracy as facts, e.g. `val_loss` and `val_accuracy`, and the probabilities.

    `passing` says how the examples pass the model, see `evaluate`.
    """
    value, probabilities = evaluate(model, examples, loss, **passing)
    right = probabilities.argmax(axis=1) == examples.y.argmax(axis=1)
    return {f"{prefix}_loss": value, f"{prefix}_accuracy": float(right.mean())}, probabilities


def prediction_table(probabilities: Float32, y: Float32) -> pa.Table:
    """A row an image: its label, the predicted class and the probability of every class."""
    columns: dict[str, Any] = {
        "label": pa.array(y.argmax(axis=1), pa.uint8()),
        "predicted": pa.array(probabilities.argmax(axis=1), pa.uint8()),
    }
    for index in range(probabilities.shape[1]):
        columns[f"p{index}"] = pa.array(probabilities[:, index])
    return pa.table(columns)
