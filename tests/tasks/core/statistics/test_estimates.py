"""Means over seeds, images and folds against published analyses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tasks.core.statistics.estimates import (
    Estimate,
    MeanSquares,
    corrected_resampled,
    crossed,
    mean_squares,
)


def test_mean_squares_of_a_randomized_block_design() -> None:
    """Kirk's design RB-4 in UCLA's notes to Ed230: 16.33 (treatments), 4.50 (blocks), 1.40."""
    blocks = [
        [3, 4, 4, 3], [2, 4, 4, 5], [2, 3, 3, 6], [3, 3, 3, 5],
        [1, 2, 4, 7], [3, 3, 6, 6], [4, 4, 5, 10], [6, 5, 5, 8],
    ]  # fmt: skip
    found = mean_squares(np.array(blocks, np.float64).T)
    assert found.seeds == pytest.approx(16.33, abs=5e-3)
    assert found.images == pytest.approx(4.50, abs=5e-3)
    assert found.residual == pytest.approx(1.40, abs=6e-3)


def test_crossed_random_effects_van_dyke() -> None:
    """MRMCaov's analysis of the VanDyke study: 5 readers, 114 cases, 2 treatments.

    It gives a difference of -0.0438, standard error 0.02075, 15.26 degrees of freedom, p = 0.0517
    and -0.0880 to 0.0004. Mean squares of differences are twice, those of pseudovalues as many
    times as there are cases those of its Obuchowski-Rockette table.
    """
    readers, cases = 5, 114
    error = 0.0008022883 - 0.0003466137 - 0.0003440748 + 0.0002390284
    between_cases = readers * (0.0003440748 - 0.0002390284)
    scale = 2 * cases
    squares = MeanSquares(scale * 0.0005510306, scale * (error + between_cases), scale * error)
    found = crossed(-0.04380032, squares, readers, cases)
    assert found.error == pytest.approx(0.02074862, abs=1e-7)
    assert (found.low, found.high) == pytest.approx((-0.0879594986, 0.0003588544), abs=1e-7)
    assert 2 * (1 - found.p_value) == pytest.approx(0.05166569, abs=1e-7)


def test_corrected_resampled_t_test_scikit_learn() -> None:
    """scikit-learn's comparison of two models: 10 x 10 folds, t = 2.611 uncorrected.

    It prints a corrected t of 0.750 with a one-sided p of 0.227.
    """
    values = np.linspace(-1, 1, 100)
    values += 2.611 * values.std(ddof=1) / math.sqrt(100) - values.mean()
    assert stats.ttest_1samp(values, 0).statistic == pytest.approx(2.611)
    found = corrected_resampled(list(values), folds=10)
    assert found.value / found.error == pytest.approx(0.750, abs=5e-4)
    assert found.p_value == pytest.approx(0.227, abs=1e-3)


def test_an_interval_is_cut_off_at_what_is_possible() -> None:
    found = Estimate(0.98, 0.02, 0.94, 1.02, 0.001).within(0, 1)
    assert found == Estimate(0.98, 0.02, 0.94, 1.0, 0.001)
