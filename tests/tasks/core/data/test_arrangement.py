"""The same images give the same arrangement, whatever their form and order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.arrangement import Arrangement, Described, arranged, check_defined
from tasks.core.errors import UserError


def described(count: int = 36, order: Any = None, **changes: Any) -> Described:
    """Images of three classes in an order; image `i` has the digest of `i`."""
    order = np.arange(count) if order is None else np.asarray(order)
    columns: dict[str, Any] = {
        "labels": [f"c{(2, 10, 1)[at % 3]}" for at in range(count)],
        "splits": [None] * count,
        "groups": [None] * count,
        "weights": [None] * count,
    } | changes
    return Described(
        np.arange(count),
        np.frombuffer(order.astype(">i8").repeat(2).tobytes(), "V16"),
        **{name: [values[at] for at in order] for name, values in columns.items()},
    )


def shown(found: Arrangement, order: Any) -> Any:
    """What was arranged, with the images by their numbers."""
    numbers = np.asarray(order)
    return [
        (numbers[part.positions].tolist(), part.labels.tolist(),
         None if part.groups is None else part.groups.tolist(),
         None if part.weights is None else part.weights.tolist())
        for part in (found.train, found.test)
    ]  # fmt: skip


@settings(max_examples=25)
@given(st.permutations(range(36)), st.booleans(), st.booleans())
def test_the_order_given_does_not_matter(order: list[int], grouped: bool, split: bool) -> None:
    changes: dict[str, Any] = {"weights": [1 + at / 7 for at in range(36)]}
    if grouped:
        changes["groups"] = [f"g{at // 4}" if at % 8 else None for at in range(36)]
    if split:
        changes["splits"] = [("train", "validation", "test")[at // 12] for at in range(36)]
        changes["groups"] = [None] * 36
    first = arranged(described(**changes), None, None, 0)
    second = arranged(described(order=order, **changes), None, None, 0)
    assert shown(first, range(36)) == shown(second, order)


def test_classes_are_sorted_and_a_sixth_is_drawn_for_the_test() -> None:
    found = arranged(described(), None, None, 0)
    assert found.class_names == ("c1", "c2", "c10")
    assert (len(found.train.labels), len(found.test.labels)) == (30, 6)
    assert (found.test_drawn, found.validation) == (True, 0)
    assert found.train.labels.tolist() == sorted(found.train.labels.tolist())
    assert np.bincount(found.test.labels).tolist() == [2, 2, 2]
    assert len(arranged(described(), None, 12, 0).test.labels) == 12
    assert len(arranged(described(), None, 0.5, 0).test.labels) == 18
    other = arranged(described(), None, None, 1)
    assert shown(other, range(36)) != shown(found, range(36)), "the seed counts"


def test_splits_of_the_data_set_are_kept_with_validation_at_the_end() -> None:
    splits = [("train", "validation", "test")[at // 12] for at in range(36)]
    found = arranged(described(splits=splits), None, None, 0)
    assert sorted(found.train.positions[:12]) == list(range(12))
    assert sorted(found.train.positions[12:]) == list(range(12, 24))
    assert sorted(found.test.positions) == list(range(24, 36))
    assert (found.validation, found.test_drawn) == (12, False)


def test_names_that_are_given_keep_their_order() -> None:
    assert arranged(described(), ("c10", "c1", "c2"), None, 0).class_names == ("c10", "c1", "c2")


def test_names_without_images_are_left_out_and_images_without_a_name_refused() -> None:
    found = arranged(described(), ("c2", "spare", "c10", "c1"), None, 0)
    assert found.class_names == ("c2", "c10", "c1")
    with pytest.raises(UserError, match="images have the classes c10, which are not among"):
        arranged(described(), ("c1", "c2"), None, 0)


def test_what_is_defined_is_checked_before_anything_is_decoded() -> None:
    labels, groups = ["a", "b"] * 6, [None] * 12
    check_defined(labels, ["train"] * 6 + ["test"] * 6, groups, None)
    with pytest.raises(UserError, match="the test split of 2 images has none of class 'b'"):
        check_defined(["a", "a", "a", "b"], ["test", "test", "train", "train"], [None] * 4, None)
    with pytest.raises(UserError, match="group 'g' has images in two splits"):
        check_defined(labels, ["train"] * 6 + ["test"] * 6, ["g"] * 12, None)


def test_more_than_256_classes_have_labels_of_16_bits() -> None:
    many = described(900, labels=[f"{at % 300}" for at in range(900)])
    found = arranged(many, None, 300, 0)
    assert found.train.labels.dtype == np.uint16
    assert found.train.labels.max() == 299


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["one"] * 36}, r"1 class \(one\); expected 2 to 1,000"),
        ({"splits": ["test" if at % 3 else "train" for at in range(36)]}, "the training split of"),
        (
            {"splits": ["train"] * 18 + ["test"] * 18, "groups": ["g"] * 36},
            "group 'g' has images in two splits, train and test; put all of them into one",
        ),
    ],
)
def test_what_can_t_be_arranged_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arranged(described(**changes), None, None, 0)
