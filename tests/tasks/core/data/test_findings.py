"""What is wrong with images: each planted fault is found, and none in clean images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.core.data import findings
from tasks.core.data.findings import WHOLE, Finding, LabelledSurvey, copies_within
from tasks.core.data.frames import find_frames
from tasks.core.data.image_survey import joined, survey
from tasks.core.data.synthetic import draw_dataset
from tasks.core.data.turned_images import CHANGES

TRAIN, TEST = 300, 120
SEEDS = st.integers(0, 2**20)
Arrays = dict[str, NDArray[Any]]


def drawn(seed: int) -> Arrays:
    """Images and labels of both splits, as the program draws them."""
    made = draw_dataset(TRAIN, TEST, seed)
    return {
        "x": made.train.images,
        "y": made.train.labels,
        "x_test": made.test.images,
        "y_test": made.test.labels,
    }


def lopsided(arrays: Arrays) -> Arrays:
    """The images, darker to the left and far darker to the top: no mirroring leaves them alike."""
    down, right = np.mgrid[0:28, 0:28] / 27
    light = (down**2 * right)[..., None]
    return arrays | {name: (arrays[name] * light).astype(np.uint8) for name in ("x", "x_test")}


def labelled(arrays: Arrays, *, defined: bool = True, ordered: bool = True) -> LabelledSurvey:
    """The survey of a data set that defines its test split, or none."""
    labels = np.concatenate([arrays["y"], arrays["y_test"]])
    first, count = len(arrays["y"]), len(labels)
    parts = {"train": np.arange(first), "test": np.arange(first, count)}
    return LabelledSurvey(
        joined(survey(arrays["x"]), survey(arrays["x_test"])),
        labels,
        parts if defined else {WHOLE: np.arange(count)},
        np.arange(count) if ordered else None,
        [f"class {number}" for number in range(10)],
    )


def found_in(data: LabelledSurvey) -> list[Finding]:
    """Everything that the images alone show."""
    counts = {
        part: np.bincount(data.labels[at], minlength=10).tolist() for part, at in data.parts.items()
    }
    found: Iterator[Finding] = chain(
        findings.find_two_labels(data),
        findings.find_two_splits(data, dropped=False),
        findings.find_unlike_parts(data),
        findings.find_blank(data),
        findings.find_few(counts, data.class_names),
        findings.find_imbalance(next(iter(counts.values())), data.class_names),
        findings.find_sorted(data),
    )
    return list(found)


def kinds(data: LabelledSurvey) -> list[str]:
    return [one.kind for one in found_in(data)]


@settings(max_examples=30)
@given(SEEDS, st.booleans())
def test_nothing_is_named_in_clean_images(seed: int, defined: bool) -> None:
    assert found_in(labelled(drawn(seed), defined=defined)) == []


# Each does what the name says, to images (n, h, w, 1).
DONE: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "inverted (dark for light)": lambda x: 255 - x,
    "mirrored left to right": lambda x: x[:, :, ::-1],
    "mirrored top to bottom": lambda x: x[:, ::-1],
    "turned by 180 degrees": lambda x: x[:, ::-1, ::-1],
    "transposed (rows and columns exchanged)": lambda x: x.swapaxes(1, 2),
    "transposed along the other diagonal": lambda x: x[:, ::-1, ::-1].swapaxes(1, 2),
    # NumPy turns to the left.
    "turned by 90 degrees to the right": lambda x: np.rot90(x, -1, (1, 2)),
    "turned by 90 degrees to the left": lambda x: np.rot90(x, 1, (1, 2)),
}


def test_each_change_is_undone_by_its_remedy() -> None:
    assert [change.name for change in CHANGES] == list(DONE)
    images = np.random.default_rng(0).integers(1, 255, (3, 4, 4)).astype(np.uint8)
    for change in CHANGES:
        changed = DONE[change.name](images)
        centred = changed.astype(np.float32) - 127.5
        assert np.array_equal(change.undo(centred) + 127.5, images)


@settings(max_examples=5)
@given(SEEDS)
@pytest.mark.parametrize("name", DONE)
def test_a_split_that_is_turned_is_named_with_the_remedy(name: str, seed: int) -> None:
    arrays = lopsided(drawn(seed))
    assert found_in(labelled(arrays)) == []
    arrays["x_test"] = DONE[name](arrays["x_test"])
    (found,) = found_in(labelled(arrays))
    assert (found.kind, found.level) == ("changed_split", "fault")
    assert found.sentence == f"The test images are {name}, compared with the training images."
    remedy = next(change.remedy for change in CHANGES if change.name == name)
    assert remedy in found.advice


@settings(max_examples=5)
@given(SEEDS)
def test_transposed_images_that_mirroring_leaves_alike_are_named(seed: int) -> None:
    arrays = drawn(seed)
    arrays["x_test"] = arrays["x_test"].swapaxes(1, 2)
    (found,) = found_in(labelled(arrays))
    assert "are transposed (rows and columns exchanged)" in found.sentence


def test_images_of_other_shapes_are_not_taken_for_turned() -> None:
    arrays = drawn(0)
    arrays |= {name: arrays[name][:, :, 4:-4] for name in ("x", "x_test")}
    assert found_in(labelled(arrays)) == []
    arrays["x_test"] = arrays["x_test"][:, ::-1]
    assert kinds(labelled(arrays)) == ["changed_split"]


@settings(max_examples=10)
@given(SEEDS, st.integers(0, 9))
def test_a_class_that_is_inverted_in_one_split_is_named(seed: int, label: int) -> None:
    arrays = drawn(seed)
    of_class = arrays["y_test"] == label
    arrays["x_test"] = np.where(of_class[:, None, None, None], 255 - arrays["x_test"], 0) + (
        np.where(of_class[:, None, None, None], 0, arrays["x_test"])
    ).astype(np.uint8)
    (found,) = found_in(labelled(arrays))
    assert found.kind == "unlike_classes"
    assert f"'class {label}' (inverted (dark for light))" in found.sentence


def test_a_class_that_is_brighter_or_of_something_else_in_one_split_is_named() -> None:
    arrays = drawn(1)
    bright = arrays["y_test"] == 2
    # As much contrast, on a light ground.
    arrays["x_test"] = arrays["x_test"].copy()
    arrays["x_test"][bright] = 200 + arrays["x_test"][bright] // 5
    (found,) = found_in(labelled(arrays))
    assert "'class 2' (much brighter)" in found.sentence
    arrays = drawn(1)
    rng = np.random.default_rng(0)
    noise = rng.permuted(arrays["x_test"][bright].reshape(bright.sum(), -1), axis=1)
    arrays["x_test"] = arrays["x_test"].copy()
    arrays["x_test"][bright] = noise.reshape(-1, 28, 28, 1)
    (found,) = found_in(labelled(arrays))
    assert found.kind == "unlike_classes"
    assert "'class 2' (of something else)" in found.sentence


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 9))
def test_equal_images_with_two_labels_are_named(seed: int, count: int) -> None:
    arrays = drawn(seed)
    arrays["x"] = np.concatenate([arrays["x"], arrays["x"][:count]])
    arrays["y"] = np.concatenate([arrays["y"], (arrays["y"][:count] + 1) % 10])
    data = labelled(arrays)
    (found,) = found_in(data)
    assert found.kind == "two_labels"
    assert found.sentence.startswith(f"{count} image")
    assert set(found.images.tolist()) == {*range(count), *range(TRAIN, TRAIN + count)}
    copies = data.copies[found.images].reshape(-1, 2)
    assert (copies[:, 0] == copies[:, 1]).all(), "equal ones are next to each other"
    (within, *others) = copies_within(data)
    assert (within["same_label"], within["other_label"]) == (0, count)
    assert all(row["same_label"] == row["other_label"] == 0 for row in others)


def test_images_in_two_splits_are_named_and_harmless_if_they_are_left_out() -> None:
    arrays = drawn(3)
    arrays["x"] = np.concatenate([arrays["x"], arrays["x_test"][:4]])
    arrays["y"] = np.concatenate([arrays["y"], arrays["y_test"][:4]])
    data = labelled(arrays)
    (found,) = found_in(data)
    assert found.level == "fault"
    assert found.sentence.startswith("4 of 120 test images are training images, too")
    (left_out,) = findings.find_two_splits(data, dropped=True)
    assert left_out.level == "note"
    assert copies_within(data)[-1] == {
        "split": "train",
        "other_split": "test",
        "same_label": 4,
        "other_label": 0,
    }


def test_copies_of_one_class_in_one_split_are_counted_and_no_fault() -> None:
    arrays = drawn(3)
    arrays["x"] = np.concatenate([arrays["x"], arrays["x"][:2], arrays["x"][:1]])
    arrays["y"] = np.concatenate([arrays["y"], arrays["y"][:2], arrays["y"][:1]])
    data = labelled(arrays)
    assert found_in(data) == []
    assert copies_within(data)[0]["same_label"] == 3


def test_blank_images_are_named_and_not_for_their_labels() -> None:
    arrays = drawn(4)
    arrays["x"] = arrays["x"].copy()
    arrays["x"][[3, 5, 7]] = np.array([0, 0, 9])[:, None, None, None]
    (found,) = found_in(labelled(arrays))
    assert (found.kind, found.images.tolist()) == ("blank", [3, 5, 7])
    assert found.sentence.startswith("3 images are blank")


def test_a_class_of_one_image_is_named() -> None:
    arrays = drawn(5)
    kept = np.append(np.flatnonzero(arrays["y"] != 4), np.flatnonzero(arrays["y"] == 4)[:1])
    arrays |= {name: arrays[name][kept] for name in ("x", "y")}
    few, unbalanced = found_in(labelled(arrays))
    assert few.sentence == "1 class has fewer than 5 images in a split: 'class 4' (train 1)."
    assert unbalanced.kind == "imbalance"
    assert "'class 4' 1." in unbalanced.sentence


@settings(max_examples=10)
@given(SEEDS)
def test_a_split_that_is_sorted_by_class_is_named(seed: int) -> None:
    arrays = drawn(seed)
    order = np.argsort(arrays["y"], kind="stable")
    arrays |= {name: arrays[name][order] for name in ("x", "y")}
    (found,) = found_in(labelled(arrays))
    assert (found.kind, found.level) == ("sorted", "note")
    assert found.sentence.startswith("The training images are sorted by class")
    assert found_in(labelled(arrays, ordered=False)) == [], "folders of classes always are"


def test_pictures_that_cannot_be_read_are_named() -> None:
    assert not [*findings.find_unreadable({})]
    reading = {"unreadable_count": 2, "unreadable": [{"name": "a.png"}, {"name": "b.png"}]}
    (found,) = findings.find_unreadable(reading)
    assert found.sentence == "2 pictures can't be read and were left out: a.png, b.png."


# Frames


def frames_of(seed: int, objects: int, each: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images that differ by noise only, in any order, and the objects that they show."""
    images = draw_dataset(objects, 10, seed).train.images.astype(int)
    rng = np.random.default_rng(seed)
    order = rng.permutation(objects * each)
    repeated = np.repeat(images, each, axis=0)[order]
    noisy = np.clip(repeated + rng.integers(-4, 5, repeated.shape), 0, 255).astype(np.uint8)
    return noisy, np.repeat(np.arange(objects), each)[order]


def test_thirty_frames_of_each_object_are_named_unless_they_are_groups() -> None:
    images, objects = frames_of(0, 12, 30)
    positions = np.arange(len(images))
    (found,) = findings.find_many_frames(find_frames(images, None, 0.95, 2), positions)
    assert found.kind == "frames"
    assert "half of them 29 or more among 360 images" in found.sentence
    assert len(set(objects[found.images].tolist())) == 1, "the images shown are of one object"
    assert not [*findings.find_many_frames(find_frames(images, objects, 0.95, 2), positions)]
    unsearched = find_frames(images, None, 0.95, 2, "off")
    assert not [*findings.find_many_frames(unsearched, positions)]


@settings(max_examples=5)
@given(SEEDS)
def test_different_images_are_not_taken_for_frames(seed: int) -> None:
    images = drawn(seed)["x"]
    found = find_frames(images, None, 0.95, 2)
    assert not [*findings.find_many_frames(found, np.arange(len(images)))]


def test_more_pairs_than_a_list_can_hold_are_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.data.duplicates.MOST_PAIRS", 50)
    images, _ = frames_of(0, 2, 30)
    found = find_frames(images, None, 0.95, 2)
    assert (found.others == 59).all()
    assert [*findings.find_many_frames(found, np.arange(60))]


def test_near_duplicates_across_splits_are_named_if_they_are_many() -> None:
    none = np.empty(0, np.int64)
    assert not [*findings.find_near_across(np.arange(4), 100, none)]
    (found,) = findings.find_near_across(np.arange(5), 100, none)
    assert found.sentence.startswith("5 of 100 test images have a near duplicate")
