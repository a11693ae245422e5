"""Prepare the splits for networks: scaled images, one-hot labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.data.labelled_images import Split
from tasks.core.data.preprocessing import background_brightness, prepared
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task


@stage_task()
def preprocess(_settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Scale images to float32 in [0, 1] and encode labels one-hot, a file a split."""
    facts = inputs.facts("split")
    classes = len(facts["class_names"])
    for name in ("train", "validation", "test"):
        split = Split(**inputs.arrays("split", name))
        outputs.arrays(name, **prepared(split, classes))
        if name == "train":
            found = {
                "image_shape": list(split.images.shape[1:]),
                "ground": background_brightness(split.images),
            }
    return {name: facts[name] for name in ("dataset", "class_names")} | found
