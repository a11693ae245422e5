"""Labels of any form name classes, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.core.data.class_labels import Labels, named
from tasks.core.errors import UserError

NAMES = ("cat", "dog", "hen")


def classes(*values: Any, names: tuple[str, ...] | None = None) -> list[str]:
    array = np.array(values[0] if len(values) == 1 else values)
    (found,) = named([Labels(array, len(array), "y")], names).classes
    assert all(type(label) is str for label in found)
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2], ["0", "1", "2"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([-1, 0, 5], ["-1", "0", "5"]),
        ([0, 255, 300], ["0", "255", "300"]),
        ([0.0, 2.0], ["0", "2"]),
        ([True, False], ["True", "False"]),
        (["cat", " dog "], ["cat", "dog"]),
        (["ü".encode(), b"dog"], ["ü", "dog"]),
        ([[0], [7]], ["0", "7"]),
        ([["cat"], ["dog"]], ["cat", "dog"]),
        ([[0, 0, 1], [1, 0, 0]], ["2", "0"]),
        ([[0.0, 1.0], [1.0, 0.0]], ["1", "0"]),
        ([[False, True], [True, False]], ["1", "0"]),
    ],
)
def test_without_names(values: list[Any], expected: list[str]) -> None:
    assert classes(values) == expected


def test_a_row_of_labels_is_taken_for_as_many_images() -> None:
    part = Labels(np.array([[0, 1, 1]]), 3, "y")
    assert named([part], None).classes == [["0", "1", "1"]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 2], ["cat", "hen"]),
        ([1, 2], ["dog", "hen"]),
        ([1, 3], ["cat", "hen"]),
        ([0.0, 1.0], ["cat", "dog"]),
        ([[0, 1, 0]], ["dog"]),
        (["hen", "cat"], ["hen", "cat"]),
        ([b"hen"], ["hen"]),
        ([False, True], ["cat", "dog"]),
    ],
)
def test_with_names(values: list[Any], expected: list[str]) -> None:
    assert classes(values, names=NAMES) == expected


def test_labels_from_one_are_said_and_decided_by_all_splits() -> None:
    parts = [
        Labels(np.array([1, 2, 3], np.uint8), 3, "y_train"),
        Labels(np.array([2], np.int64), 1, "y_test"),
    ]
    found = named(parts, NAMES)
    assert found.classes == [["cat", "dog", "hen"], ["dog"]]
    assert found.note
    assert "labels 1 to 3" in found.note


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 3], NAMES, "label 3 has no class; expected labels from 0 to 2"),
        ([0, 1, 2, 3], NAMES, "label 3 has no class"),
        ([-1, 0], NAMES, "label -1 has no class"),
        (["cat", "cow"], NAMES, "no class is called 'cow'; expected the 3 class names: cat, dog"),
        ([0.5, 1], None, "label 0.5 at 0 is no whole number"),
        ([1, np.nan], None, "label nan at 1 is no whole number"),
        ([[1, 1, 0], [1, 0, 0]], None, "not one-hot: row 0 is .* several or no classes"),
        ([[0, 0, 0], [1, 0, 0]], None, "not one-hot: row 0"),
        ([[0.1, 0.9], [1, 0]], None, "not one-hot: row 0"),
        ([["a", "b"], ["c", "d"]], None, r"labels have shape \(2, 2\)"),
        ([[[1, 2]], [[3, 4]]], None, "labels have shape"),
        (["cat", " "], None, "the label at 1 is empty"),
        ([b"\xff"], None, "bytes that are not UTF-8"),
        ([1j], None, "labels have dtype '<c16'"),
        ([None, 1], None, "labels have dtype '|O'"),
    ],
)
def test_refused(values: list[Any], names: tuple[str, ...] | None, expected: str) -> None:
    with pytest.raises(UserError, match=f"^y: .*{expected}"):
        classes(values, names=names)


def test_each_image_needs_one_label() -> None:
    with pytest.raises(UserError, match="y: 4 images but 3 labels; each image needs one label"):
        named([Labels(np.arange(3), 4, "y")], None)


def test_splits_with_labels_of_two_kinds() -> None:
    parts = [Labels(np.array([1]), 1, "y_train"), Labels(np.array(["1"]), 1, "y_test")]
    with pytest.raises(UserError, match=r"y_train: .* of several kinds .*write all as numbers"):
        named(parts, None)


@settings(max_examples=50)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=9))
def test_any_whole_numbers_are_classes(values: list[int]) -> None:
    array: NDArray[Any] = np.array(values)
    for form in (array, array[:, None], array.astype(float), array.astype(">i8")):
        assert classes(form) == [str(value) for value in values]
