"""Comparisons of models: what follows from the definitions, and how often the tests err."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tasks.core.statistics.decisions import Contender, Evidence, decide
from tasks.core.statistics.evidence import (
    Scored,
    accuracy,
    accuracy_difference,
    loss_difference,
    score,
)
from tasks.core.statistics.proportions import McNemar


def scored(correct: NDArray[np.bool_]) -> Scored:
    return Scored(np.zeros(len(correct), np.int64), correct, np.where(correct, 0.1, 2.0))


# What follows from the definitions

tables = st.integers(2, 5).flatmap(
    lambda seeds: st.integers(3, 30).flatmap(
        lambda images: st.lists(
            st.lists(st.booleans(), min_size=images, max_size=images),
            min_size=2 * seeds,
            max_size=2 * seeds,
        )
    )
)


def halves(rows: list[list[bool]]) -> tuple[list[Scored], list[Scored]]:
    found = [scored(np.array(row)) for row in rows]
    return found[: len(found) // 2], found[len(found) // 2 :]


@given(tables, st.sampled_from([None, 5]))
def test_swapping_the_models_changes_the_sign(rows: list[list[bool]], folds: int | None) -> None:
    one, other = halves(rows)
    for difference in (accuracy_difference, loss_difference):
        forth, back = difference(one, other, folds), difference(other, one, folds)
        assert forth.value == pytest.approx(-back.value)
        assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
        assert forth.low <= forth.value <= forth.high
        if forth.error > 0:
            assert forth.p_value == pytest.approx(1 - back.p_value)


@given(tables)
def test_the_difference_is_that_of_the_accuracies(rows: list[list[bool]]) -> None:
    one, other = halves(rows)
    found = accuracy_difference(one, other, None)
    assert found.value == pytest.approx(accuracy(other, None).value - accuracy(one, None).value)


@given(st.lists(st.booleans(), min_size=2), st.data())
def test_one_pair_of_networks(before: list[bool], data: st.DataObject) -> None:
    after = data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before)))
    one, other = scored(np.array(before)), scored(np.array(after))
    found = accuracy_difference([one], [other], None)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert 0 < found.p_value <= 1


def test_models_scored_on_other_images_are_not_compared() -> None:
    one, other = scored(np.ones(3, bool)), scored(np.ones(4, bool))
    with pytest.raises(ValueError, match="the same images"):
        accuracy_difference([one], [other], None)
    with pytest.raises(ValueError, match="longer"):
        accuracy_difference([one], [one, one], None)


def test_losses_are_cross_entropies_of_the_labels() -> None:
    probabilities = np.array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [0.0, 0.1, 0.9]], np.float32)
    found = Scored.of(np.array([0, 1, 0]), probabilities)
    assert found.correct.tolist() == [True, True, False]
    expected = [math.log(2), math.log(4 / 3), -math.log(1e-7)]
    assert found.loss == pytest.approx(expected, rel=1e-6)


def test_equal_networks_leave_nothing_to_test() -> None:
    same = scored(np.arange(10) < 7)
    for count in (1, 3):
        found = accuracy_difference([same] * count, [same] * count, None)
        assert found.value == 0
        assert found.p_value == 1


def test_more_seeds_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = (
        accuracy([scored(row) for row in rng.random((seeds, 500)) < 0.8], None) for seeds in (3, 30)
    )
    assert narrow.high - narrow.low < wide.high - wide.low


# Simulations: images differ in difficulty, trainings in luck


def trainings(
    rng: np.random.Generator,
    accuracies: list[float],
    seeds: int,
    images: int,
    spread: float,
    own: float = 0.0,
) -> list[list[Scored]]:
    """Trainings of models with these true accuracies, all scored on the same images.

    Each training's own accuracy is drawn about its model's with standard deviation `spread`; an
    image is easy or hard for all of them (probit, standard deviation 2 against 1 of chance), and
    `own` of that chance's variance is the same for all trainings of a model.
    """
    difficulty, chance = 2.0, 1.0
    hardness = rng.normal(0, difficulty, images)
    models = []
    for mean in accuracies:
        reached = np.clip(rng.normal(mean, spread, seeds), 0.01, 0.999)
        level = stats.norm.ppf(reached) * math.hypot(difficulty, chance)
        noise = rng.normal(0, chance * math.sqrt(1 - own), (seeds, images))
        noise += rng.normal(0, chance * math.sqrt(own), images)
        models.append([scored(row) for row in level[:, None] + hardness + noise > 0])
    return models


LABELS = np.zeros(400, np.int64)
GATES = 9
ALPHA = 0.05
AT_ONE_GATE = ALPHA / GATES


OLD, NEW = (Contender(name, 0.87, 0.87, 0.5, 0.99, 100, 10) for name in ("old", "new"))


def kept_by_a_plan(rng: np.random.Generator, seeds: int, spread: float, own: float) -> bool:
    """Whether a plan of nine changes without any effect keeps one of them."""
    models = trainings(rng, [0.87] * (GATES + 1), seeds, 1_000, spread, own)
    for candidate in models[1:]:
        gain = accuracy_difference(models[0], candidate, None)
        evidence = Evidence(OLD, NEW, "accuracy", gain, gain, gain, McNemar(0, 0, 1.0), seeds)
        # Before the first wrong decision the incumbent is the first model.
        if decide(evidence, "significant", AT_ONE_GATE).keep:
            return True
    return False


@pytest.mark.parametrize("own", [0.0, 0.8], ids=["alike", "each with images of its own"])
@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.01), (5, 0.01), (5, 0.0)])
def test_plans_without_real_effects_keep_a_change_at_most_at_the_stated_rate(
    seeds: int, spread: float, own: float
) -> None:
    """At most 45 of 600 plans: with a rate of 5 %, more would occur about once in 400 times."""
    rng = np.random.default_rng([seeds, round(1000 * spread), round(10 * own)])
    plans = 600
    kept = sum(kept_by_a_plan(rng, seeds, spread, own) for _ in range(plans))
    assert kept <= stats.binom(plans, ALPHA).ppf(0.9975)


def share_found(seeds: int, level: float, gain: float = 0.03) -> float:
    rng = np.random.default_rng(seeds)
    trials = 400
    found = 0
    for _ in range(trials):
        one, other = trainings(rng, [0.85, 0.85 + gain], seeds, 2_000, spread=0.01)
        found += accuracy_difference(one, other, None).p_value <= level
    return found / trials


def test_a_gain_of_three_points_is_found_with_five_replicates() -> None:
    """Standard deviation between runs of 1 point, 2,000 images, one gate at level 0.05."""
    assert share_found(seeds=5, level=0.05) >= 0.80


def test_the_power_lost_by_correcting_for_nine_gates() -> None:
    """About half of such gains are found with 5 replicates at 0.05 / 9, nearly all with 10."""
    assert 0.40 <= share_found(seeds=5, level=AT_ONE_GATE) <= 0.65
    assert share_found(seeds=10, level=AT_ONE_GATE) >= 0.95


def test_intervals_cover_the_true_gain_as_often_as_stated() -> None:
    """95 % intervals of a gain of 1 point, with 5 seeds: about 95 % of 500 cover it."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(500):
        one, other = trainings(rng, [0.86, 0.87], 5, 1_000, spread=0.01)
        found = accuracy_difference(one, other, None)
        held += found.low <= 0.01 <= found.high
    assert 0.93 <= held / 500 <= 0.99


@pytest.mark.parametrize(
    ("wrong", "least", "most"), [(0.15, 0.92, 0.97), (0.05, 0.87, 0.94), (0.02, 0.80, 0.90)]
)
def test_the_interval_of_a_log_loss_covers_too_rarely_if_few_predictions_are_wrong(
    wrong: float, least: float, most: float
) -> None:
    """Of 400 images, 60, 20 or 8 are wrong; their losses are exponential with mean 3 nats."""
    rng = np.random.default_rng(3)
    truth = wrong * 3 + (1 - wrong) * 0.05
    held = 0
    for _ in range(1_000):
        means = np.where(rng.random(400) < wrong, 3, 0.05)
        found = score("log_loss", [Scored(LABELS, LABELS == 0, rng.exponential(means))], None)
        held += found.low <= truth <= found.high
    assert least <= held / 1_000 <= most


# Folds


def folded(
    rng: np.random.Generator, gain: float, folds: int, replicates: int, spread: float
) -> tuple[list[Scored], list[Scored]]:
    """Trainings of two models, each scored on the fold of 2,000 images that it holds out."""
    pairs = [
        trainings(rng, [0.85, 0.85 + gain], 1, 2_000 // folds, spread)
        for _ in range(folds * replicates)
    ]
    return [one for (one,), _ in pairs], [other for _, (other,) in pairs]


@pytest.mark.parametrize(("folds", "replicates"), [(2, 2), (5, 1), (5, 5)])
def test_folds_without_a_real_difference_err_at_most_at_their_level(
    folds: int, replicates: int
) -> None:
    rng = np.random.default_rng([folds, replicates])
    gates = 1_000
    kept = 0
    for _ in range(gates):
        one, other = folded(rng, 0.0, folds, replicates, spread=0.01)
        kept += accuracy_difference(one, other, folds).p_value <= AT_ONE_GATE
    assert kept <= stats.binom(gates, AT_ONE_GATE).ppf(0.9975)


def test_a_gain_of_three_points_is_found_with_five_folds_and_five_replicates() -> None:
    """At one gate; after correction for nine about two in five are."""
    rng = np.random.default_rng(11)
    p_values = []
    for _ in range(300):
        one, other = folded(rng, 0.03, 5, 5, spread=0.01)
        p_values.append(accuracy_difference(one, other, 5).p_value)
    found = np.array(p_values)
    assert (found <= ALPHA).mean() >= 0.80
    assert 0.25 <= (found <= AT_ONE_GATE).mean() <= 0.55


def test_two_folds_that_agree_by_chance_prove_nothing() -> None:
    """Both gain one of thirty images: no variance between folds, and no proof."""
    before = scored(np.arange(30) < 20)
    after = scored(np.arange(30) < 21)
    assert accuracy_difference([before] * 2, [after] * 2, 2).p_value > 0.1


def test_if_all_trainings_are_all_correct_the_images_give_the_interval() -> None:
    right = scored(np.ones(50, bool))
    for folds in (None, 2):
        found = accuracy([right] * 4, folds)
        assert (found.value, found.high) == (1.0, 1.0)
        assert 0.9 < found.low < 1
