"""Stratified folds: every image is held out once, and each class is spread evenly over folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.core.array_types import Int64, Labels
from tasks.core.errors import UserError
from tasks.core.messages import classes_listed


def assign_folds(
    labels: Labels,
    duplicates: tuple[Int64, Int64],
    folds: int,
    rng: np.random.Generator,
    class_names: Sequence[str],
) -> Int64:
    """The fold, from 1 to `folds`, in which each image is held out, `(n,)`.

    The shuffled images of each class are dealt to the folds in turn, one class after the other, so
    the sizes of folds, and of each class in them, differ by at most one image. Then duplicates and
    near duplicates all move to the fold of the first of them, even if the sizes then differ more:
    no held-out image may have a duplicate among the training images.

    Args:
        labels: `(n,)` class indices.
        duplicates: positions of the first and of the second image of each pair of duplicates.
        folds: the number of folds.
        rng: the source of randomness.
        class_names: the names of the classes, for messages.

    Raises:
        UserError: a class has fewer images than there are folds, or there are too many duplicates.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        rarest = classes_listed([classes[counts.argmin()]], class_names)
        raise UserError(
            f"evaluation.folds is {folds}, but {rarest} has only {counts.min()} training and "
            "validation images; use fewer folds or more images."
        )
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    order = rng.permutation(len(labels))
    dealt = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), np.int64)
    found[dealt] = np.arange(len(labels)) % folds + 1
    graph = coo_array((np.ones(len(duplicates[0])), duplicates), shape=(len(labels), len(labels)))
    _, group = connected_components(graph, directed=False)
    _, leader = np.unique(group, return_index=True)
    found = found[leader[group]]
    _check(found, labels, folds)
    return found


def _check(found: Int64, labels: Labels, folds: int) -> None:
    """Refuse an empty fold, and one whose training images lack a class.

    Raises:
        UserError: there is such a fold.
    """
    for fold in range(1, folds + 1):
        held_out = found == fold
        if not held_out.any() or len(np.unique(labels[~held_out])) < len(np.unique(labels)):
            raise UserError(
                f"evaluation.folds is {folds}, but so many images are near duplicates or of "
                f"one group, which share a fold, that fold {fold} is empty or holds out all images "
                "of a class; use fewer folds, or raise guard.similarity."
            )
