"""How much the choice of the best of several models flatters it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Optimism:
    """What the best of some models is worth on images that did not choose it, in [0, 1].

    `corrected` is its accuracy there, with a 95 % percentile interval; `optimism` is by how much
    the highest accuracy on all images exceeds it.
    """

    optimism: float
    corrected: float
    low: float
    high: float


def optimism(correct: Floats, rng: np.random.Generator, resamples: int = RESAMPLES) -> Optimism:
    """Bootstrap bias correction (Tsamardinos, Greasidou and Borboudakis 2018, BBC-CV).

    The images are drawn anew with replacement, many times; each time the model that is best on what
    was drawn is scored on the images that were not. This holds for picking the best of all models;
    a row of gates, each of which compares two, chooses less and so flatters less.

    Args:
        correct: `(models, images)` share of a model's trainings that get an image right; two
            images or more.
        rng: what the draws come from.
        resamples: how many.
    """
    images = correct.shape[1]
    outside = np.empty(resamples)
    for number in range(resamples):
        times = _times_drawn(images, rng)
        best = (correct @ times).argmax()
        outside[number] = correct[best, times == 0].mean()
    low, high = np.quantile(outside, [0.025, 0.975])
    corrected = float(outside.mean())
    flattered = float(correct.mean(axis=1).max()) - corrected
    return Optimism(flattered, corrected, float(low), float(high))


def _times_drawn(images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each image is drawn; at least one is not."""
    while True:
        times = np.bincount(rng.integers(images, size=images), minlength=images)
        if not times.all():
            return times
