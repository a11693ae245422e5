"""Weights of classes: how much the images of each count in training, against imbalance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tasks.core.array_types import Float64, Int64
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.core.settings.training import ClassWeight
from tasks.core.training.examples import Examples


def class_weights(counts: Int64, names: Sequence[str], given: ClassWeight) -> Float64:
    """The weight of each class, `(classes,)`; all are 1 without `given`.

    `balanced`: n / (classes * n_c), where n_c of the n images are of class c and classes without an
    image do not count (King and Zeng 2001; scikit-learn's `compute_class_weight`). Every class then
    has the same total weight, and the mean over images is 1.

    Args:
        counts: `(classes,)` images of each class.
        names: the names of the classes.
        given: `balanced`, or weights by class name or label; classes that are not named have 1.

    Raises:
        UserError: a class is unknown, or named twice.
    """
    if given is None:
        return np.ones(len(counts))
    if given == "balanced":
        present = int(np.count_nonzero(counts))
        sizes = np.maximum(counts, 1).astype(np.float64)
        return int(counts.sum()) / max(1, present) / sizes
    return _given(names, given)


def _given(names: Sequence[str], given: Mapping[str, float]) -> Float64:
    weights = np.ones(len(names))
    named: dict[int, str] = {}
    for name, weight in given.items():
        label = _label(name, names)
        if label is None:
            raise UserError(
                f"class_weight names {listed([name], 60)}, which is no class; expected a name or "
                f"its label, from 0: {listed(names)}."
            )
        if label in named:
            raise UserError(
                f"class_weight names one class twice, as {listed([named[label]], 60)} and as "
                f"{listed([name], 60)}; remove one of them."
            )
        named[label] = name
        weights[label] = weight
    return weights


def _label(name: str, names: Sequence[str]) -> int | None:
    """The class of that name; else, if it is a number, of that label."""
    if name in names:
        return list(names).index(name)
    label = int(name) if name.isascii() and name.isdecimal() else len(names)
    return label if label < len(names) else None


def weighted(examples: Examples, names: Sequence[str], given: ClassWeight) -> Examples:
    """The examples, the weight of each multiplied by that of its class.

    Raises:
        UserError: as for `class_weights`.
    """
    if given is None:
        return examples
    counts = np.bincount(examples.labels, minlength=examples.classes)
    weights = class_weights(counts, names, given)[examples.labels]
    if examples.weights is not None:
        weights = weights * examples.weights
    return replace(examples, weights=weights.astype(np.float32))
