"""Training one epoch at a time; all randomness depends on (seed, epoch, step) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tasks.core.array_types import Float32, Int64
from tasks.core.errors import NumericalError
from tasks.core.messages import listed
from tasks.core.networks.precision import scaled_optimizer
from tasks.core.seeds import generator
from tasks.core.training.augment import Transforms, apply_transforms, draw_transforms
from tasks.core.training.averages import Averages
from tasks.core.training.examples import Examples
from tasks.core.training.optimizers import RateTable, make_optimizer
from tasks.core.training.progress import Progress, Row
from tasks.core.training.schedule import Schedule
from tasks.core.training.variation import Variation, draw_variation

EVALUATION_BATCH = 256
# Batches prepared in advance.
_AHEAD = 2


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Examples in batches.

    Each batch is read and made when it is needed, so an epoch holds few of its examples in memory.

    Args:
        examples: the examples; they are not modified.
        size: examples per batch; the last batch may have fewer.
        order: `(n,)` positions of the examples in the order of use; None keeps their order.
        transforms: the transform of each example, in the order of use; None for no transforms.
        variation: the variations of the examples; None for none.
        smoothing: the part of each label that is spread over all classes.
    """

    def __init__(
        self,
        examples: Examples,
        size: int,
        order: Int64 | None = None,
        transforms: Transforms | None = None,
        variation: Variation | None = None,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._examples = examples
        self._size = size
        self._order = order
        self._transforms = transforms
        self._variation = variation
        self._smoothing = smoothing

    def __len__(self) -> int:
        return -(-len(self._examples) // self._size)

    def __getitem__(self, number: int) -> tuple[Float32, ...]:
        """Inputs, one-hot labels and, if there are any, weights of a batch, counted from 0."""
        part = slice(number * self._size, (number + 1) * self._size)
        chosen = part if self._order is None else self._order[part]
        x, *others = self._arrays(chosen)
        if self._transforms:
            x = apply_transforms(x, self._transforms[part])
        if self._variation and self._order is not None:
            x = self._variation.applied(x, self._order[part])
            x, *others = self._variation.mixed(number, x, *others)
        if self._smoothing:
            kept, spread = 1 - self._smoothing, self._smoothing / others[0].shape[1]
            others[0] = others[0] * np.float32(kept) + np.float32(spread)
        return (x, *others)

    def _arrays(self, chosen: slice | Int64) -> tuple[Float32, ...]:
        batch, weights = self._examples.batch(chosen), self._examples.weights
        return batch if weights is None else (*batch, weights[chosen])

    def prefetched(self) -> Any:
        """These batches for `fit`: TensorFlow prepares the next ones while it trains on one."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        options = tf.data.Options()
        # Keras leaves autotuning on. Its thread sleeps ever longer between measurements, and an
        # epoch cannot end before it wakes: usually half a second, sometimes five.
        options.autotune.enabled = False
        return (
            tf.data.Dataset.from_generator(
                lambda: map(self.__getitem__, range(len(self))),
                output_signature=tuple(
                    tf.TensorSpec((None, *array.shape[1:]), array.dtype)
                    for array in self._arrays(slice(0))
                ),
            )
            .apply(tf.data.experimental.assert_cardinality(len(self)))
            .prefetch(_AHEAD)
            .with_options(options)
        )


def train(
    model: keras.Model,
    examples: Examples,
    validation: Examples | None,
    schedule: Schedule,
    seed: int,
    start: Progress | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train `model` in place to the end of the schedule; return its final state.

    The history has one row per epoch: `epoch`, `loss` and `accuracy` (Keras's running means over
    the epoch's batches, in training mode, of labels as they were mixed and smoothed; the loss is
    weighted if the examples are), `val_loss` and `val_accuracy` (after the epoch, in inference
    mode, of the averaged weights if there are any). Epoch k depends only on the state after epoch
    k - 1, the schedule, the seed and k, so a training resumed from `start` ends with the same bytes
    as one never stopped. In the end, the model has the averaged weights if the schedule wants them.

    Raises:
        NumericalError: the loss, a score or a weight is not finite.
    """
    variables = _compiled(model, schedule, len(examples))
    averages = Averages(schedule.average, schedule.epochs, len(model.variables))
    progress = start or Progress((), ())
    _assign(variables, averages.without(progress.variables))
    held_out = None
    if validation is not None:
        held_out = Batches(replace(validation, weights=None), EVALUATION_BATCH).prefetched()
    for epoch in range(progress.epoch + 1, schedule.epochs + 1):
        batches = _epoch_of(examples, schedule, seed, epoch).prefetched()
        row = _fitted(model, epoch, batches, None if averages.wanted else held_out)
        values = tuple(keras.ops.convert_to_numpy(variable) for variable in variables)
        state = averages.after(epoch, progress.variables, values)
        if averages.wanted and held_out is not None:
            row |= _scores(model, averages.of(state), held_out)
        _check_finite(
            row, {v.path: value for v, value in zip(variables, values, strict=True)}, schedule
        )
        progress = Progress((*progress.history, row), state)
        if on_epoch is not None:
            on_epoch(progress)
    if averages.wanted:
        _assign(model.variables, averages.of(progress.variables))
    return progress


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    """Restore variables; nothing is done for no values."""
    for variable, value in zip(variables, values, strict=bool(values)):
        variable.assign(value)


def _compiled(model: keras.Model, schedule: Schedule, images: int) -> list[keras.Variable]:
    """Compile a model; return its variables and those of its optimizer."""
    rates = schedule.rates(images)
    rate = schedule.learning_rate if rates is None else RateTable(rates)
    optimizer = make_optimizer(
        schedule.optimizer, rate, model.trainable_variables, schedule.layer_rates
    )
    optimizer = scaled_optimizer(optimizer, model)
    model.compile(
        optimizer=optimizer, loss=schedule.loss, metrics=["accuracy"], auto_scale_loss=False
    )
    return [*model.variables, *optimizer.variables]


def _fitted(model: keras.Model, epoch: int, batches: Any, held_out: Any) -> Row:
    """Train for an epoch; return its row of the history."""
    fitted = model.fit(batches, epochs=1, shuffle=False, verbose=0, validation_data=held_out)
    return {"epoch": float(epoch)} | {name: float(of[0]) for name, of in fitted.history.items()}


def _scores(model: keras.Model, values: Sequence[np.ndarray], held_out: Any) -> Row:
    """The scores of a model with other values of its variables, as `fit` names them."""
    kept = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    _assign(model.variables, values)
    found = model.evaluate(held_out, verbose=0, return_dict=True)
    _assign(model.variables, kept)
    return {f"val_{name}": float(value) for name, value in found.items()}


def _epoch_of(examples: Examples, schedule: Schedule, seed: int, epoch: int) -> Batches:
    count = len(examples)
    order = generator(seed, "order", epoch).permutation(count)
    transforms = None
    if schedule.augmentation is not None:
        rng = generator(seed, "augmentation", epoch)
        transforms = draw_transforms(count, schedule.augmentation, rng)
    return Batches(
        examples,
        schedule.size_in(epoch),
        order,
        transforms,
        draw_variation(count, schedule.variation, seed, epoch),
        schedule.label_smoothing,
    )


def _check_finite(row: Row, values: Mapping[str, np.ndarray], schedule: Schedule) -> None:
    wrong = [name for name, value in row.items() if not math.isfinite(value)]
    # On CPUs, TensorFlow's ReLU turns NaN into 0, so a finite loss does not prove finite weights.
    wrong = wrong or [path for path, value in values.items() if not np.isfinite(value).all()]
    if wrong:
        raise NumericalError(
            f"{listed(wrong)} not finite after epoch {int(row['epoch'])} (learning rate "
            f"{schedule.learning_rate}); lower the learning rate and check the input's range."
        )


def evaluate(
    model: keras.Model,
    examples: Examples,
    loss: str,
    prepare: Callable[[Float32], Float32] = lambda x: x,
    batch: int = EVALUATION_BATCH,
) -> tuple[float, Float32]:
    """Loss in nats (including weight penalties) and class probabilities `(n, classes)` float32.

    Both are computed in inference mode, and all examples count the same. `prepare` turns a batch of
    `batch` examples into the model's input.

    The loss is the one that Keras's `evaluate`, and thus the notebook, reports: Keras uses the
    logits of a softmax layer instead of its output, which makes a difference with binary
    cross-entropy. The model is called directly, since compiling takes longer than it saves in a
    single pass.
    """
    losses, probabilities = [], []
    for x, y in examples.batches(batch):
        output = model(prepare(x), training=False)
        values = keras.losses.get(loss)(y, output)
        losses.append(keras.ops.convert_to_numpy(values))
        probabilities.append(keras.ops.convert_to_numpy(output))
    penalty = sum(float(value) for value in model.losses)
    mean = float(np.concatenate(losses).mean(dtype=np.float64))
    return mean + penalty, np.concatenate(probabilities)
