"""Arrays that are read by rows give the rows that NumPy gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.core.data import rows
from tasks.core.data.rows import Joined, Picked, Reduced, RowReader, blocks, read_ahead

NUMBERS = np.arange(60, dtype=np.uint8).reshape(20, 3, 1)


def some_rows(count: int) -> st.SearchStrategy[Any]:
    """A slice, or positions in any order."""
    positions = st.lists(st.integers(0, count - 1), max_size=12)
    return st.slices(count) | positions.map(lambda found: np.array(found, np.int64))


def check(found: RowReader, expected: NDArray[Any], chosen: Any) -> None:
    assert (found.shape, found.dtype, len(found)) == (expected.shape, expected.dtype, len(expected))
    part = found[chosen]
    assert (part.shape, part.dtype) == (expected[chosen].shape, expected.dtype)
    assert part.tobytes() == expected[chosen].tobytes()


@settings(max_examples=50)
@given(st.lists(st.integers(0, 20), max_size=3).map(sorted), some_rows(20))
def test_joined_rows_are_those_of_one_array(cuts: list[int], chosen: Any) -> None:
    check(Joined(np.split(NUMBERS, cuts)), NUMBERS, chosen)


@settings(max_examples=50)
@given(st.permutations(range(20)), some_rows(11))
def test_picked_rows_are_those_of_the_chosen_ones(order: list[int], chosen: Any) -> None:
    positions = np.array(order[:11])
    picked = Picked(Joined([NUMBERS[:7], NUMBERS[7:]]), positions)
    check(picked, NUMBERS[positions], chosen)


@pytest.mark.parametrize("position", [20, 25])
def test_a_row_that_there_is_not_is_an_error(position: int) -> None:
    with pytest.raises(IndexError):
        Joined([NUMBERS[:7], NUMBERS[7:]])[np.array([3, position])]


def test_blocks_are_all_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, expected in ((7, [7, 7, 6]), (20, [20]), (None, [20])):
        found = list(blocks(NUMBERS, size))
        assert [len(block) for block in found] == expected
        assert np.concatenate(found).tobytes() == NUMBERS.tobytes()
    monkeypatch.setattr(rows, "_BLOCK", 29)
    assert [len(block) for block in blocks(NUMBERS)] == [9, 9, 2]
    monkeypatch.setattr(rows, "_BLOCK", 2)
    assert [len(block) for block in blocks(NUMBERS)] == [1] * 20


def test_reduced_images_are_means_of_squares() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), np.uint8)
    found = Reduced(images, 2)
    assert (found.shape, len(found)) == ((5, 3, 4, 3), 5)
    expected = images[:, :6, :8].reshape(5, 3, 2, 4, 2, 3).mean(axis=(2, 4))
    assert np.abs(found[:].astype(float) - expected).max() <= 0.5
    assert found[np.array([3, 1])].tobytes() == found[:][[3, 1]].tobytes()


def test_what_is_read_ahead_is_the_same_and_in_order() -> None:
    assert list(read_ahead(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(read_ahead([])) == []


def test_an_error_while_reading_ahead_is_raised_in_its_turn() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    found = read_ahead(parts())
    assert next(found) == 1
    with pytest.raises(OSError, match="gone"):
        next(found)
