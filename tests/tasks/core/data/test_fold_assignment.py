"""Folds: each image is held out once, classes are spread evenly, duplicates share a fold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.fold_assignment import assign_folds
from tasks.core.errors import UserError

NAMES = ["shirt", "shoe", *(f"class {index}" for index in range(2, 5))]
NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@given(
    st.integers(2, 6).flatmap(
        lambda folds: st.tuples(
            st.just(folds), st.lists(st.integers(folds, 25), min_size=1, max_size=5)
        )
    ),
    st.integers(0, 100),
)
def test_every_fold_has_each_class_proportionally(sizes: tuple[int, list[int]], seed: int) -> None:
    folds, counts = sizes
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)
    found = assign_folds(labels, NONE, folds, np.random.default_rng(seed), NAMES)
    per_fold = np.bincount(found, minlength=folds + 1)
    assert per_fold[0] == 0
    assert per_fold[1:].max() - per_fold[1:].min() <= 1
    for label in range(len(counts)):
        held = np.bincount(found[labels == label], minlength=folds + 1)[1:]
        assert held.max() - held.min() <= 1


def test_duplicates_share_a_fold() -> None:
    labels = np.zeros(40, np.uint8)
    pairs = np.array([[0, 9], [9, 17], [3, 4]])
    found = assign_folds(labels, (pairs[:, 0], pairs[:, 1]), 5, np.random.default_rng(0), NAMES)
    assert found[0] == found[9] == found[17]
    assert found[3] == found[4]


def test_folds_depend_on_the_seed_alone() -> None:
    labels = (np.arange(60) % 3).astype(np.uint8)
    one, again, other = (
        assign_folds(labels, NONE, 4, np.random.default_rng(seed), NAMES) for seed in (1, 1, 2)
    )
    assert (one == again).all()
    assert (one != other).any()


def test_a_class_with_too_few_images_is_refused() -> None:
    labels = np.array([0] * 9 + [1] * 2, np.uint8)
    with pytest.raises(
        UserError, match=r"class 'shoe' \(1\) has only 2 training and validation images"
    ):
        assign_folds(labels, NONE, 3, np.random.default_rng(0), NAMES)


@pytest.mark.parametrize("pairs", [[[0, 1], [1, 2], [2, 3]], [[0, 1], [2, 3]]])
def test_duplicates_that_empty_a_fold_or_take_all_of_a_class_are_refused(
    pairs: list[list[int]],
) -> None:
    labels = np.array([0, 0, 1, 1], np.uint8)
    first, second = np.array(pairs).T
    with pytest.raises(UserError, match=r"or of one group, which share a fold, that fold \d is"):
        assign_folds(labels, (first, second), 2, np.random.default_rng(0), NAMES)
