"""The choice of images: the notebook's slices, stratified draws, everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.array_types import UInt8
from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES
from tasks.core.data.splitting import (
    Indices,
    choose_indices,
    stratified_order,
)
from tasks.core.errors import UserError
from tasks.core.settings.images import SubsetSettings

NAMES = tuple(FASHION_MNIST_CLASSES)


def labels_of(*counts: int, seed: int = 0) -> UInt8:
    """Shuffled labels with that many of each class."""
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    return np.random.default_rng(seed).permutation(labels)


TRAIN, TEST = labels_of(*[600] * 10), labels_of(*[100] * 10, seed=1)


def subset(method: str, train: int = 800, validation: int = 200, test: int = 200, seed: int = 0):
    return SubsetSettings.model_validate(
        {"method": method, "train": train, "validation": validation, "test": test, "seed": seed}
    )


def chosen(method: str, **sizes: int) -> Indices:
    return choose_indices(TRAIN, TEST, NAMES, subset(method, **sizes))


def same(one: Indices, other: Indices) -> bool:
    pairs = ((one.train, other.train), (one.validation, other.validation), (one.test, other.test))
    return all(np.array_equal(*pair) for pair in pairs)


# Slices


def test_slices_are_the_notebook_s() -> None:
    """`X_train_full[:8000]`, `X_train_full[-2000:]`, `X_test_full[:2000]`."""
    many, few = labels_of(*[6000] * 10), labels_of(*[1000] * 10)
    found = choose_indices(many, few, NAMES, SubsetSettings(method="slices"))
    everything = np.arange(60_000)
    np.testing.assert_array_equal(found.train, everything[:8000])
    np.testing.assert_array_equal(found.validation, everything[-2000:])
    np.testing.assert_array_equal(found.test, np.arange(10_000)[:2000])


def test_slices_do_not_depend_on_the_seed() -> None:
    assert same(chosen("slices", seed=1), chosen("slices", seed=2))


def test_slices_may_use_every_image_once() -> None:
    found = chosen("slices", train=5000, validation=1000, test=1000)
    np.testing.assert_array_equal(np.r_[found.train, found.validation], np.arange(6000))
    np.testing.assert_array_equal(found.test, np.arange(1000))


# Everything


@pytest.mark.parametrize(("total", "held_out"), [(60, 10), (65, 10), (66, 11), (71, 11)])
def test_everything_holds_out_the_last_sixth(total: int, held_out: int) -> None:
    train, test = np.arange(total) % 2, np.arange(7) % 2
    found = choose_indices(
        train.astype(np.uint8), test.astype(np.uint8), NAMES[:2], subset("everything", 1, 1, 1)
    )
    np.testing.assert_array_equal(found.train, np.arange(total - held_out))
    np.testing.assert_array_equal(found.validation, np.arange(total - held_out, total))
    np.testing.assert_array_equal(found.test, np.arange(7))


# Stratified


def shares(labels: UInt8, part: np.ndarray, classes: int) -> np.ndarray:
    """How far each class's count in a part is from its share, in images."""
    counts = np.bincount(labels[part], minlength=classes)
    share = np.bincount(labels, minlength=classes) / len(labels)
    return np.abs(counts - share * len(part))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "sizes", [(800, 200, 200), (801, 203, 207), (5000, 1000, 1000), (37, 41, 43)]
)
def test_stratified_shares_are_within_one_image(sizes: tuple[int, int, int], seed: int) -> None:
    found = chosen("stratified", train=sizes[0], validation=sizes[1], test=sizes[2], seed=seed)
    assert (len(found.train), len(found.validation), len(found.test)) == sizes
    for labels, part in ((TRAIN, found.train), (TRAIN, found.validation), (TEST, found.test)):
        # If a share is not a whole number, rounding adds to the one image.
        assert shares(labels, part, 10).max() <= (1 if len(part) % 10 == 0 else 1.8)


@pytest.mark.parametrize("method", ["slices", "stratified", "everything"])
@pytest.mark.parametrize("seed", range(3))
def test_no_image_is_in_two_splits_or_twice_in_one(method: str, seed: int) -> None:
    found = chosen(method, train=3500, validation=2500, test=1000, seed=seed)
    from_training = np.r_[found.train, found.validation]
    assert len(np.unique(from_training)) == len(from_training)
    assert len(np.unique(found.test)) == len(found.test)
    assert from_training.min() >= 0
    assert from_training.max() < len(TRAIN)
    assert found.test.max() < len(TEST)


def test_stratified_draws_follow_the_seed_and_nothing_else() -> None:
    np.random.seed(1)
    first = chosen("stratified", seed=3)
    np.random.seed(2)
    assert same(chosen("stratified", seed=3), first)
    other = chosen("stratified", seed=4)
    assert not np.array_equal(np.sort(other.train), np.sort(first.train))
    assert not np.array_equal(np.sort(other.test), np.sort(first.test))


def test_the_size_of_one_stratified_split_does_not_change_the_others() -> None:
    first = chosen("stratified")
    other = chosen("stratified", train=900, test=300)
    np.testing.assert_array_equal(other.validation, first.validation)
    np.testing.assert_array_equal(other.train[:800], first.train)
    np.testing.assert_array_equal(other.test[:200], first.test)


def test_stratified_draws_are_random_within_a_class() -> None:
    """Not, say, the first images of each class."""
    found = chosen("stratified").train
    assert 0.4 < np.mean(found < len(TRAIN) / 2) < 0.6
    assert np.any(np.diff(found[TRAIN[found] == 3]) < 0)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=8),
    seed=st.integers(0, 2**31 - 1),
    data=st.data(),
)
def test_a_stratified_order_is_a_permutation_whose_sections_keep_the_shares(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    labels = labels_of(*counts, seed=seed)
    order = stratified_order(labels, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))
    size = data.draw(st.integers(1, len(labels)))
    # Each class is within one image of its own line; a section's length adds the others' error.
    share = np.array(counts) / len(labels)
    bound = (1 - share) + share * (len(counts) - 1)
    for part in (order[:size], order[len(labels) - size :]):
        assert np.all(shares(labels, part, len(counts)) < bound + 1e-9)


# Errors


@pytest.mark.parametrize("method", ["slices", "stratified"])
@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (
            {"train": 5801, "validation": 200},
            r"5801 training and 200 validation images are wanted, 6001 in all, but the data set "
            r"has 6000 training images; set subset\.train and subset\.validation lower",
        ),
        ({"test": 1001}, r"1001 test images are wanted, .* has 1000; set subset\.test lower"),
    ],
)
def test_more_images_than_there_are(method: str, sizes: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen(method, **sizes)


def test_everything_ignores_the_sizes() -> None:
    assert len(chosen("everything", train=10_000, validation=10_000, test=10_000).train) == 5000


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (
            (2, 4, 4),
            r"the training split of 2 images has none of class 'Pullover' \(2\), 'Dress' \(3\);",
        ),
        (
            (4, 2, 4),
            r"the validation split of 2 images has none of class 'T-shirt/top' \(0\), 'Trouser'",
        ),
        (
            (4, 4, 3),
            r"the test split of 3 images has none of class 'Dress' \(3\); shuffle the data, make",
        ),
    ],
)
def test_a_split_without_one_class(sizes: tuple[int, int, int], said: str) -> None:
    labels = np.tile(np.arange(4, dtype=np.uint8), 3)
    with pytest.raises(UserError, match=said):
        choose_indices(labels, labels, NAMES[:4], subset("slices", *sizes))


def test_too_few_images_to_hold_any_out() -> None:
    labels = np.array([0, 1, 0, 1, 0], np.uint8)
    with pytest.raises(UserError, match="validation split of 0 images has none of class 0, 1;"):
        choose_indices(labels, labels, ["class 0", "class 1"], subset("everything"))
