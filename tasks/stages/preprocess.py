"""Prepare the splits for networks: scaled images, one-hot labels."""

from __future__ import annotations

from tasks.core.data.labelled_images import Split
from tasks.core.data.preprocessing import background_brightness, prepared
from tasks.core.names import SPLIT, SPLITS, TRAIN
from tasks.core.stage_specs import PreprocessSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task


@stage_task(PreprocessSpec)
def preprocess(_spec: PreprocessSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Scale images to float32 in [0, 1] and encode labels one-hot; store a file for each split."""
    facts = inputs.facts(SPLIT)
    classes = len(facts["class_names"])
    for name in SPLITS:
        split = Split(**inputs.arrays(SPLIT, name))
        outputs.arrays(name, **prepared(split, classes))
        if name == TRAIN:
            found = {
                "image_shape": list(split.images.shape[1:]),
                "ground": background_brightness(split.images),
            }
    return {name: facts[name] for name in ("dataset", "class_names")} | found
