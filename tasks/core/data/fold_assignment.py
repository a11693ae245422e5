"""Stratified folds: every image is held out once, and every fold has each class in its share."""

from __future__ import annotations

import numpy as np

from tasks.core.data.labelled import Int64, UInt8
from tasks.core.errors import UserError


def assigned_folds(
    labels: UInt8, alike: tuple[Int64, Int64], folds: int, rng: np.random.Generator
) -> Int64:
    """The fold, from 1 to `folds`, in which each image is held out.

    Each class's images, shuffled, are dealt to the folds in turn, one class after the other, so
    that folds and the classes in them differ by one image at most. Then images that are alike join
    the first of them, whatever that does to the sizes: what is held out must not be among what is
    learned from.

    Args:
        labels: `(n,)` class indices.
        alike: positions of the first and of the second image of each pair that is alike.
        folds: how many.
        rng: what the deal is drawn from.

    Raises:
        UserError: a class has fewer images than there are folds, or too many images are alike.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        rarest = classes[counts.argmin()]
        raise UserError(
            f"evaluation.folds is {folds}, but class {rarest} has only {counts.min()} training and "
            "validation images; take fewer folds or more images."
        )
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    order = rng.permutation(len(labels))
    dealt = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), np.int64)
    found[dealt] = np.arange(len(labels)) % folds + 1
    graph = coo_array((np.ones(len(alike[0])), alike), shape=(len(labels), len(labels)))
    _, group = connected_components(graph, directed=False)
    _, leader = np.unique(group, return_index=True)
    found = found[leader[group]]
    _check(found, labels, folds)
    return found


def _check(found: Int64, labels: UInt8, folds: int) -> None:
    """Refuse folds that look-alikes left empty, or without a class to learn from."""
    for fold in range(1, folds + 1):
        held_out = found == fold
        if not held_out.any() or len(np.unique(labels[~held_out])) < len(np.unique(labels)):
            raise UserError(
                f"evaluation.folds is {folds}, but so many images are alike, and so kept together, "
                f"that fold {fold} is empty or leaves nothing of a class to learn from; take fewer "
                "folds, or raise guard.similarity."
            )
