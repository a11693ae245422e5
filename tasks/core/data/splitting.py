"""Which raw images become the training, validation and test split, and how they are scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.data.labelled import Float32, Int64, Split, UInt8
from tasks.core.errors import UserError
from tasks.core.settings.images import SubsetSettings


@dataclass(frozen=True)
class Indices:
    """Positions in the raw training split (train, validation) and the raw test split (test)."""

    train: Int64
    validation: Int64
    test: Int64


def choose_indices(
    train_labels: UInt8, test_labels: UInt8, classes: int, settings: SubsetSettings
) -> Indices:
    """Choose the images of each split as `settings.method` says; the splits never overlap.

    Raises:
        UserError: the data are smaller than the subset, or a class is left without images.
    """
    total, total_test = len(train_labels), len(test_labels)
    if settings.method == "everything":
        held_out = total // 6
        chosen = Indices(
            np.arange(total - held_out), np.arange(total - held_out, total), np.arange(total_test)
        )
    else:
        _check_sizes(total, total_test, settings)
        if settings.method == "slices":
            chosen = Indices(
                np.arange(settings.train),
                np.arange(total - settings.validation, total),
                np.arange(settings.test),
            )
        else:
            chosen = _stratified(train_labels, test_labels, settings)
    _check_every_class(train_labels, test_labels, classes, chosen)
    return chosen


def _check_sizes(total: int, total_test: int, settings: SubsetSettings) -> None:
    wanted = settings.train + settings.validation
    if wanted > total:
        raise UserError(
            f"subset: {settings.train} training and {settings.validation} validation images are "
            f"wanted, {wanted} in all, but the data set has {total} training images; set "
            "subset.train and subset.validation lower."
        )
    if settings.test > total_test:
        raise UserError(
            f"subset: {settings.test} test images are wanted, but the data set has {total_test}; "
            "set subset.test lower."
        )


def _stratified(train_labels: UInt8, test_labels: UInt8, settings: SubsetSettings) -> Indices:
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0]))
    test_rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 1]))
    pool = stratified_order(train_labels, rng)
    # The two ends of one order in which every stretch has each class in its share.
    return Indices(
        pool[: settings.train],
        pool[len(pool) - settings.validation :],
        stratified_order(test_labels, test_rng)[: settings.test],
    )


def stratified_order(labels: UInt8, rng: np.random.Generator) -> Int64:
    """A random order of `range(n)` in which every stretch has each class in its share.

    Each class's images, shuffled, are spread evenly over [0, 1) with one random offset a class,
    and all are sorted by that position. With classes of one size, the count of a class among the
    first or last m images is its share of m to within one where that is whole, else within two.
    """
    order = rng.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")


def _check_every_class(
    train_labels: UInt8, test_labels: UInt8, classes: int, chosen: Indices
) -> None:
    parts = {
        "training": train_labels[chosen.train],
        "validation": train_labels[chosen.validation],
        "test": test_labels[chosen.test],
    }
    for name, labels in parts.items():
        missing = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
        if len(missing):
            raise UserError(
                f"subset: the {name} split of {len(labels)} images has none of class "
                f"{', '.join(map(str, missing))}; make it larger or use "
                "subset.method=stratified."
            )


def scaled(images: UInt8) -> Float32:
    """`(n, h, w, c)` uint8 in [0, 255] as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def one_hot(labels: UInt8, classes: int) -> Float32:
    """`(n,)` class indices as `(n, classes)` float32, 1 at the label and 0 elsewhere."""
    return np.eye(classes, dtype=np.float32)[labels]


def prepared(split: Split, classes: int) -> dict[str, Float32]:
    """What networks read: `x` `(n, h, w, c)` in [0, 1] and one-hot `y` `(n, classes)`."""
    return {"x": scaled(split.images), "y": one_hot(split.labels, classes)}


def ground(images: UInt8) -> float:
    """How light the ground is that objects stand on, in [0, 1]: the median of border pixels.

    Of each of the images `(n, h, w, c)` it is the median over its outermost pixels, and of those
    the median over the images. Fashion-MNIST has 0: garments are light on black.
    """
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    border = np.concatenate([edge.reshape(len(images), -1) for edge in edges], axis=1)
    return float(np.median(np.median(border, axis=1)) / 255)
