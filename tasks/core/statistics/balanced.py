"""Balanced accuracy: the mean recall of the classes, with intervals for classes of few images.

Recall is the share of a class's images that are right. The balanced accuracy of n images, n_c of
class c, is also the mean over images of correct * n / (classes * n_c). Classes without an image do
not count (as in scikit-learn's `balanced_accuracy_score`).

The numbers of images per class are fixed, so the error of the mean comes from the variance within
classes: the sum over classes of variance / n_c, divided by the number of classes squared (Cochran
1977, chapter 5). The variance in a few images that happen to be all right is 0, which would prove
far too much. So the mean and the variance of each class also count pseudo-images at both ends of
the range of values, `pseudo` at each end, shared by the classes: two for a model (Agresti and Coull
1998, for one proportion; Price and Bonett 2004, for linear functions of proportions) and one for
the difference of two models on the same images (Bonett and Price 2012). Unlike there, the variance
is divided by n_c without pseudo-images: with one to three images in a class, intervals covered too
rarely otherwise. Intervals are centred on the mean with pseudo-images. The test takes that mean or
the one without, whichever is nearer to the value tested: else a model that always names one class
could seem better than that. With classes of one to three images, intervals cover the true value
more often than stated and are wide; tests/tasks/core/statistics/test_balanced.py simulates it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float64, Int64
from tasks.core.statistics.estimates import (
    Estimate,
    MeanSquares,
    by_t,
    corrected_resampled,
    crossed,
)


@dataclass(frozen=True)
class Range:
    """The values that an image can have, and the pseudo-images at each end of them."""

    lowest: float
    highest: float
    pseudo: float


RIGHT = Range(0, 1, 2)
GAIN = Range(-1, 1, 1)


@dataclass(frozen=True)
class Strata:
    """The classes of `(n,)` images: `of` is each image's place among them, `sizes` their images."""

    of: Int64
    sizes: Int64

    @classmethod
    def by(cls, labels: NDArray[np.integer]) -> Strata:
        """The classes that occur among the labels."""
        _, of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        return cls(of, sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def weights(self) -> Float64:
        """`(n,)`: what makes the mean over classes a mean over images."""
        return (len(self.of) / (len(self) * self.sizes))[self.of]

    def sums(self, values: Float64) -> Float64:
        """The sum over the images of each class."""
        found: Float64 = np.bincount(self.of, values, len(self)).astype(np.float64)
        return found

    def means(self, values: Float64) -> Float64:
        """The mean over the images of each class."""
        return self.sums(values) / self.sizes

    def moderated(self, values: Float64, within: Range) -> tuple[float, float]:
        """The mean over classes with pseudo-images, and its variance."""
        each = within.pseudo / len(self)
        sizes = self.sizes + 2 * each
        ends = np.array([within.lowest, within.highest])
        means = (self.sums(values) + each * ends.sum()) / sizes
        squares = self.sums((values - means[self.of]) ** 2)
        squares += each * ((ends[:, None] - means) ** 2).sum(axis=0)
        variance = float((squares / sizes / self.sizes).sum()) / len(self) ** 2
        return float(means.mean()), variance


def over_classes(
    values: Sequence[Float64],
    labels: Sequence[NDArray[np.integer]],
    folds: int | None,
    within: Range,
    against: float = 0.0,
) -> Estimate:
    """The mean over classes of per-image values, one array `(n,)` for each training.

    One training: a t test over images. Several, on the same images: seeds and images as crossed
    random effects. Folds: the corrected resampled t test, on the images held out by all folds of a
    replicate, whose trainings follow each other.
    """
    if folds is None:
        found = _over_images(np.stack(values), Strata.by(labels[0]), within, against)
    else:
        found = _over_folds(values, labels, folds, within, against)
    return found.within(within.lowest, within.highest)


def _over_images(table: Float64, strata: Strata, within: Range, against: float) -> Estimate:
    """As `over_seeds_and_images`, with mean squares within classes."""
    seeds, images = table.shape
    mean, by_images = strata.moderated(table.mean(axis=0), within)
    value = float(strata.means(table.mean(axis=0)).mean())
    tested = _tested(value, mean, against)
    if seeds == 1:
        freedom = max(1, images - len(strata))
        return replace(by_t(mean, math.sqrt(by_images), freedom, tested), value=value)
    scores = np.array([strata.means(row) for row in table])
    residual = table - table.mean(axis=0) - (scores - scores.mean(axis=0))[:, strata.of]
    squares = strata.sums((residual**2).sum(axis=0)) / np.maximum(strata.sizes - 1, 1)
    by_chance = float((squares / strata.sizes).sum() / (seeds - 1) / seeds / len(strata) ** 2)
    by_seeds = float(scores.mean(axis=1).var(ddof=1)) / seeds
    squares_of = MeanSquares(*(table.size * part for part in (by_seeds, by_images, by_chance)))
    return replace(crossed(mean, squares_of, seeds, images, tested), value=value)


def _over_folds(
    values: Sequence[Float64],
    labels: Sequence[NDArray[np.integer]],
    folds: int,
    within: Range,
    against: float,
) -> Estimate:
    """The corrected resampled t test.

    A fold's value is what its images add to the balanced accuracy of all, whichever classes they
    are of: a fold that happens to lack a class is no worse for it.
    """
    means, found, least = [], [], []
    for start in range(0, len(values), folds):
        parts = values[start : start + folds]
        together = np.concatenate(parts)
        strata = Strata.by(np.concatenate(labels[start : start + folds]))
        mean, by_images = strata.moderated(together, within)
        above = (together - strata.means(together)[strata.of]) * strata.weights()
        ends = np.cumsum([len(part) for part in parts])[:-1]
        means += [mean + float(part.mean()) for part in np.split(above, ends)]
        found.append(float(strata.means(together).mean()))
        least.append(folds * by_images)
    value = float(np.mean(found))
    tested = _tested(value, float(np.mean(means)), against)
    return replace(corrected_resampled(means, folds, tested, float(np.mean(least))), value=value)


def _tested(value: float, mean: float, against: float) -> float:
    """What to test `mean` against, so that of both means the one nearer to `against` is tested."""
    return against + mean - min(value, mean, key=lambda each: abs(each - against))
