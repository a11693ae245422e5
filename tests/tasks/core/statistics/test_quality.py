"""Scores class by class, calibration, and what choosing does: known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.statistics.metrics import calibration, class_scores, confusion_matrix, most_confused
from tasks.core.statistics.optimism import optimism


def test_precision_recall_and_f1() -> None:
    """The report that scikit-learn's documentation shows for these labels and predictions."""
    labels, predicted = np.array([0, 1, 2, 2, 2]), np.array([0, 0, 2, 2, 1])
    found = class_scores(confusion_matrix(predicted, labels, 3))
    assert found.precision == pytest.approx([0.50, 0.00, 1.00])
    assert found.recall == pytest.approx([1.00, 0.00, 2 / 3])
    assert found.f1 == pytest.approx([2 / 3, 0.00, 0.80])
    assert found.support.tolist() == [1, 1, 3]


def test_a_class_that_is_neither_there_nor_predicted() -> None:
    found = class_scores(np.array([[4, 0], [0, 0]]))
    assert (found.precision[1], found.recall[1], found.f1[1]) == (0, 0, 0)


def test_most_confused_pairs() -> None:
    matrix = np.array([[9, 3, 0], [1, 9, 5], [0, 0, 9]])
    assert most_confused(matrix, 2) == [(1, 2, 5), (0, 1, 3)]
    assert most_confused(matrix, 9) == [(1, 2, 5), (0, 1, 3), (1, 0, 1)]
    assert most_confused(np.eye(3, dtype=np.int64), 5) == []


def test_expected_calibration_error_by_hand() -> None:
    """Two bins: |0.8 - 0.5| for four of five images, |0.3 - 1| for one."""
    confidence = np.array([0.8, 0.8, 0.8, 0.8, 0.3])
    correct = np.array([True, True, False, False, True])
    found = calibration(confidence, correct, bins=2)
    assert found.count.tolist() == [1, 4]
    assert found.confidence == pytest.approx([0.3, 0.8])
    assert found.accuracy == pytest.approx([1.0, 0.5])
    assert found.error == pytest.approx(0.8 * 0.3 + 0.2 * 0.7)


def test_bins_are_closed_above() -> None:
    found = calibration(np.array([0.0, 0.5, 0.5000001, 1.0]), np.ones(4, bool), bins=2)
    assert found.count.tolist() == [2, 2]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_calibration_loses_no_image(images: list[tuple[float, bool]]) -> None:
    confidence, correct = (np.array(column) for column in zip(*images, strict=True))
    found = calibration(confidence, correct)
    assert found.count.sum() == len(images)
    assert (found.count * found.accuracy).sum() == pytest.approx(correct.sum())
    assert 0 <= found.error <= 1


# Optimism


def test_a_single_model_is_not_flattered_on_average() -> None:
    correct = (np.random.default_rng(0).random((1, 500)) < 0.8).astype(np.float64)
    found = optimism(correct, np.random.default_rng(1))
    assert abs(found.optimism) < 0.002
    assert found.corrected == pytest.approx(correct.mean(), abs=0.005)


def test_the_best_of_many_equal_models_is_flattered_by_about_what_is_estimated() -> None:
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


def test_few_images_leave_always_something_to_score_on() -> None:
    correct = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert 0 <= optimism(correct, np.random.default_rng(0), 200).corrected <= 1
