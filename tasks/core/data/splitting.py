"""The choice of raw images for the training, validation and test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Int64, Labels
from tasks.core.errors import UserError
from tasks.core.messages import classes_listed
from tasks.core.settings.images import SubsetSettings

NOTEBOOK_SIZES = {"train": 8_000, "validation": 2_000, "test": 2_000}


@dataclass(frozen=True)
class Indices:
    """Positions of the chosen images, `(n,)` each.

    `train` and `validation` are positions in the raw training split, `test` in the raw test split.
    """

    train: Int64
    validation: Int64
    test: Int64


def choose_indices(
    train_labels: Labels, test_labels: Labels, class_names: Sequence[str], settings: SubsetSettings
) -> Indices:
    """Choose the images of each split by `settings.method`; the splits never overlap.

    Raises:
        UserError: the data set has fewer images than the subset, or a class gets no images.
    """
    total, total_test = len(train_labels), len(test_labels)
    if settings.method == "everything":
        held_out = total // 6
        chosen = Indices(
            np.arange(total - held_out), np.arange(total - held_out, total), np.arange(total_test)
        )
    else:
        sizes = _sizes(total, total_test, settings)
        if settings.method == "slices":
            chosen = Indices(
                np.arange(sizes.train),
                np.arange(total - sizes.validation, total),
                np.arange(sizes.test),
            )
        else:
            chosen = _stratified(train_labels, test_labels, sizes, settings.seed)
    _check_every_class(train_labels, test_labels, class_names, chosen)
    return chosen


@dataclass(frozen=True)
class _Sizes:
    train: int
    validation: int
    test: int


def _sizes(total: int, total_test: int, settings: SubsetSettings) -> _Sizes:
    """The numbers of images: those of the notebook where none is given; shares of what there is.

    Raises:
        UserError: there are fewer images.
    """
    totals = {"train": total, "validation": total, "test": total_test}
    given = {name: getattr(settings, name) or NOTEBOOK_SIZES[name] for name in totals}
    found = _Sizes(
        **{
            name: size if isinstance(size, int) else max(1, round(size * totals[name]))
            for name, size in given.items()
        }
    )
    wanted = found.train + found.validation
    if wanted > total:
        raise UserError(
            f"subset: {found.train} training and {found.validation} validation images are "
            f"wanted, {wanted} in all, but the data set has {total} training images; set "
            "subset.train and subset.validation lower."
        )
    if found.test > total_test:
        raise UserError(
            f"subset: {found.test} test images are wanted, but the data set has {total_test}; "
            "set subset.test lower."
        )
    return found


def _stratified(train_labels: Labels, test_labels: Labels, sizes: _Sizes, seed: int) -> Indices:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    test_rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    pool = stratified_order(train_labels, rng)
    # Training from the start and validation from the end of one order, so they never overlap.
    return Indices(
        pool[: sizes.train],
        pool[len(pool) - sizes.validation :],
        stratified_order(test_labels, test_rng)[: sizes.test],
    )


def stratified_order(labels: Labels, rng: np.random.Generator) -> Int64:
    """A random order of `range(n)` in which every section contains each class proportionally.

    The images of each class are shuffled and spread evenly over [0, 1), with a random offset for
    each class; then all images are sorted by these positions. With classes of equal size, the count
    of a class among the first or last m images differs from its share of m by at most one if that
    share is a whole number, and by less than two otherwise.
    """
    order = rng.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")


def _check_every_class(
    train_labels: Labels, test_labels: Labels, class_names: Sequence[str], chosen: Indices
) -> None:
    parts = {
        "training": train_labels[chosen.train],
        "validation": train_labels[chosen.validation],
        "test": test_labels[chosen.test],
    }
    for name, labels in parts.items():
        missing = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
        if len(missing):
            raise UserError(
                f"subset: the {name} split of {len(labels)} images has none of "
                f"{classes_listed(missing, class_names)}; shuffle the data, make the "
                "split larger, or use subset.method=stratified."
            )
