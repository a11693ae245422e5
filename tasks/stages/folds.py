"""Assign the training and validation images to folds."""

from __future__ import annotations

import numpy as np

from tasks.core.array_types import Int64
from tasks.core.data.fold_assignment import assign_folds
from tasks.core.names import (
    DUPLICATES,
    FOLDS,
    SPLIT,
    TRAIN,
    TRAINING_PAIRS,
    TRAINING_SPLITS,
    VALIDATION,
)
from tasks.core.seeds import generator
from tasks.core.stage_specs import FoldsSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import FOLD_OF_IMAGE
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task


@stage_task(FoldsSpec)
def folds(spec: FoldsSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the fold of each image: training images first, then validation images, in order.

    Images that the guard found to be similar, and images of a group, get the same fold.
    """
    splits = [inputs.by_rows(SPLIT, name) for name in TRAINING_SPLITS]
    parts = [split["labels"][:] for split in splits]
    labels = np.concatenate(parts)
    offsets = {TRAIN: 0, VALIDATION: len(parts[0])}
    pairs = inputs.table(DUPLICATES, TRAINING_PAIRS).to_pylist()
    alike = (
        np.array([offsets[row["split"]] + row["position"] for row in pairs], np.int64),
        np.array([offsets[row["other_split"]] + row["other_position"] for row in pairs], np.int64),
    )
    if "groups" in splits[0]:
        groups = np.concatenate([split["groups"][:] for split in splits])
        alike = _with_groups(alike, groups)
    rng = generator(spec.seed, "folds", spec.replicate)
    found = assign_folds(labels, alike, spec.folds, rng, inputs.facts(SPLIT)["class_names"])
    outputs.table(FOLDS, from_columns(FOLD_OF_IMAGE, {"fold": found, "label": labels}))
    return {"sizes": np.bincount(found)[1:].tolist()}


def _with_groups(alike: tuple[Int64, Int64], groups: Int64) -> tuple[Int64, Int64]:
    """Add pairs that connect all images `(n,)` of each group; -1 is no group."""
    members = np.argsort(groups, kind="stable")
    members = members[groups[members] >= 0]
    same = groups[members[1:]] == groups[members[:-1]]
    first, second = members[:-1][same], members[1:][same]
    return np.concatenate([alike[0], first]), np.concatenate([alike[1], second])
