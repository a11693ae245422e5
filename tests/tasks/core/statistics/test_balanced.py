"""Balanced accuracy: what follows from its definition, and how often its intervals and tests err.

The simulations have classes of 394, 3 and 3 images, and of one image, where the variance in a class
is often 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tasks.core.settings.evaluation import Metric
from tasks.core.statistics.evidence import Scored, constant, gain, score

BALANCED: Metric = "balanced_accuracy"
ALPHA = 0.05


def scored(labels: NDArray[np.int64], correct: NDArray[np.bool_]) -> Scored:
    return Scored(labels, correct, np.where(correct, 0.1, 2.0))


# What follows from the definition

answers = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40)


@given(answers)
def test_it_is_the_mean_recall_of_the_classes_that_occur(given: list[tuple[int, bool]]) -> None:
    labels, correct = (np.array(values) for values in zip(*given, strict=True))
    recalls = [correct[labels == label].mean() for label in set(labels.tolist())]
    found = score(BALANCED, [scored(labels, correct)], None)
    assert found.value == pytest.approx(np.mean(recalls))
    assert 0 <= found.low <= found.high <= 1
    assert found.error > 0, "a few images never prove that a class is always right"


@given(answers, st.integers(1, 4), st.sampled_from([None, 2]))
def test_swapping_the_models_changes_the_sign(
    given: list[tuple[int, bool]], count: int, folds: int | None
) -> None:
    labels = np.array([label for label, _ in given])
    draw = np.random.default_rng(len(given))
    trainings = count * (folds or 1)
    one, other = (
        [scored(labels, draw.random(len(labels)) < 0.5) for _ in range(trainings)] for _ in "ab"
    )
    forth, back = gain(BALANCED, one, other, folds), gain(BALANCED, other, one, folds)
    assert forth.value == pytest.approx(-back.value)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    # Within rounding, since p values near 0 and 1 are exact only at one end.
    assert forth.p_value == pytest.approx(1 - back.p_value, abs=1e-9)


def test_many_images_have_the_error_within_classes() -> None:
    """Not the one between: recalls of 0.9 and 0.1 of 4,000 and 1,000 images."""
    labels = np.repeat([0, 1], [4_000, 1_000])
    correct = np.concatenate([np.arange(4_000) < 3_600, np.arange(1_000) < 100])
    found = score(BALANCED, [scored(labels, correct)], None)
    expected = math.sqrt(0.09 / 4_000 + 0.09 / 1_000) / 2
    assert found.value == pytest.approx(0.5)
    assert found.error == pytest.approx(expected, rel=0.01)


def test_folds_that_lack_a_class_are_no_worse_for_it() -> None:
    """Every image is right, and two of three folds have none of the rare class."""
    labels = [np.zeros(20, np.int64)] * 2 + [np.repeat([0, 1], [17, 3])]
    right = [scored(label, np.ones(20, bool)) for label in labels]
    found = score(BALANCED, right, 3)
    assert found.value == 1
    wrong = [scored(label, label == 0) for label in labels]
    assert score(BALANCED, wrong, 3).value == pytest.approx(0.5)
    assert gain(BALANCED, wrong, right, 3).value == pytest.approx(0.5)


@pytest.mark.parametrize("sizes", [(394, 3, 3), (131, 1, 1), (40,) * 10, (1,) * 20])
def test_a_model_that_names_one_class_is_not_better_than_that(sizes: Sequence[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    blind = constant(labels, np.array(sizes))
    assert score(BALANCED, [blind], None).value == pytest.approx(1 / len(sizes))
    for seeds in (1, 5):
        assert score(BALANCED, [blind] * seeds, None, 1 / len(sizes)).p_value >= 0.499


def test_a_log_loss_is_better_if_it_is_lower() -> None:
    labels = np.zeros(50, np.int64)
    losses = np.random.default_rng(0).uniform(0.1, 0.3, 50)
    low, high = (Scored(labels, labels == 0, losses + more) for more in (0.0, 0.1))
    found = score("log_loss", [low], None, against=0.3)
    assert found.value == pytest.approx(losses.mean())
    assert found.low < found.value < found.high < 0.3
    assert found.p_value < 0.001
    assert score("log_loss", [high], None, against=0.2).p_value > 0.999
    assert gain("log_loss", [high], [low], None).value == pytest.approx(0.1)
    assert gain("log_loss", [high] * 3, [low] * 3, None).value == pytest.approx(0.1)


# Simulations: images differ in difficulty, trainings in luck


def trainings(
    rng: np.random.Generator,
    recalls: Sequence[Sequence[float]],
    sizes: Sequence[int],
    seeds: int,
    spread: float,
) -> list[list[Scored]]:
    """Trainings of models with these true recalls, all scored on the same images.

    As in test_evidence.py: an image is easy or hard for all trainings (probit, standard deviation 2
    against 1 of chance), and a training's recalls deviate from its model's by `spread`.
    """
    labels = np.repeat(np.arange(len(sizes)), sizes)
    hardness = rng.normal(0, 2, len(labels))
    models = []
    for means in recalls:
        reached = np.clip(np.array(means) + rng.normal(0, spread, (seeds, 1)), 0.001, 0.999)
        level = (stats.norm.ppf(reached) * math.hypot(2, 1))[:, labels]
        correct = level + hardness + rng.normal(0, 1, level.shape) > 0
        models.append([scored(labels, row) for row in correct])
    return models


RARE = (394, 3, 3)
ONE_EACH = (131, 1, 1)
USUAL = (40,) * 10


def among(sizes: Sequence[int], common: float, rare: float) -> list[float]:
    return [common] + [rare] * (len(sizes) - 1)


@pytest.mark.parametrize("sizes", [RARE, ONE_EACH, USUAL], ids=["394, 3, 3", "131, 1, 1", "even"])
@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.01), (5, 0.01)])
@pytest.mark.parametrize(
    ("before", "after"), [((0.95, 0.5), (0.95, 0.5)), ((0.95, 0.3), (0.93, 0.6))]
)
def test_intervals_cover_the_true_score_and_gain_at_least_as_often_as_stated(
    sizes: Sequence[int],
    seeds: int,
    spread: float,
    before: tuple[float, float],
    after: tuple[float, float],
) -> None:
    """At least 93 % of 500; of rare classes nearly all, since intervals are wide."""
    rng = np.random.default_rng([len(sizes), sizes[1], seeds])
    truths = [among(sizes, *before), among(sizes, *after)]
    score_held = gain_held = 0
    for _ in range(500):
        one, other = trainings(rng, truths, sizes, seeds, spread)
        found = score(BALANCED, other, None)
        score_held += bool(found.low <= np.mean(truths[1]) <= found.high)
        difference = gain(BALANCED, one, other, None)
        truth = float(np.mean(truths[1]) - np.mean(truths[0]))
        gain_held += difference.low <= truth <= difference.high
    assert score_held / 500 >= 0.93
    assert gain_held / 500 >= 0.93


@pytest.mark.parametrize("common", [0.98, 0.9, 0.5])
@pytest.mark.parametrize("sizes", [RARE, ONE_EACH, (100, 3), USUAL, (3,) * 10])
def test_a_model_no_better_than_chance_seems_better_at_most_at_the_stated_rate(
    sizes: Sequence[int], common: float
) -> None:
    classes = len(sizes)
    rng = np.random.default_rng([classes, sizes[1]])
    rare = (1 - common) / (classes - 1)
    times, labels = 1_000, np.repeat(np.arange(classes), sizes)
    recalls = np.array(among(sizes, common, rare))[labels]
    better = sum(
        score(BALANCED, [scored(labels, rng.random(len(labels)) < recalls)], None, 1 / classes)
        .p_value <= ALPHA
        for _ in range(times)
    )  # fmt: skip
    assert better <= stats.binom(times, ALPHA).ppf(0.9975)


@pytest.mark.parametrize("sizes", [RARE, USUAL], ids=["394, 3, 3", "even"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_change_without_effect_seems_better_at_most_at_the_stated_rate(
    sizes: Sequence[int], seeds: int
) -> None:
    rng = np.random.default_rng([len(sizes), seeds])
    truth = among(sizes, 0.9, 0.6)
    gains = 600
    better = 0
    for _ in range(gains):
        one, other = trainings(rng, [truth, truth], sizes, seeds, 0.01 * (seeds > 1))
        better += gain(BALANCED, one, other, None).p_value <= ALPHA
    assert better <= stats.binom(gains, ALPHA).ppf(0.9975)


def test_what_rare_classes_can_show() -> None:
    """Three images of a class never recognised before and nearly always after: found mostly."""
    rng = np.random.default_rng(5)
    truths = [among(RARE, 0.98, 0.05), among(RARE, 0.98, 0.95)]
    found = 0
    for _ in range(200):
        one, other = trainings(rng, truths, RARE, 3, 0.01)
        found += gain(BALANCED, one, other, None).p_value <= ALPHA
    assert found / 200 >= 0.9


@pytest.mark.parametrize(("sizes", "folds"), [((300, 6, 6), 2), ((300, 6, 6), 3), (USUAL, 5)])
def test_folds_without_a_real_difference_err_at_most_at_their_level(
    sizes: Sequence[int], folds: int
) -> None:
    rng = np.random.default_rng([len(sizes), folds])
    truth = among(sizes, 0.95, 0.5)
    better = covered = 0
    for _ in range(400):
        found = trainings(rng, [truth, truth], sizes, 1, 0.0)
        labels = found[0][0].label
        fold = rng.permutation(len(labels)) % folds
        one, other = (
            [scored(labels[fold == f], model.correct[fold == f]) for f in range(folds)]
            for (model,) in found
        )
        better += gain(BALANCED, one, other, folds).p_value <= ALPHA
        interval = score(BALANCED, one, folds)
        covered += bool(interval.low <= np.mean(truth) <= interval.high)
    assert better <= stats.binom(400, ALPHA).ppf(0.9975)
    assert covered / 400 >= 0.93
