"""How much the choice of the best of several models flatters it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Optimism:
    """What the best of some models loses on images that did not choose it, accuracies in [0, 1].

    `optimism` is the mean of that loss; `corrected` the mean accuracy on those images, with a 95 %
    percentile interval.
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
        correct: `(models, images)` share of a model's trainings that get an image right.
        rng: what the draws come from.
        resamples: how many.
    """
    images = correct.shape[1]
    inside, outside = np.empty(resamples), np.empty(resamples)
    for number in range(resamples):
        times = np.bincount(rng.integers(images, size=images), minlength=images)
        left_out = times == 0
        scores = correct @ times / images
        best = scores.argmax()
        inside[number] = scores[best]
        outside[number] = correct[best, left_out].mean()
    low, high = np.quantile(outside, [0.025, 0.975])
    return Optimism(
        float((inside - outside).mean()), float(outside.mean()), float(low), float(high)
    )
