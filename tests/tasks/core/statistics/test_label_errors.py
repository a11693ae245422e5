"""Probable label errors, by hand, against cleanlab's numbers, and for any predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasks.core.array_types import Float64, Int64
from tasks.core.statistics.label_errors import (
    calibrated_joint,
    confident_joint,
    find_label_errors,
    thresholds,
)

# Ten images of three classes. Image 2 looks like class 1 and image 5 like class 2; image 8 reaches
# no threshold, and image 9 is uncertain.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.9, 0.05, 0.05],
        [0.8, 0.1, 0.1],
        [0.2, 0.7, 0.1],
        [0.6, 0.3, 0.1],
        [0.1, 0.8, 0.1],
        [0.2, 0.2, 0.6],
        [0.05, 0.9, 0.05],
        [0.1, 0.1, 0.8],
        [0.3, 0.4, 0.3],
        [0.6, 0.1, 0.3],
    ]
)


def test_a_class_s_threshold_is_its_mean_self_confidence() -> None:
    assert thresholds(LABELS, PROBABILITIES) == pytest.approx([2.5 / 4, 1.9 / 3, 1.4 / 3])


def test_nothing_is_taken_for_a_class_without_images() -> None:
    labels = np.array([0, 0, 1])
    probabilities = np.array([[0.1, 0.0, 0.9], [0.8, 0.1, 0.1], [0.1, 0.7, 0.2]])
    assert thresholds(labels, probabilities)[2] == np.inf
    assert confident_joint(labels, probabilities)[:, 2].tolist() == [0, 0, 0]


def test_equal_probabilities_reach_their_mean_however_it_is_rounded() -> None:
    same = np.repeat([[0.1, 0.9]], 3, axis=0)
    assert confident_joint(np.zeros(3, np.int64), same).tolist() == [[3, 0], [0, 0]]


def test_the_confident_joint_is_cleanlab_s() -> None:
    """As `compute_confident_joint(..., calibrate=False)` of cleanlab 2.9.0 counts these images."""
    assert confident_joint(LABELS, PROBABILITIES).tolist() == [[2, 1, 0], [0, 2, 1], [0, 0, 1]]


def test_of_several_classes_that_reach_their_threshold_the_most_probable_counts() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8], [0.6, 0.4], [0.55, 0.45]])
    # The thresholds are 0.4 and 0.425: images 0 and 3 reach one or both of them.
    assert confident_joint(labels, probabilities).tolist() == [[1, 1], [2, 0]]


def test_calibration_scales_each_row_to_its_class() -> None:
    joint = calibrated_joint(np.array([[2, 1, 0], [0, 2, 1], [0, 0, 1]]), np.array([4, 3, 3]))
    assert joint == pytest.approx(np.array([[8 / 3, 4 / 3, 0], [0, 2, 1], [0, 0, 3]]))


def test_a_class_of_which_nothing_was_counted_is_taken_to_be_right() -> None:
    joint = calibrated_joint(np.array([[3, 1], [0, 0]]), np.array([8, 5]))
    assert joint.tolist() == [[6, 2], [0, 5]]


def test_the_suspects_are_those_of_cleanlab_with_their_likeliest_class() -> None:
    """As `find_label_issues` of cleanlab 2.9.0 finds and ranks them, whatever `filter_by`."""
    found = find_label_errors(LABELS, PROBABILITIES)
    assert found.images.tolist() == [2, 5]
    assert found.suggested.tolist() == [1, 2]
    assert found.estimated == pytest.approx(4 / 3 + 1)


def noisy(images: int, share: float, seed: int) -> tuple[Int64, Int64, Float64]:
    """True labels, given labels of which a share is wrong, and predictions that are mostly right.

    The predictions depend on the true labels alone.
    """
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, images)
    flipped = rng.random(images) < share
    labels = np.where(flipped, (true + rng.integers(1, 4, images)) % 4, true)
    scores = rng.normal(size=(images, 4)) + 5 * np.eye(4)[true]
    probabilities = np.exp(scores)
    return true, labels, probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_the_number_of_errors_is_about_what_it_is(share: float) -> None:
    true, labels, probabilities = noisy(4000, share, 0)
    found = find_label_errors(labels, probabilities)
    wrong = np.flatnonzero(true != labels)
    assert found.estimated == pytest.approx(len(wrong), rel=0.2, abs=20)
    assert np.isin(found.images[: len(wrong) // 2], wrong).mean() > 0.97
    assert np.isin(wrong, found.images).mean() > 0.85


@st.composite
def predicted(draw: Any) -> tuple[Int64, Float64]:
    """Labels and probabilities of up to 30 images of up to 5 classes, some of which are equal."""
    images, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    labels = draw(arrays.arrays(np.int64, images, elements=st.integers(0, classes - 1)))
    parts = draw(arrays.arrays(np.int64, (images, classes), elements=st.integers(1, 9)))
    return labels, parts / parts.sum(axis=1, keepdims=True)


@given(predicted())
def test_the_joint_has_as_many_images_of_each_label_as_there_are(
    given_images: tuple[Int64, Float64],
) -> None:
    labels, probabilities = given_images
    classes = probabilities.shape[1]
    found = find_label_errors(labels, probabilities)
    assert (found.joint >= 0).all()
    assert found.joint.sum(axis=1) == pytest.approx(np.bincount(labels, minlength=classes))
    assert 0 <= found.estimated <= len(labels) + 1e-9


@given(predicted())
def test_a_suspect_s_label_is_less_probable_than_the_one_suggested(
    given_images: tuple[Int64, Float64],
) -> None:
    labels, probabilities = given_images
    found = find_label_errors(labels, probabilities)
    assert len(set(found.images.tolist())) == len(found.images)
    mine = probabilities[found.images, labels[found.images]]
    other = probabilities[found.images, found.suggested]
    assert (other > mine).all()
    assert (other == probabilities[found.images].max(axis=1)).all()


@given(predicted())
def test_where_the_predictions_agree_nothing_is_suspected(
    given_images: tuple[Int64, Float64],
) -> None:
    _, probabilities = given_images
    found = find_label_errors(probabilities.argmax(axis=1), probabilities)
    assert found.images.tolist() == []


@given(predicted(), st.randoms(use_true_random=False))
def test_other_numbers_for_the_classes_give_the_same_estimate(
    given_images: tuple[Int64, Float64], random: Any
) -> None:
    labels, probabilities = given_images
    # Of equally probable classes, the first counts, which another order changes.
    probabilities = probabilities + np.linspace(0, 1e-3, probabilities.size).reshape(
        probabilities.shape
    )
    order = list(range(probabilities.shape[1]))
    random.shuffle(order)
    number = np.argsort(order)
    found = find_label_errors(labels, probabilities)
    renamed = find_label_errors(number[labels], probabilities[:, order])
    assert renamed.joint == pytest.approx(found.joint[np.ix_(order, order)])
    assert renamed.images.tolist() == found.images.tolist()
    assert renamed.suggested.tolist() == number[found.suggested].tolist()


@given(st.permutations(range(60)))
def test_the_ranking_does_not_depend_on_the_order_of_the_images(order: list[int]) -> None:
    _, labels, probabilities = noisy(60, 0.2, 1)
    found = find_label_errors(labels, probabilities)
    mixed = find_label_errors(labels[order], probabilities[order])
    assert np.array(order)[mixed.images].tolist() == found.images.tolist()


def test_equally_suspicious_images_keep_their_order() -> None:
    labels = np.array([0] * 6 + [1] * 6)
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 9)
    assert find_label_errors(labels, probabilities).images.tolist() == [3, 4, 5]
