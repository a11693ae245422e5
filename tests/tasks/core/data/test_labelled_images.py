"""Arrays become a data set, or an error says what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.data.labelled_images import Dataset, Split, checked_dataset
from tasks.core.errors import UserError

LABELS = np.array([0, 1, 2, 0, 1, 2])
IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)


def checked(
    x_train: NDArray[Any] = IMAGES,
    y_train: NDArray[Any] = LABELS,
    x_test: NDArray[Any] = IMAGES[:3],
    y_test: NDArray[Any] = LABELS[:3],
    names: tuple[str, ...] | None = None,
) -> Dataset:
    return checked_dataset(x_train, y_train, x_test, y_test, names, "mine.npz")


def test_arrays_become_a_data_set() -> None:
    found = checked()
    assert found.train.images.shape == (6, 4, 5, 1)
    assert found.test.images.shape == (3, 4, 5, 1)
    np.testing.assert_array_equal(found.train.images[..., 0], IMAGES)
    np.testing.assert_array_equal(found.test.labels, [0, 1, 2])
    assert found.train.images.dtype == found.train.labels.dtype == np.uint8
    assert found.class_names == ("class 0", "class 1", "class 2")
    assert (len(found.train), len(found.test)) == (6, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_kept(channels: int) -> None:
    images = np.repeat(IMAGES[..., None], channels, axis=3)
    found = checked(x_train=images, x_test=images[:3])
    np.testing.assert_array_equal(found.train.images, images)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, ">i4"])
def test_labels_of_any_integer_type(dtype: Any) -> None:
    found = checked(y_train=LABELS.astype(dtype), y_test=LABELS[:3].astype(dtype))
    assert found.train.labels.tolist() == LABELS.tolist()


def test_labels_in_a_column() -> None:
    assert checked(y_train=LABELS[:, None]).train.labels.tolist() == LABELS.tolist()


def test_class_names_are_kept() -> None:
    assert checked(names=("bag", "boot", "coat")).class_names == ("bag", "boot", "coat")


def test_images_are_contiguous_in_memory() -> None:
    found = checked(x_train=IMAGES[::-1].transpose(0, 2, 1), x_test=IMAGES[:3].transpose(0, 2, 1))
    assert found.train.images.flags.c_contiguous


def test_taking_images_of_a_split() -> None:
    split = checked().train
    taken = split.take(np.array([4, 0]))
    assert isinstance(taken, Split)
    assert taken.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(taken.images, split.images[[4, 0]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"x_train": IMAGES[0]}, r"training split: images have shape \(4, 5\); expected \(n, h"),
        ({"x_train": np.zeros((6, 4, 5, 2), np.uint8)}, r"shape \(6, 4, 5, 2\).* 1 or 3 channels"),
        ({"x_train": np.zeros((6, 4, 5, 1, 1), np.uint8)}, r"shape \(6, 4, 5, 1, 1\); expected"),
        ({"x_train": IMAGES / 255}, r"training split: images have dtype float64; expected uint8"),
        ({"x_test": IMAGES[:3].astype(np.int64)}, r"test split: images have dtype int64"),
        ({"x_train": np.array([[[None]]] * 6)}, r"images have dtype object; expected uint8"),
        ({"y_train": LABELS * 1.0}, r"labels have shape \(6,\) and dtype float64; expected \(n,\)"),
        ({"y_train": LABELS == 1}, r"labels have shape \(6,\) and dtype bool"),
        ({"y_train": LABELS.astype(str)}, r"dtype <U\d+; expected \(n,\) integers, one class ind"),
        ({"y_train": np.eye(3, dtype=int)[LABELS]}, r"labels have shape \(6, 3\) and dtype int64"),
        ({"y_train": LABELS[:5]}, r"training split: 6 images but 5 labels; each image needs one"),
        ({"x_test": IMAGES[:2]}, r"test split: 2 images but 3 labels"),
        ({"x_test": IMAGES[:0], "y_test": LABELS[:0]}, r"test split: there are no images \(shape"),
        ({"x_train": IMAGES[:, :0]}, r"training split: there are no images \(shape \(6, 0, 5, 1"),
        (
            {"y_train": LABELS - 1},
            r"training split: labels go from -1 to 1; expected class indices",
        ),
        ({"y_train": LABELS * 128}, r"labels go from 0 to 256; expected class indices from 0 to 2"),
        (
            {"x_test": IMAGES[:3, :3]},
            r"training images are \(4, 5, 1\), test images \(3, 5, 1\) \(height, width, channels\)",
        ),
        (
            {"names": ("a", "b")},
            r"training split: label 2 has no class; expected labels from 0 to 1",
        ),
        (
            {"y_test": LABELS[:3] + 1},
            r"test split: label 3 has no class; expected labels from 0 to 2",
        ),
        ({"names": ("a", "b", "c", "d")}, r"training split: no image of class 'd'"),
        ({"y_train": LABELS * 2}, r"training split: no image of class 1, 3; expected"),
        ({"y_test": LABELS[:3] // 2}, r"test split: no image of class 2; expected"),
        (
            {"y_train": LABELS * 0, "y_test": LABELS[:3] * 0},
            r"there is only one class; classification needs at least two",
        ),
        ({"names": ("a",)}, r"there is only one class"),
    ],
)
def test_wrong_arrays_are_refused_with_the_reason(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        checked(**wrong)
    assert str(caught.value).startswith("mine.npz: ")
