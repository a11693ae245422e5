"""Labelled images: a split, a data set, and the checks of the arrays that form one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Int64, UInt8
from tasks.core.errors import UserError
from tasks.core.messages import classes_listed, listed

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Split:
    """Some labelled images.

    `images`: `(n, height, width, channels)` uint8 in [0, 255], 1 or 3 channels.
    `labels`: `(n,)` uint8, the index of each image's class.
    """

    images: UInt8
    labels: UInt8

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Int64) -> Split:
        """The images and labels at `indices`, in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A training and a test split over the same named classes."""

    train: Split
    test: Split
    class_names: tuple[str, ...]


def checked_dataset(
    x_train: NDArray[Any],
    y_train: NDArray[Any],
    x_test: NDArray[Any],
    y_test: NDArray[Any],
    class_names: Sequence[str] | None,
    origin: str,
) -> Dataset:
    """Check raw arrays and combine them into a `Dataset`.

    Images are `(n, h, w)` or `(n, h, w, c)` uint8 with 1 or 3 channels, labels `(n,)` or `(n, 1)`
    of any integer type. Without `class_names`, the highest training label gives the number of
    classes, and they are named `class 0`, `class 1`, ...

    Raises:
        UserError: wrong shape, dtype or length, a label outside the classes, or a class without
            training or test images. The message begins with `origin`.
    """
    train = _checked_split(x_train, y_train, f"{origin}: training split")
    test = _checked_split(x_test, y_test, f"{origin}: test split")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{origin}: training images are {train.images.shape[1:]}, test images "
            f"{test.images.shape[1:]} (height, width, channels); both must have the same shape."
        )
    names = tuple(class_names) if class_names else _numbered(int(train.labels.max()) + 1)
    if len(names) < 2:
        raise UserError(f"{origin}: there is only one class; classification needs at least two.")
    for part, split in (("training", train), ("test", test)):
        _check_classes(split.labels, names, f"{origin}: {part} split")
    return Dataset(train, test, names)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))


def _checked_split(images: NDArray[Any], labels: NDArray[Any], origin: str) -> Split:
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise UserError(
            f"{origin}: images have shape {images.shape}; expected (n, height, width) or "
            "(n, height, width, channels) with 1 or 3 channels."
        )
    if images.dtype != np.uint8:
        raise UserError(
            f"{origin}: images have dtype {images.dtype}; expected uint8 with values 0 to 255."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{origin}: labels have shape {labels.shape} and dtype {labels.dtype}; expected (n,) "
            "integers, one class index per image."
        )
    if len(images) != len(labels):
        raise UserError(
            f"{origin}: {len(images)} images but {len(labels)} labels; each image needs one label."
        )
    if len(images) == 0 or 0 in images.shape:
        raise UserError(
            f"{origin}: there are no images (shape {images.shape}); expected at least one of each "
            "class."
        )
    if labels.min() < 0 or labels.max() > 255:
        raise UserError(
            f"{origin}: labels go from {labels.min()} to {labels.max()}; expected class indices "
            "from 0 to 255."
        )
    return Split(np.ascontiguousarray(images), labels.astype(np.uint8))


def _check_classes(labels: UInt8, names: Sequence[str], origin: str) -> None:
    if labels.max() >= len(names):
        raise UserError(
            f"{origin}: label {labels.max()} has no class; expected labels from 0 to "
            f"{len(names) - 1}, one for each of the {len(names)} classes: {listed(names)}."
        )
    counts = np.bincount(labels, minlength=len(names))
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise UserError(
            f"{origin}: no image of {classes_listed(empty, names)}; expected images of each of the "
            f"{len(names)} classes. Add some, or number the other classes from 0 without gaps."
        )
