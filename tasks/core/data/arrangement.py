"""The canonical arrangement of a user's own images: splits, classes, order.

The same images give the same arrangement in whatever form and order they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Bool, Int64, Labels
from tasks.core.data.class_order import in_natural_order
from tasks.core.data.own_splits import (
    Members,
    Size,
    advice,
    check_classes,
    drawn,
    held_out_size,
    units_of,
)
from tasks.core.errors import UserError
from tasks.core.messages import listed, quoted
from tasks.core.names import SPLITS, TEST, TRAIN, VALIDATION

# Tables of predictions have a column for each class, those of confusions a row for each pair.
MOST_CLASSES = 1_000
_MISSING = "add some, leave the class out, or set images.splits=draw"


@dataclass(frozen=True)
class Described:
    """What is known of each image that could be decoded.

    Attributes:
        positions: `(n,)` their positions in the data set.
        digests: `(n,)` of their pixels.
        labels: the names of their classes.
        splits: their splits; None where the data set defines none.
        groups: their groups, if they have any.
        weights: their weights in training, if they have any.
    """

    positions: Int64
    digests: NDArray[np.void]
    labels: Sequence[str]
    splits: Sequence[str | None]
    groups: Sequence[str | None]
    weights: Sequence[float | None]


@dataclass(frozen=True)
class Part:
    """The images of one raw split, in order.

    `positions`: `(n,)` in the data set; `labels`: `(n,)` uint8 or uint16 class indices; `groups`:
    `(n,)`, -1 for none, or None; `weights`: `(n,)` float32 above 0, or None.
    """

    positions: Int64
    labels: Labels
    groups: Int64 | None
    weights: NDArray[np.float32] | None


@dataclass(frozen=True)
class Arrangement:
    """The raw splits: `validation` is how many of the last training images are for validation."""

    class_names: tuple[str, ...]
    train: Part
    test: Part
    validation: int
    test_drawn: bool


def class_order(labels: Sequence[str], class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The classes that have images, in the order given or in their natural order.

    Raises:
        UserError: there is only one or too many, or an image has a class that is not among those
            given.
    """
    found = in_natural_order(labels)
    unknown = sorted(set(found).difference(class_names)) if class_names else []
    if class_names and unknown:
        raise UserError(
            f"images have the classes {listed(unknown)}, which are not among the names that the "
            f"data set gives: {listed(class_names)}. Name all classes."
        )
    present = set(found)
    names = tuple(name for name in class_names if name in present) if class_names else tuple(found)
    if not 2 <= len(names) <= MOST_CLASSES:
        raise UserError(
            f"the images have {len(names):,} {'class' if len(names) == 1 else 'classes'} "
            f"({listed(names)}); expected 2 to {MOST_CLASSES:,} classes."
        )
    return names


def check_defined(
    labels: Sequence[str],
    splits: Sequence[str | None],
    groups: Sequence[str | None],
    class_names: Sequence[str] | None,
) -> None:
    """Refuse what no decoded pixel could make right, before any is decoded.

    Raises:
        UserError: there is only one class or too many, a group is in two splits of the data set, or
            a class is missing from a split that it defines.
    """
    names = class_order(labels, class_names)
    _check_groups(groups, splits)
    index = {name: number for number, name in enumerate(names)}
    label = np.array([index[name] for name in labels], np.uint16)
    for split in (VALIDATION, TEST):
        chosen = np.array([found == split for found in splits])
        if chosen.any():
            check_classes(label[chosen], names, split, _MISSING)


def arranged(
    found: Described, class_names: Sequence[str] | None, test: Size, seed: int
) -> Arrangement:
    """Sort images by split, class and digest; draw a test split if the data set has none.

    `test` is its size, a sixth by default.

    Raises:
        UserError: there is only one class or too many, a class has no image in a split, or a
            group is in two splits of the data set.
    """
    names = class_order(found.labels, class_names)
    _check_groups(found.groups, found.splits)
    order, split, label = _sorted(found, names)
    groups = _numbered([found.groups[at] for at in order])
    weights = _weights([found.weights[at] for at in order])
    tested = split == SPLITS.index(TEST)
    draws = not tested.any()
    mixed = np.flatnonzero(split == SPLITS.index(TRAIN))
    pool = Members(label, units_of(found.digests[order], groups)).at(mixed)
    if draws and len(pool):
        tested[mixed] = drawn(pool, held_out_size(pool, test), seed, TEST)
    validated = split == SPLITS.index(VALIDATION)
    drawn_so = advice(pool, TEST) if draws else _MISSING
    check_classes(label[~tested & ~validated], names, "training", drawn_so)
    check_classes(label[tested], names, TEST, drawn_so)
    if validated.any():
        check_classes(label[validated], names, VALIDATION, _MISSING)

    def part(chosen: Bool) -> Part:
        return Part(
            found.positions[order[chosen]],
            label[chosen],
            None if groups is None else groups[chosen],
            None if weights is None else weights[chosen],
        )

    return Arrangement(names, part(~tested), part(tested), int(validated.sum()), draws)


def _sorted(found: Described, names: Sequence[str]) -> tuple[Int64, Int64, Labels]:
    """The canonical order, and the split and the class of each image in this order."""
    index = {name: number for number, name in enumerate(names)}
    split = np.array([SPLITS.index(name or TRAIN) for name in found.splits])
    label = np.array([index[name] for name in found.labels])
    order = np.array(
        sorted(
            range(len(label)),
            key=lambda at: (
                split[at],
                label[at],
                found.digests[at].tobytes(),
                found.groups[at] or "",
                found.weights[at] or 0.0,
            ),
        )
    )
    width = np.uint8 if len(names) <= 256 else np.uint16
    return order, split[order], label[order].astype(width)


def _check_groups(groups: Sequence[str | None], splits: Sequence[str | None]) -> None:
    first: dict[str, str] = {}
    for group, named in zip(groups, splits, strict=True):
        split = named or TRAIN
        if group is not None and first.setdefault(group, split) != split:
            raise UserError(
                f"group {quoted(group)} has images in two splits, {first[group]} and {split}; put "
                "all of them into one, or set images.splits=draw."
            )


def _numbered(groups: Sequence[str | None]) -> Int64 | None:
    """Numbers in the order of appearance, -1 for none; None if there are no groups."""
    numbers: dict[str, int] = {}
    found = [-1 if name is None else numbers.setdefault(name, len(numbers)) for name in groups]
    return np.array(found, np.int64) if numbers else None


def _weights(weights: Sequence[float | None]) -> NDArray[np.float32] | None:
    if all(weight is None for weight in weights):
        return None
    return np.array([1.0 if weight is None else weight for weight in weights], np.float32)
