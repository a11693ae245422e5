"""Estimates of a model's score, and of the difference between two models.

Results vary by chance with the images that are held out, and with the seed of a training.
Each interval and test here accounts for one or both:

- one training, held-out images: the images only. Wilson's interval for an accuracy, Newcombe's for
  a difference, McNemar's exact test. They apply to these two trained networks.
- several trainings, the same held-out images: both, as crossed random effects (Dorfman, Berbaum and
  Metz 1992; degrees of freedom by Hillis 2007). This is the analysis of studies in which several
  readers judge the same cases, with seeds in place of readers.
- folds: both, by the corrected resampled t test (Nadeau and Bengio 2003; for repeated folds
  Bouckaert and Frank 2004), since trainings on overlapping images are not independent.

The score is the accuracy, the balanced accuracy (`tasks.core.statistics.balanced`) or the log loss;
with one training, the last two have a t test over images in place of the methods for proportions.
Log losses have a long tail of images that are wrong and sure. With fewer than about twenty wrong
predictions, the 95 % interval of a log loss covers the true value too rarely: with eight in about
85 % of cases, with sixty in 94 % (simulated in tests/tasks/core/statistics/test_evidence.py).

Accuracies are in [0, 1], losses are cross-entropies in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Bool, Float64, Int64
from tasks.core.settings.evaluation import Metric
from tasks.core.statistics.balanced import GAIN, RIGHT, over_classes
from tasks.core.statistics.estimates import (
    Estimate,
    by_t,
    over_folds,
    over_seeds_and_images,
)
from tasks.core.statistics.proportions import (
    mcnemar,
    newcombe_interval,
    sign_test,
    wilson_interval,
)

# Keras clips probabilities at this value before it takes logarithms.
_LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Scored:
    """One training's predictions on the images that it did not train on, scored.

    `label` is `(n,)` class indices; `correct` is `(n,)` bool; `loss` is `(n,)` cross-entropy in
    nats without weight penalties.
    """

    label: Int64
    correct: Bool
    loss: Float64

    @classmethod
    def of(cls, label: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Scored:
        """Score `(n, classes)` probabilities against `(n,)` labels."""
        given = probabilities[np.arange(len(label)), label].astype(np.float64)
        correct = probabilities.argmax(axis=1) == label
        loss = -np.log(np.clip(given, _LEAST_PROBABILITY, 1))
        return cls(label.astype(np.int64), correct, loss)


def constant(label: NDArray[np.integer], counts: Int64) -> Scored:
    """What a model scores that never looks at an image: it predicts the commonest class.

    Its probabilities are the frequencies of the classes.

    Args:
        label: `(n,)` class indices of the images to score it on.
        counts: `(classes,)` training images of each class.
    """
    return Scored.of(label, np.broadcast_to(counts / counts.sum(), (len(label), len(counts))))


def score(
    metric: Metric, scored: Sequence[Scored], folds: int | None, against: float = 0.0
) -> Estimate:
    """The mean score of a model's trainings, tested against a fixed score.

    `p_value` is the probability of a score at least this good if the true one were `against`.
    """
    if metric == "accuracy":
        return accuracy(scored, folds, against)
    if metric == "balanced_accuracy":
        correct = [training.correct.astype(np.float64) for training in scored]
        return over_classes(correct, _labels(scored), folds, RIGHT, against)
    # A lower loss is a better one.
    return _of_losses([-training.loss for training in scored], folds, -against).negated()


def gain(
    metric: Metric, incumbent: Sequence[Scored], candidate: Sequence[Scored], folds: int | None
) -> Estimate:
    """By how much the candidate is better: positive also where a lower score is the better one.

    Raises:
        ValueError: the models have different numbers of trainings, or different images.
    """
    if metric == "accuracy":
        return accuracy_difference(incumbent, candidate, folds)
    pairs = _paired(incumbent, candidate)
    if metric == "balanced_accuracy":
        gains = [after.correct.astype(np.float64) - before.correct for before, after in pairs]
        return over_classes(gains, _labels(candidate), folds, GAIN)
    return _of_losses([before.loss - after.loss for before, after in pairs], folds)


def _labels(scored: Sequence[Scored]) -> list[Int64]:
    return [training.label for training in scored]


def accuracy(scored: Sequence[Scored], folds: int | None, against: float = 0.0) -> Estimate:
    """The mean accuracy of a model's trainings, tested against a fixed accuracy.

    Without `folds`, all trainings were scored on the same images in the same order. If the
    standard error is 0 (all predictions right, or all wrong), only the first training is assessed.
    """
    found = _over_trainings(
        [training.correct.astype(np.float64) for training in scored], folds, against
    )
    if found is not None and found.error > 0:
        return found.within(0, 1)
    from scipy import stats

    correct = scored[0].correct
    right, n = int(correct.sum()), len(correct)
    low, high = wilson_interval(right, n)
    value = right / n
    p_value = float(stats.binomtest(right, n, against, "greater").pvalue)
    return Estimate(value, math.sqrt(value * (1 - value) / n), low, high, p_value)


def accuracy_difference(
    incumbent: Sequence[Scored], candidate: Sequence[Scored], folds: int | None
) -> Estimate:
    """Accuracy of the candidate minus that of the incumbent; trainings are paired by their order.

    If the standard error is 0 (the same difference on every image), only the first pair is
    assessed.

    Raises:
        ValueError: the models have different numbers of trainings, or different images.
    """
    pairs = [
        after.correct.astype(np.float64) - before.correct
        for before, after in _paired(incumbent, candidate)
    ]
    found = _over_trainings(pairs, folds)
    if found is not None and found.error > 0:
        return found.within(-1, 1)
    before, after = incumbent[0], candidate[0]
    counts = mcnemar(before.correct, after.correct)
    low, high = newcombe_interval(before.correct, after.correct)
    error = float(pairs[0].std() / math.sqrt(len(pairs[0])))
    p_value = sign_test(counts.only_candidate, counts.only_incumbent, "greater")
    return Estimate(float(pairs[0].mean()), error, low, high, p_value)


def loss_difference(
    incumbent: Sequence[Scored], candidate: Sequence[Scored], folds: int | None
) -> Estimate:
    """Loss of the candidate minus that of the incumbent; `p_value` is for an increase."""
    pairs = _paired(incumbent, candidate)
    return _of_losses([after.loss - before.loss for before, after in pairs], folds)


def _of_losses(values: Sequence[Float64], folds: int | None, against: float = 0.0) -> Estimate:
    """The mean of losses, or of differences of losses; a t test over images for one training."""
    found = _over_trainings(values, folds, against)
    if found is not None:
        return found
    only = values[0]
    error = float(only.std(ddof=1) / math.sqrt(len(only)))
    return by_t(float(only.mean()), error, len(only) - 1, against)


def _over_trainings(
    values: Sequence[Float64], folds: int | None, against: float = 0.0
) -> Estimate | None:
    """The mean of per-image values over trainings; None for a single training without folds."""
    if folds is not None:
        return over_folds(values, folds, against)
    if len(values) > 1:
        return over_seeds_and_images(np.stack(values), against)
    return None


def _paired(
    incumbent: Sequence[Scored], candidate: Sequence[Scored]
) -> list[tuple[Scored, Scored]]:
    pairs = list(zip(incumbent, candidate, strict=True))
    if any(before.correct.shape != after.correct.shape for before, after in pairs):
        raise ValueError("both models have to be scored on the same images")
    return pairs
