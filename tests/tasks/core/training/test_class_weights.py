"""Weights of classes: their values, what they multiply, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.training.class_weights import class_weights, weighted
from tasks.core.training.examples import Examples

NAMES = ("common", "rare", "7", "1")


def examples(labels: list[int], weights: list[float] | None = None) -> Examples:
    given = None if weights is None else np.array(weights, np.float32)
    x = np.zeros((len(labels), 2, 2, 1), np.uint8)
    return Examples(x, np.array(labels), len(NAMES), given)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    """`compute_class_weight("balanced", ...)` of 394, 3 and 3 images, from its definition."""
    found = class_weights(np.array([394, 3, 3]), NAMES[:3], "balanced")
    assert found.tolist() == pytest.approx([400 / (3 * 394), 400 / 9, 400 / 9])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_balanced_weights_give_every_class_that_occurs_the_same_total(labels: list[int]) -> None:
    weights = weighted(examples(labels), NAMES, "balanced").weights
    assert weights is not None
    totals = np.bincount(labels, weights)
    assert totals[totals > 0] == pytest.approx(len(labels) / len(set(labels)))
    assert weights.mean() == pytest.approx(1)


def test_given_weights_are_for_names_and_labels_and_others_are_1() -> None:
    """A class may be named by a number: its name goes before the label."""
    counts = np.ones(4, np.int64)
    assert class_weights(counts, NAMES, {"rare": 5, "0": 2}).tolist() == [2, 5, 1, 1]
    assert class_weights(counts, NAMES, {"1": 3}).tolist() == [1, 1, 1, 3]
    assert class_weights(counts, NAMES, None).tolist() == [1, 1, 1, 1]


def test_weights_of_classes_multiply_those_of_images() -> None:
    found = weighted(examples([0, 1, 1], [1, 2, 0.5]), NAMES, {"rare": 4}).weights
    assert found is not None
    assert found.dtype == np.float32
    assert found.tolist() == [1, 8, 2]


def test_without_weights_the_examples_stay_as_they_are() -> None:
    given = examples([0, 1])
    assert weighted(given, NAMES, None) is given


@pytest.mark.parametrize("name", ["unknown", "4", "-1", "²"])
def test_an_unknown_class_is_refused_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(UserError, match=f"class_weight names {name}, .* common, rare, 7, 1"):
        weighted(examples([0, 1]), NAMES, {name: 2})


def test_a_class_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UserError, match="names one class twice, as common and as 0; remove one"):
        weighted(examples([0, 1]), NAMES, {"common": 2, "0": 3})
