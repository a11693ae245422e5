"""Counts, scores and calibration against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from tasks.core.statistics.metrics import calibration, class_scores, confusion_matrix, most_confused


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_confusion_matrix_has_a_row_a_label(dtype: DTypeLike) -> None:
    predicted, labels = np.array([0, 1, 1, 2], dtype), np.array([0, 1, 2, 0], dtype)
    expected = [[1, 0, 1], [0, 1, 0], [0, 1, 0]]
    np.testing.assert_array_equal(confusion_matrix(predicted, labels, 3), expected)


def test_confusion_matrix_of_many_classes_and_of_classes_never_seen() -> None:
    last = np.array([199], np.uint8)
    found = confusion_matrix(last, last, 200)
    assert found.shape == (200, 200)
    assert (found[199, 199], found.sum()) == (1, 1)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_confusion_matrix_counts_every_image_once(pairs: list[tuple[int, int]]) -> None:
    columns = np.array(pairs)
    predicted, labels = columns[:, 0], columns[:, 1]
    found = confusion_matrix(predicted, labels, 5)
    np.testing.assert_array_equal(found.sum(axis=1), np.bincount(labels, minlength=5))
    np.testing.assert_array_equal(found.sum(axis=0), np.bincount(predicted, minlength=5))
    assert np.trace(found) == np.sum(predicted == labels)


def test_precision_recall_and_f1() -> None:
    """The report that scikit-learn's documentation shows for these labels and predictions."""
    labels, predicted = np.array([0, 1, 2, 2, 2]), np.array([0, 0, 2, 2, 1])
    found = class_scores(confusion_matrix(predicted, labels, 3))
    assert found.precision == pytest.approx([0.50, 0.00, 1.00])
    assert found.recall == pytest.approx([1.00, 0.00, 2 / 3])
    assert found.f1 == pytest.approx([2 / 3, 0.00, 0.80])
    assert found.support.tolist() == [1, 1, 3]


def test_a_class_that_neither_occurs_nor_is_predicted() -> None:
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
