"""Optimism of choosing the best model, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core.statistics.optimism import optimism


def test_a_single_model_has_no_optimism_on_average() -> None:
    correct = (np.random.default_rng(0).random((1, 500)) < 0.8).astype(np.float64)
    found = optimism(correct, np.random.default_rng(1))
    assert abs(found.optimism) < 0.002
    assert found.corrected == pytest.approx(correct.mean(), abs=0.005)


def test_the_optimism_of_the_best_of_many_equal_models_is_estimated_well() -> None:
    """Twenty models of accuracy 0.8 on 400 images: the best seems better by about 3.7 points."""
    rng = np.random.default_rng(0)
    estimated, real = [], []
    for _ in range(20):
        correct = (rng.random((20, 400)) < 0.8).astype(np.float64)
        real.append(correct.mean(axis=1).max() - 0.8)
        estimated.append(optimism(correct, rng, 200).optimism)
    assert np.mean(real) == pytest.approx(0.037, abs=0.006)
    assert np.mean(estimated) == pytest.approx(np.mean(real), abs=0.010)


def test_the_same_draw_gives_the_same_estimate() -> None:
    correct = (np.random.default_rng(0).random((5, 100)) < 0.7).astype(np.float64)
    one, other = (optimism(correct, np.random.default_rng(3)) for _ in range(2))
    assert one == other
    assert one.low <= one.corrected <= one.high


def test_with_few_images_some_are_always_outside_the_sample() -> None:
    correct = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert 0 <= optimism(correct, np.random.default_rng(0), 200).corrected <= 1
