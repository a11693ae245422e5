"""Prepare the splits for networks: images and labels as they are, and how the images look."""

from __future__ import annotations

from typing import Any, Final

from tasks.core.data.background import background_brightness
from tasks.core.data.rows import blocks
from tasks.core.names import SPLIT, SPLITS, TRAIN
from tasks.core.stage_specs import PreprocessSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.storage.npz import Rows

# What the arrays of a split are called from here on; not every data set has weights.
_NAMES: Final = {"images": "x", "labels": "y", "weights": "weights"}


@stage_task(PreprocessSpec)
def preprocess(_spec: PreprocessSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store a file for each split: images `x`, labels `y` and, if there are any, `weights`.

    Images stay uint8: batches are scaled when a network needs them. They are copied by rows, so
    memory does not grow with their number.
    """
    facts = inputs.facts(SPLIT)
    found: dict[str, Any] = {}
    for name in SPLITS:
        split = inputs.by_rows(SPLIT, name)
        arrays = {
            new: Rows(split[old].shape, split[old].dtype, blocks(split[old]))
            for old, new in _NAMES.items()
            if old in split
        }
        outputs.arrays(name, **arrays)
        if name == TRAIN:
            found = {
                "image_shape": list(split["images"].shape[1:]),
                "ground": background_brightness(split["images"]),
            }
    return {name: facts[name] for name in ("dataset", "class_names", "fit", "white")} | found
