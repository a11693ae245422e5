"""Training whose every number comes from (seed, epoch, step), one epoch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np

from tasks.core.augment import augment
from tasks.core.data import Float32
from tasks.core.errors import NumericalError
from tasks.core.progress import Progress, Row
from tasks.core.seeds import generator
from tasks.core.specs import AugmentSettings

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Examples:
    """Inputs `x` `(n, ...)` float32 and one-hot labels `y` `(n, classes)` float32."""

    x: Float32
    y: Float32

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Schedule:
    """How a model is trained: RMSprop for a number of epochs.

    `decay` is `none` for a constant rate. With `cosine` it rises linearly to `learning_rate` over
    the first tenth of all steps (Goyal et al., 2017) and falls to zero along a cosine (Loshchilov
    and Hutter, 2017), so that an epoch depends on how many there are.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    loss: str = "categorical_crossentropy"
    decay: Literal["none", "cosine"] = "none"
    augmentation: AugmentSettings | None = None


def train(
    model: keras.Model,
    examples: Examples,
    validation: Examples | None,
    schedule: Schedule,
    seed: int,
    start: Progress | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train `model` in place to the end of the schedule; return its state there.

    The history has a row an epoch: `epoch`, `loss`, `accuracy` (Keras's running means over the
    epoch's batches, taken in training mode), `val_loss` and `val_accuracy` (after the epoch, in
    inference mode). Epoch k depends on the state after epoch k - 1, the schedule, the seed and k
    alone, so a training that goes on from `start` ends with the bytes of one never stopped.

    Raises:
        NumericalError: the loss is not finite.
    """
    optimizer = keras.optimizers.RMSprop(learning_rate=_rate(schedule, len(examples)))
    model.compile(optimizer=optimizer, loss=schedule.loss, metrics=["accuracy"])
    # Built by hand, so that there are variables to restore before the first step.
    optimizer.build(model.trainable_variables)
    variables = [*model.variables, *optimizer.variables]
    progress = start or Progress((), ())
    for variable, value in zip(variables, progress.variables, strict=bool(start)):
        variable.assign(value)
    held_out = None if validation is None else (validation.x, validation.y)
    for epoch in range(progress.epoch + 1, schedule.epochs + 1):
        x, y = _epoch_of(examples, schedule.augmentation, seed, epoch)
        fitted = model.fit(
            x,
            y,
            batch_size=schedule.batch_size,
            epochs=1,
            shuffle=False,
            verbose=0,
            validation_data=held_out,
            validation_batch_size=EVALUATION_BATCH,
        )
        row = {"epoch": float(epoch)} | {k: float(v[0]) for k, v in fitted.history.items()}
        values = tuple(keras.ops.convert_to_numpy(variable) for variable in variables)
        progress = Progress((*progress.history, row), values)
        _check_finite(row, model, schedule)
        if on_epoch is not None:
            on_epoch(progress)
    return progress


def _rate(
    schedule: Schedule, images: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if schedule.decay == "none":
        return schedule.learning_rate
    steps = schedule.epochs * -(-images // schedule.batch_size)
    warmup = -(-steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        # The first step is one, too: a training of a single step must learn.
        initial_learning_rate=schedule.learning_rate / warmup,
        decay_steps=max(1, steps - warmup),
        warmup_target=schedule.learning_rate,
        warmup_steps=warmup,
    )


def _epoch_of(
    examples: Examples, augmentation: AugmentSettings | None, seed: int, epoch: int
) -> tuple[Float32, Float32]:
    order = generator(seed, "order", epoch).permutation(len(examples))
    x = examples.x[order]
    if augmentation is not None:
        x = augment(x, augmentation, generator(seed, "augmentation", epoch))
    return x, examples.y[order]


def _check_finite(row: Row, model: keras.Model, schedule: Schedule) -> None:
    wrong = [name for name, value in row.items() if not math.isfinite(value)]
    if not wrong:
        # TensorFlow's ReLU turns NaN into 0 on CPUs: a finite loss does not prove finite weights.
        values = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
        wrong = [path for path, value in values.items() if not np.isfinite(value).all()]
    if wrong:
        raise NumericalError(
            f"{', '.join(wrong)} not finite after epoch {int(row['epoch'])} (learning rate "
            f"{schedule.learning_rate}); lower the learning rate and look at the input's range."
        )


def evaluate(
    model: keras.Model,
    examples: Examples,
    loss: str,
    prepare: Callable[[Float32], Float32] = lambda x: x,
    batch: int = EVALUATION_BATCH,
) -> tuple[float, Float32]:
    """Loss in nats (weight penalties included) and class probabilities, in inference mode.

    `prepare` makes the model's input of the `batch` examples that pass at once.

    The loss is the one that Keras's `evaluate`, and so the notebook, reports: Keras takes the
    logits of a softmax layer and not its output, which with binary cross-entropy is another
    quantity than the one that probabilities give. Nothing is compiled for a single pass.
    """
    losses, probabilities = [], []
    for start in range(0, len(examples), batch):
        part = slice(start, start + batch)
        output = model(prepare(examples.x[part]), training=False)
        values = keras.losses.get(loss)(examples.y[part], output)
        losses.append(keras.ops.convert_to_numpy(values))
        probabilities.append(keras.ops.convert_to_numpy(output))
    penalty = sum(float(value) for value in model.losses)
    mean = float(np.concatenate(losses).mean(dtype=np.float64))
    return mean + penalty, np.concatenate(probabilities)
