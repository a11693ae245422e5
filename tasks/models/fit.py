"""Steps that all training stages share: build, train, score and save a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tasks.core.array_types import Float32
from tasks.core.names import HISTORY, MODEL, VALIDATION_PREDICTIONS
from tasks.core.networks.families import WHITENING, build_network, predicting
from tasks.core.networks.fast_layers import fast_network
from tasks.core.networks.precision import MIXED, mixed_precision
from tasks.core.networks.whitening import whitening_weights
from tasks.core.seeds import generator
from tasks.core.stage_specs import RetrainSpec, TrainSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.trainings import EPOCHS
from tasks.core.training.examples import Examples
from tasks.core.training.loop import evaluate, train
from tasks.core.training.progress import Progress, Row
from tasks.core.training.schedule import Schedule
from tasks.models.model_files import save_keras
from tasks.models.own_modules import own_function
from tasks.models.prediction_tables import prediction_table
from tasks.storage.exchange import Inputs, Outputs

# Images whose patches a first layer whitens.
_WHITENED = 2_000


def stored_examples(inputs: Inputs, role: str, name: str, classes: int) -> Examples:
    """The examples in an `.npz` of an input: `x`, labels `y` and, if there are any, `weights`.

    Large inputs `x` are read by rows, when they are needed.
    """
    arrays = inputs.by_rows(role, name)
    weights = arrays["weights"][:] if "weights" in arrays else None
    return Examples(arrays["x"], arrays["y"][:], classes, weights)


def fit_network(
    spec: TrainSpec | RetrainSpec,
    examples: Examples,
    validation: Examples | None,
    outputs: Outputs,
) -> tuple[keras.Model, dict[str, Any]]:
    """Build, train and save the network of `spec`; return it and the stage's facts."""
    training = spec.training
    height, width, channels = examples.x.shape[1:]
    code = outputs.stage.own_code
    model = build_network(
        training,
        (height, width, channels),
        examples.classes,
        spec.seed,
        own_function(code) if code else None,
    )
    assert isinstance(training.epochs, int), "the recipe resolves epochs before it defines a stage"
    ours = training.network.family not in ("function", "application")
    if ours:
        whiten(model, examples, spec.seed)
    schedule = Schedule.of(training)
    # Layers of own networks have the precision that their function gives them.
    trained = _in_precision(model, spec, outputs.precision) if ours else model
    # What the quick form knows of our networks' layers need not hold for others. Theirs is trained
    # by a model apart, too: training compiles it, and what is saved has no optimizer of ours.
    quick = fast_network(trained) if ours else keras.Model(trained.input, trained.output)
    # Trainings that differ only in their number of epochs share their beginnings.
    shared = {"training": {"epochs"}} if training.is_open_ended else None
    lineage = spec.model_dump(mode="json", exclude=shared)
    history = fit(quick, examples, validation, schedule, spec.seed, outputs, lineage)
    if trained is not model:
        # What is saved and scored computes in float32, on every machine.
        model.set_weights(trained.get_weights())
    predictor = predicting(model, training.network)
    outputs.file(MODEL, "keras", lambda path: save_keras(predictor, path))
    write_history(history, outputs)
    # The fast form computes the same, but from a single view.
    scored = quick if predictor is trained else predictor
    return predictor, {
        **scores(scored, examples, validation, schedule.loss, outputs),
        **sizes(model, schedule, examples),
        **turning_points(history),
    }


def _in_precision(model: keras.Model, spec: TrainSpec | RetrainSpec, precision: str) -> keras.Model:
    """The network, with the same weights, as it is trained in `precision`."""
    if precision not in MIXED:
        return model
    with mixed_precision(precision):
        shape, classes = model.input_shape[1:], model.output_shape[1]
        trained = build_network(spec.training, shape, classes, spec.seed)
    trained.set_weights(model.get_weights())
    return trained


def whiten(model: keras.Model, examples: Examples, seed: int) -> None:
    """Compute the weights of a whitening first layer, if there is one, from training images."""
    layer = next((layer for layer in model.layers if layer.name == WHITENING), None)
    if layer is not None:
        rng = generator(seed, WHITENING)
        count = min(_WHITENED, len(examples))
        chosen = np.sort(rng.choice(len(examples), count, replace=False))
        layer.set_weights(whitening_weights(examples.x[chosen], layer.kernel_size[0]))


def fit(
    model: keras.Model,
    examples: Examples,
    validation: Examples | None,
    schedule: Schedule,
    seed: int,
    outputs: Outputs,
    lineage: Mapping[str, Any],
) -> tuple[Row, ...]:
    """Train in place, starting from the stage's latest checkpoint; return a row for each epoch.

    Args:
        model: the network with its seeded initial weights.
        examples: the images to train on.
        validation: the images to score it on after each epoch, if any.
        schedule: epochs, batch size, learning rate and loss.
        seed: the seed of the order of samples and of augmentation.
        outputs: where the checkpoints are stored.
        lineage: all values that the state after an epoch depends on besides code, inputs, profile.
            Trainings with the same lineage can start from each other's snapshots.
    """
    checkpoints = outputs.checkpoints(lineage, schedule.epochs)

    def on_epoch(progress: Progress) -> None:
        # The epoch is stored first, because reporting it may be slow.
        checkpoints.save(progress)
        outputs.epoch_done(progress.epoch, schedule.epochs, progress.history[-1])

    start = checkpoints.latest()
    outputs.resumed_after = start.epoch if start else 0
    return train(model, examples, validation, schedule, seed, start, on_epoch).history


def write_history(history: Sequence[Row], outputs: Outputs) -> None:
    """Store a row for each epoch."""
    columns = {name: [row[name] for row in history] for name in history[0]}
    outputs.table(HISTORY, from_columns(EPOCHS, columns))


def sizes(model: keras.Model, schedule: Schedule, examples: Examples) -> dict[str, int]:
    """Return the numbers of parameters, epochs, samples and steps as facts."""
    return {
        "params": model.count_params(),
        "epochs": schedule.epochs,
        "batch_size": schedule.batch_size,
        "train_samples": len(examples),
        "steps_per_epoch": -(-len(examples) // schedule.batch_size),
    }


def turning_points(history: Sequence[Row]) -> dict[str, Any]:
    """Return the first epochs with the lowest validation loss and the highest accuracy."""
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
    """Score the model on both splits in inference mode; store the validation predictions."""
    found: dict[str, float | None] = {"val_loss": None, "val_accuracy": None}
    found |= score(model, examples, loss, "train")[0]
    if validation is not None:
        validation_scores, probabilities = score(model, validation, loss, "val")
        found |= validation_scores
        outputs.table(VALIDATION_PREDICTIONS, prediction_table(probabilities, validation.labels))
    return found


def score(
    model: keras.Model, examples: Examples, loss: str, prefix: str, **passing: Any
) -> tuple[dict[str, float | None], Float32]:
    """Return loss and accuracy as facts, e.g. `val_loss` and `val_accuracy`, and probabilities.

    `passing` says how the examples are passed to the model, see `evaluate`.
    """
    value, probabilities = evaluate(model, examples, loss, **passing)
    right = probabilities.argmax(axis=1) == examples.labels
    return {f"{prefix}_loss": value, f"{prefix}_accuracy": float(right.mean())}, probabilities
