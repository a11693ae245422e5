"""Means with standard error, interval and test, over trainings that are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.core.array_types import Float64
from tasks.core.statistics.proportions import CONFIDENCE


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, its 95 % interval and a one-sided test.

    `p_value` is the probability of a mean at least this high if the true mean were `against`, which
    is 0 unless stated otherwise.
    """

    value: float
    error: float
    low: float
    high: float
    p_value: float

    def within(self, lowest: float, highest: float) -> Estimate:
        """A copy with the interval clipped to the possible values."""
        low, high = np.clip([self.low, self.high], lowest, highest)
        return replace(self, low=float(low), high=float(high))

    def negated(self) -> Estimate:
        """The estimate of minus the mean; the p value stays that of the mean before."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)


@dataclass(frozen=True)
class MeanSquares:
    """Two-way analysis of variance of a `(seeds, images)` table with one value per cell."""

    seeds: float
    images: float
    residual: float


def mean_squares(table: Float64) -> MeanSquares:
    """The mean squares of seeds (rows), images (columns) and the residual."""
    rows, columns = table.shape
    grand = table.mean()
    by_row, by_column = table.mean(axis=1) - grand, table.mean(axis=0) - grand
    residual = table - grand - by_row[:, None] - by_column[None, :]
    return MeanSquares(
        float(columns * (by_row**2).sum() / (rows - 1)),
        float(rows * (by_column**2).sum() / (columns - 1)),
        float((residual**2).sum() / ((rows - 1) * (columns - 1))),
    )


def over_seeds_and_images(table: Float64, against: float = 0.0) -> Estimate:
    """The mean of a `(seeds, images)` table, with seeds and images as crossed random effects."""
    seeds, images = table.shape
    return crossed(float(table.mean()), mean_squares(table), seeds, images, against)


def crossed(
    mean: float, squares: MeanSquares, seeds: int, images: int, against: float = 0.0
) -> Estimate:
    """A mean over crossed random seeds and images.

    The squared error is (MS seeds + max(MS images - MS residual, 0)) / (seeds x images), which
    tends to the sum of both variances of the mean; the degrees of freedom are Hillis's (2007). If
    the estimated variance of seeds is negative (MS seeds < MS residual), it counts as zero, like
    that of images. Otherwise the test would reject too often with two or three seeds.
    """
    of_seeds = max(squares.seeds, squares.residual)
    both = of_seeds + max(squares.images - squares.residual, 0)
    error = math.sqrt(both / (seeds * images))
    freedom = (seeds - 1) * (both / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return by_t(mean, error, freedom, against)


def over_folds(values: Sequence[Float64], folds: int, against: float = 0.0) -> Estimate:
    """A mean over folds of per-image values, one array `(n,)` for each training."""
    least = float(np.mean([value.var(ddof=1) / len(value) for value in values]))
    return corrected_resampled([float(value.mean()) for value in values], folds, against, least)


def corrected_resampled(
    means: Sequence[float], folds: int, against: float = 0.0, least: float = 0.0
) -> Estimate:
    """A mean over the folds of repeated cross-validation, one value per training.

    The variance of the mean is (1 / J + 1 / (folds - 1)) times that of the J values. The second
    term, test images divided by training images, is Nadeau and Bengio's correction. The variance
    of the values is at least `least`, the part that the choice of images alone explains: a few
    folds that happen to agree prove nothing.
    """
    values = np.asarray(means, np.float64)
    variance = max(float(values.var(ddof=1)), least)
    error = math.sqrt((1 / len(values) + 1 / (folds - 1)) * variance)
    return by_t(float(values.mean()), error, len(values) - 1, against)


def by_t(mean: float, error: float, freedom: float, against: float) -> Estimate:
    """The interval and test that Student's t gives for a mean and its standard error."""
    if error == 0:
        # All values are equal, so there is no variance to test against.
        return Estimate(mean, 0.0, mean, mean, 0.0 if mean > against else 1.0)
    from scipy import stats

    distribution = stats.t(freedom)
    reach = float(distribution.ppf((1 + CONFIDENCE) / 2)) * error
    p_value = float(distribution.sf((mean - against) / error))
    return Estimate(mean, error, mean - reach, mean + reach, p_value)
