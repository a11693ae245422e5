"""Draws that keep copies and groups together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.array_types import Int64
from tasks.core.data.own_splits import Members, choose_own, drawn, held_out_size, size_of, units_of
from tasks.core.errors import UserError
from tasks.core.settings.images import SubsetSettings

NAMES = ("a", "b", "c")


def digests(*numbers: int) -> Any:
    return np.frombuffer(np.array(numbers, ">i8").repeat(2).tobytes(), "V16")


def members(count: int = 120, units: Int64 | None = None) -> Members:
    labels = (np.arange(count) % 3).astype(np.uint8)
    return Members(labels, np.arange(count) if units is None else units)


def test_units_join_copies_and_groups() -> None:
    groups = np.array([0, 1, -1, 1, -1, 0])
    units = units_of(digests(5, 6, 7, 8, 7, 6), groups)
    # 0, 5 share a group; 5 is a copy of 1; 1, 3 share a group. 2 and 4 are copies.
    assert len({units[at] for at in (0, 1, 3, 5)}) == 1
    assert units[2] == units[4] != units[0]
    assert len(set(units_of(digests(1, 2, 1), None))) == 2


@pytest.mark.parametrize(
    ("size", "total", "expected"),
    [(None, 60, 60), (10, 60, 10), (99, 60, 60), (0.5, 61, 30), (0.001, 60, 1)],
)
def test_sizes_are_numbers_or_shares(size: int | float | None, total: int, expected: int) -> None:
    assert size_of(size, total) == expected


@pytest.mark.parametrize(
    ("size", "total", "expected"),
    [
        (None, 60, 10),
        (None, 12, 3),
        (15, 60, 15),
        (200, 60, 20),
        (200, 2, 1),
        (0.5, 60, 30),
        (0.9, 60, 54),
    ],
)
def test_a_drawn_split_leaves_images_for_training(
    size: int | float | None, total: int, expected: int
) -> None:
    assert held_out_size(members(total), size) == expected


@given(st.lists(st.integers(0, 15), min_size=4, max_size=60), st.data())
def test_no_unit_is_separated(units: list[int], data: st.DataObject) -> None:
    some = members(len(units), np.array(units))
    count = data.draw(st.integers(1, len(units)))
    taken = drawn(some, count, 0, "test")
    assert not set(some.units[taken]) & set(some.units[~taken])


@given(st.integers(1, 119), st.integers(0, 3))
def test_without_units_the_sample_has_its_size_and_proportions(count: int, seed: int) -> None:
    taken = drawn(members(), count, seed, "test")
    assert taken.sum() == count
    counts = np.bincount(members().labels[taken], minlength=3)
    assert counts.max() - counts.min() <= 2


def chosen(pool: Members, *, defined: int = 0, drawn: bool = True, **given: Any) -> Any:
    method = given.pop("method", "stratified")
    return choose_own(
        pool,
        members(30).labels,
        NAMES,
        SubsetSettings.model_validate({"method": method, **given}),
        validation=defined,
        test_drawn=drawn,
    )


def test_everything_is_used_once_and_a_sixth_is_held_out() -> None:
    found = chosen(members(), method="everything")
    assert sorted([*found.train, *found.validation]) == list(range(120))
    assert (len(found.validation), len(found.test)) == (20, 30)
    # Even the first images are of all classes.
    assert set(members().labels[found.train[:6]]) == {0, 1, 2}


def test_the_validation_split_of_the_data_set_is_kept() -> None:
    found = chosen(members(), defined=24, method="everything")
    assert sorted(found.validation) == list(range(96, 120))
    assert sorted(found.train) == list(range(96))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"train": 30, "validation": 12, "test": 9}, (30, 12, 9)),
        ({"train": 9999, "validation": 12}, (108, 12, 30)),
        ({"validation": 0.5, "test": 0.1}, (60, 60, 30)),
    ],
)
def test_sizes_are_at_most_those_wanted(
    sizes: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    found = chosen(members(), **sizes)
    assert (len(found.train), len(found.validation), len(found.test)) == expected


def test_a_share_of_a_test_split_that_was_not_drawn_is_taken() -> None:
    assert len(chosen(members(), test=0.5, drawn=False).test) == 15


@settings(max_examples=20)
@given(st.integers(0, 5))
def test_no_group_is_in_two_splits(seed: int) -> None:
    pool = members(120, np.arange(120) // 4)
    found = chosen(pool, seed=seed, validation=0.3)
    assert not set(pool.units[found.train]) & set(pool.units[found.validation])


def test_rare_classes_are_in_every_split() -> None:
    rare = np.array([0] * 90 + [1] * 3 + [2] * 3, np.uint8)
    found = chosen(Members(rare, np.arange(96)), method="everything")
    assert (len(found.train), len(found.validation)) == (80, 16)
    assert set(rare[found.train]) == set(rare[found.validation]) == {0, 1, 2}


def test_a_split_has_an_image_of_each_class_by_default() -> None:
    many = (np.arange(600) % 200).astype(np.uint8)
    found = drawn(
        Members(many, np.arange(600)), held_out_size(Members(many, np.arange(600)), None), 0, "test"
    )
    assert sorted(many[found]) == list(range(200))
    assert held_out_size(members(), None) == 20
    assert held_out_size(members(), 2) == 2


def test_copies_are_named_as_a_reason() -> None:
    copied = members(60, np.arange(60) % 3)
    with pytest.raises(UserError, match=r"subset\.train; copies of an image, and images of a"):
        chosen(copied)


def test_a_class_that_a_split_lacks_is_named() -> None:
    rare = Members(np.array([0] * 30 + [1] * 30 + [2], np.uint8), np.arange(61))
    with pytest.raises(UserError, match=r"none of class 'c' \(2\); add images"):
        chosen(rare)
