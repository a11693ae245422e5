"""Training one epoch at a time; all randomness depends on (seed, epoch, step) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from tasks.core.array_types import Float32, Int64
from tasks.core.errors import NumericalError
from tasks.core.messages import listed
from tasks.core.seeds import generator
from tasks.core.settings.training import AugmentSettings
from tasks.core.settings.transfer import Decay
from tasks.core.training.augment import Transforms, apply_transforms, draw_transforms
from tasks.core.training.examples import Examples
from tasks.core.training.progress import Progress, Row

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
    """

    def __init__(
        self,
        examples: Examples,
        size: int,
        order: Int64 | None = None,
        transforms: Transforms | None = None,
    ) -> None:
        super().__init__()
        self._examples = examples
        self._size = size
        self._order = order
        self._transforms = transforms

    def __len__(self) -> int:
        return -(-len(self._examples) // self._size)

    def __getitem__(self, number: int) -> tuple[Float32, ...]:
        """Inputs, one-hot labels and, if there are any, weights of a batch, counted from 0."""
        part = slice(number * self._size, (number + 1) * self._size)
        chosen = part if self._order is None else self._order[part]
        x, *others = self._arrays(chosen)
        return (apply_transforms(x, self._transforms[part]) if self._transforms else x, *others)

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


@dataclass(frozen=True)
class Schedule:
    """How a model is trained: RMSprop for a number of epochs.

    `decay` is `none` for a constant learning rate. With `cosine` the rate rises linearly to
    `learning_rate` over the first tenth of all steps (Goyal et al., 2017) and then falls to zero
    along a cosine (Loshchilov and Hutter, 2017), so each epoch depends on the number of epochs.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    loss: str = "categorical_crossentropy"
    decay: Decay = "none"
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
    """Train `model` in place to the end of the schedule; return its final state.

    The history has one row per epoch: `epoch`, `loss` and `accuracy` (Keras's running means over
    the epoch's batches, in training mode; the loss is weighted if the examples are), `val_loss` and
    `val_accuracy` (after the epoch, in inference mode). Epoch k depends only on the state after
    epoch k - 1, the schedule, the seed and k, so a training resumed from `start` ends with the same
    bytes as one never stopped.

    Raises:
        NumericalError: the loss, a score or a weight is not finite.
    """
    optimizer = keras.optimizers.RMSprop(learning_rate=_rate(schedule, len(examples)))
    model.compile(optimizer=optimizer, loss=schedule.loss, metrics=["accuracy"])
    # The optimizer's variables must exist before the first step, to be restored.
    optimizer.build(model.trainable_variables)
    variables = [*model.variables, *optimizer.variables]
    progress = start or Progress((), ())
    for variable, value in zip(variables, progress.variables, strict=bool(start)):
        variable.assign(value)
    held_out = None
    if validation is not None:
        held_out = Batches(replace(validation, weights=None), EVALUATION_BATCH).prefetched()
    for epoch in range(progress.epoch + 1, schedule.epochs + 1):
        batches = _epoch_of(examples, schedule, seed, epoch).prefetched()
        fitted = model.fit(batches, epochs=1, shuffle=False, verbose=0, validation_data=held_out)
        row = {"epoch": float(epoch)} | {k: float(v[0]) for k, v in fitted.history.items()}
        values = tuple(keras.ops.convert_to_numpy(variable) for variable in variables)
        _check_finite(
            row, {v.path: value for v, value in zip(variables, values, strict=True)}, schedule
        )
        progress = Progress((*progress.history, row), values)
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
        # The first rate is not zero: a training of a single step would learn nothing.
        initial_learning_rate=schedule.learning_rate / warmup,
        decay_steps=max(1, steps - warmup),
        warmup_target=schedule.learning_rate,
        warmup_steps=warmup,
    )


def _epoch_of(examples: Examples, schedule: Schedule, seed: int, epoch: int) -> Batches:
    count = len(examples)
    order = generator(seed, "order", epoch).permutation(count)
    transforms = None
    if schedule.augmentation is not None:
        rng = generator(seed, "augmentation", epoch)
        transforms = draw_transforms(count, schedule.augmentation, rng)
    return Batches(examples, schedule.batch_size, order, transforms)


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
