"""How a model is trained: epochs, sizes of batches, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from tasks.core.array_types import Float64
from tasks.core.settings.optimization import (
    AverageSettings,
    Decay,
    OptimizerSettings,
    VariationSettings,
)
from tasks.core.settings.training import AugmentSettings, TrainSettings

# `one_cycle` starts at the peak divided by this.
_DIVISOR = 25


@dataclass(frozen=True)
class Schedule:
    """How a model is trained; by default with RMSprop at a constant rate.

    The fields are those of `tasks.core.settings.training.TrainSettings`, and `layer_rates`: by the
    names of layers, the part of the learning rate at which they learn.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    loss: str = "categorical_crossentropy"
    decay: Decay = "none"
    warmup: float = 0.1
    augmentation: AugmentSettings | None = None
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    final_batch_size: int | None = None
    label_smoothing: float = 0.0
    average: AverageSettings = field(default_factory=AverageSettings)
    variation: VariationSettings = field(default_factory=VariationSettings)
    layer_rates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, training: TrainSettings) -> Schedule:
        """The schedule of a training whose number of epochs is known."""
        shared = {one.name for one in fields(cls)} & set(type(training).model_fields)
        return cls(**{name: getattr(training, name) for name in shared})

    def size_in(self, epoch: int) -> int:
        """The batch size of an epoch, from 1."""
        if self.final_batch_size is None:
            return self.batch_size
        doublings = math.ceil(math.log2(max(1, self.final_batch_size / self.batch_size)))
        if self.epochs > doublings:
            done = (doublings + 1) * (epoch - 1) // self.epochs
        else:
            done = doublings * (epoch - 1) // max(1, self.epochs - 1)
        return min(self.final_batch_size, self.batch_size << done)

    def rates(self, images: int) -> Float64 | None:
        """The learning rate of every step of a training on so many images, and that after the last.

        `(steps + 1,)`; None if it is constant. It rises linearly to the peak (Goyal et al., 2017)
        and falls along a cosine (Loshchilov and Hutter, 2017) or a line.
        """
        if self.decay == "none":
            return None
        steps = sum(-(-images // self.size_in(epoch)) for epoch in range(1, self.epochs + 1))
        rising = min(steps, max(1, math.ceil(steps * self.warmup)))
        step = np.arange(steps + 1)
        up = np.minimum(1, step / rising)
        down = np.clip((step - rising) / max(1, steps - rising), 0, 1)
        if self.decay == "one_cycle":
            first = 1 / _DIVISOR
            rise = first + (1 - first) * (1 - np.cos(np.pi * up)) / 2
        else:
            # The first rate is not zero: a training of a single step would learn nothing.
            rise = (1 + (rising - 1) * up) / rising
        fall = 1 - down if self.decay == "linear" else (1 + np.cos(np.pi * down)) / 2
        found: Float64 = self.learning_rate * np.where(step < rising, rise, fall)
        return found
