"""What trainings say of a model, and of the difference between two models.

There are two sources of chance: which images are held out, and which seed a training begins from.
Every interval and test here says which of them it respects:

- one training, held-out images: the images only. Wilson's interval for an accuracy, Newcombe's for
  a difference, McNemar's exact test. They speak of these two trained networks.
- several trainings, the same held-out images: both, as crossed random effects (Dorfman, Berbaum and
  Metz 1992; degrees of freedom by Hillis 2007). It is the analysis of studies in which several
  readers judge the same cases; seeds take the place of readers.
- folds: both, by the corrected resampled t test (Nadeau and Bengio 2003; for repeated folds
  Bouckaert and Frank 2004), since trainings on overlapping images are not independent.

Accuracies are in [0, 1], losses are cross-entropies in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
# Keras clips probabilities there before it takes logarithms.
_LEAST_PROBABILITY = 1e-7

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One training's outcome on the images held out from it.

    `correct` `(n,)` bool; `loss` `(n,)` cross-entropy in nats, weight penalties not included.
    """

    correct: NDArray[np.bool_]
    loss: Floats

    @classmethod
    def of(cls, label: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Scored:
        """From `(n,)` labels and `(n, classes)` probabilities."""
        given = probabilities[np.arange(len(label)), label].astype(np.float64)
        correct = probabilities.argmax(axis=1) == label
        return cls(correct, -np.log(np.clip(given, _LEAST_PROBABILITY, 1)))


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, its 95 % interval and a one-sided test.

    `p_value` is the probability of a mean as high as this if the true one were 0 (or what else
    was said to compare it with).
    """

    value: float
    error: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two networks gets right, and the exact two-sided test."""

    only_incumbent: int
    only_candidate: int
    p_value: float


def mcnemar(incumbent: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test of two networks on the same images: a sign test (McNemar 1947)."""
    only_incumbent = int((incumbent & ~candidate).sum())
    only_candidate = int((candidate & ~incumbent).sum())
    return McNemar(only_incumbent, only_candidate, sign_test(only_candidate, only_incumbent))


def sign_test(
    wins: int, losses: int, alternative: Literal["two-sided", "greater"] = "two-sided"
) -> float:
    """Exact binomial test that wins and losses are equally likely; 1 where there are none."""
    if wins + losses == 0:
        return 1.0
    # A second to import, which only those wait for who compute a statistic.
    from scipy import stats

    return float(stats.binomtest(wins, wins + losses, 0.5, alternative).pvalue)


def paired_interval(
    incumbent: NDArray[np.bool_], candidate: NDArray[np.bool_], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Newcombe's interval (1998, method 10) for a difference of two accuracies on the same images.

    Wilson's intervals of both accuracies, put together with respect to their correlation.
    """
    from statsmodels.stats.proportion import proportion_confint

    n = len(incumbent)
    both, neither = int((incumbent & candidate).sum()), int((~incumbent & ~candidate).sum())
    right, old_right = int(candidate.sum()), int(incumbent.sum())
    p, q = right / n, old_right / n
    p_low, p_high = proportion_confint(right, n, 1 - confidence, "wilson")
    q_low, q_high = proportion_confint(old_right, n, 1 - confidence, "wilson")
    product = right * (n - right) * old_right * (n - old_right)
    agreement: float = both * neither - (right - both) * (old_right - both)
    if agreement > 0:
        agreement = max(agreement - n / 2, 0)
    phi = agreement / math.sqrt(product) if product else 0.0
    down, up = p - p_low, q_high - q
    below = math.sqrt(max(down**2 - 2 * phi * down * up + up**2, 0))
    down, up = q - q_low, p_high - p
    above = math.sqrt(max(down**2 - 2 * phi * down * up + up**2, 0))
    return p - q - below, p - q + above


@dataclass(frozen=True)
class MeanSquares:
    """Two-way analysis of variance of a `(seeds, images)` table without repetition."""

    seeds: float
    images: float
    residual: float


def mean_squares(table: Floats) -> MeanSquares:
    """The mean squares of seeds (rows), images (columns) and what is left."""
    rows, columns = table.shape
    grand = table.mean()
    by_row, by_column = table.mean(axis=1) - grand, table.mean(axis=0) - grand
    residual = table - grand - by_row[:, None] - by_column[None, :]
    return MeanSquares(
        float(columns * (by_row**2).sum() / (rows - 1)),
        float(rows * (by_column**2).sum() / (columns - 1)),
        float((residual**2).sum() / ((rows - 1) * (columns - 1))),
    )


def crossed(
    mean: float, squares: MeanSquares, seeds: int, images: int, against: float = 0.0
) -> Estimate:
    """A mean over crossed random seeds and images.

    The squared error is (MS seeds + max(MS images - MS residual, 0)) / (seeds x images), which
    tends to the sum of both variances of the mean; degrees of freedom are Hillis's (2007). Where
    seeds seem to vary less than nothing (MS seeds < MS residual) they count as not varying, as it
    is done with images: with two or three seeds the test would be too bold otherwise.
    """
    of_seeds = max(squares.seeds, squares.residual)
    both = of_seeds + max(squares.images - squares.residual, 0)
    error = math.sqrt(both / (seeds * images))
    freedom = (seeds - 1) * (both / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return _by_t(mean, error, freedom, against)


def corrected_resampled(
    means: Sequence[float], folds: int, against: float = 0.0, least: float = 0.0
) -> Estimate:
    """A mean over the folds of repeated cross-validation, one value a training.

    The variance of the mean is (1 / J + 1 / (folds - 1)) times that of the J values: the second
    term, test images to training images, is Nadeau and Bengio's correction. The values count as
    varying by at least `least`, what the choice of images alone does: a few folds that happen to
    agree prove nothing.
    """
    values = np.asarray(means, np.float64)
    variance = max(float(values.var(ddof=1)), least)
    error = math.sqrt((1 / len(values) + 1 / (folds - 1)) * variance)
    return _by_t(float(values.mean()), error, len(values) - 1, against)


def _of_folds(values: Sequence[Floats], folds: int, against: float = 0.0) -> Estimate:
    """A mean over folds of what each training has, image by image."""
    least = float(np.mean([value.var(ddof=1) / len(value) for value in values]))
    return corrected_resampled([float(value.mean()) for value in values], folds, against, least)


def _by_t(mean: float, error: float, freedom: float, against: float) -> Estimate:
    if error == 0:
        # All values are the same: there is nothing that a test could go by.
        return Estimate(mean, 0.0, mean, mean, 0.0 if mean > against else 1.0)
    from scipy import stats

    distribution = stats.t(freedom)
    reach = float(distribution.ppf((1 + CONFIDENCE) / 2)) * error
    p_value = float(distribution.sf((mean - against) / error))
    return Estimate(mean, error, mean - reach, mean + reach, p_value)


def accuracy(scored: Sequence[Scored], folds: int | None, against: float = 0.0) -> Estimate:
    """The mean accuracy of a model's trainings, tested against a fixed accuracy.

    Several trainings without `folds` were scored on the same images, in the same order. Where they
    all get the same images right there is nothing to learn of their spread, and what holds of the
    first is returned.
    """
    found = None
    rights = [training.correct.astype(np.float64) for training in scored]
    if folds is not None:
        found = _within(_of_folds(rights, folds, against), 0, 1)
    elif len(scored) > 1:
        found = _within(_crossed(np.stack(rights), against), 0, 1)
    if found is not None and found.error > 0:
        return found
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    correct = scored[0].correct
    right, n = int(correct.sum()), len(correct)
    low, high = proportion_confint(right, n, 1 - CONFIDENCE, "wilson")
    value = right / n
    p_value = float(stats.binomtest(right, n, against, "greater").pvalue)
    return Estimate(value, math.sqrt(value * (1 - value) / n), float(low), float(high), p_value)


def accuracy_difference(
    incumbent: Sequence[Scored], candidate: Sequence[Scored], folds: int | None
) -> Estimate:
    """Accuracy of the candidate minus that of the incumbent; trainings are paired by their order.

    Where all pairs differ alike, what holds of the first is returned.

    Raises:
        ValueError: there are not as many of one as of the other, or on other images.
    """
    pairs = [
        candidates.correct.astype(np.float64) - incumbents.correct
        for incumbents, candidates in _paired(incumbent, candidate)
    ]
    found = None
    if folds is not None:
        found = _within(_of_folds(pairs, folds), -1, 1)
    elif len(pairs) > 1:
        found = _within(_crossed(np.stack(pairs)), -1, 1)
    if found is not None and found.error > 0:
        return found
    before, after = incumbent[0], candidate[0]
    counts = mcnemar(before.correct, after.correct)
    low, high = paired_interval(before.correct, after.correct)
    error = float(pairs[0].std() / math.sqrt(len(pairs[0])))
    p_value = sign_test(counts.only_candidate, counts.only_incumbent, "greater")
    return Estimate(float(pairs[0].mean()), error, low, high, p_value)


def _within(found: Estimate, lowest: float, highest: float) -> Estimate:
    """The interval without what lies outside of what is possible."""
    low, high = np.clip([found.low, found.high], lowest, highest)
    return replace(found, low=float(low), high=float(high))


def loss_difference(
    incumbent: Sequence[Scored], candidate: Sequence[Scored], folds: int | None
) -> Estimate:
    """Loss of the candidate minus that of the incumbent; `p_value` is that of a loss as high."""
    pairs = [after.loss - before.loss for before, after in _paired(incumbent, candidate)]
    if folds is not None:
        return _of_folds(pairs, folds)
    if len(pairs) > 1:
        return _crossed(np.stack(pairs))
    only = pairs[0]
    return _by_t(
        float(only.mean()), float(only.std(ddof=1) / math.sqrt(len(only))), len(only) - 1, 0.0
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number (Holm 1979); each keeps its place."""
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(p_values, method="holm")[1]]


def _crossed(table: Floats, against: float = 0.0) -> Estimate:
    seeds, images = table.shape
    return crossed(float(table.mean()), mean_squares(table), seeds, images, against)


def _paired(
    incumbent: Sequence[Scored], candidate: Sequence[Scored]
) -> list[tuple[Scored, Scored]]:
    pairs = list(zip(incumbent, candidate, strict=True))
    if any(before.correct.shape != after.correct.shape for before, after in pairs):
        raise ValueError("both models have to be scored on the same images")
    return pairs
