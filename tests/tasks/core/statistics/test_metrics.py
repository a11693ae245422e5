"""Counts against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from tasks.core.statistics.metrics import confusion_matrix


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
