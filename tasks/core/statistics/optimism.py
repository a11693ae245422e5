"""How much the best of several models is overestimated on the images that chose it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Float64, Int64

RESAMPLES = 1_000


@dataclass(frozen=True)
class Optimism:
    """The score that the best of several models has on other images.

    `corrected` is that score, with the 95 % percentile interval `low` to `high`. `optimism` is
    the highest score on all images minus `corrected`.
    """

    optimism: float
    corrected: float
    low: float
    high: float


def optimism(values: Float64, rng: np.random.Generator, resamples: int = RESAMPLES) -> Optimism:
    """Bootstrap bias correction (Tsamardinos, Greasidou and Borboudakis 2018, BBC-CV).

    The images are resampled with replacement many times. Each time, the model that is best on the
    sample is scored on the other images. The result applies to picking the best of all
    models. A sequence of gates, each comparing two models, selects less and is less optimistic.

    Args:
        values: `(models, images)` whose mean over images is a model's score, the higher the better,
            e.g. the share of its trainings that classify an image correctly; at least two images.
        rng: the source of randomness.
        resamples: the number of samples.
    """
    images = values.shape[1]
    outside = np.empty(resamples)
    for number in range(resamples):
        times = _times_drawn(images, rng)
        best = (values @ times).argmax()
        outside[number] = values[best, times == 0].mean()
    low, high = np.quantile(outside, [0.025, 0.975])
    corrected = float(outside.mean())
    excess = float(values.mean(axis=1).max()) - corrected
    return Optimism(excess, corrected, float(low), float(high))


def _times_drawn(images: int, rng: np.random.Generator) -> Int64:
    """How often each image is drawn, `(images,)`; at least one image is not drawn."""
    while True:
        times = np.bincount(rng.integers(images, size=images), minlength=images)
        if not times.all():
            return times
