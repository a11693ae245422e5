"""Push images through frozen layers of VGG16 once, instead of once an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.stage import Facts, Inputs, Outputs, stage_task

# As many as the notebook shows before and after the transformation.
SAMPLES = 3


@stage_task()
def vgg16_features(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the outputs of a layer for training and validation images, labels beside them."""
    from tasks.core import vgg16

    base = vgg16.build_base(settings["side"])
    vgg16.set_weights(base, inputs.arrays("weights", "weights"))
    shape: tuple[int, ...] = ()
    for name in ("train", "validation"):
        split = inputs.arrays("source", name)
        x = split["x"]
        if settings["after"] is None:
            x = vgg16.as_vgg16_input(x, settings["side"])
            if name == "train":
                outputs.arrays("input_samples", before=split["x"][:SAMPLES], after=x[:SAMPLES])
        found = vgg16.features(base, x, settings["after"], settings["up_to"])
        outputs.arrays(name, x=found, y=split["y"])
        shape = found.shape[1:]
    return {"feature_shape": list(shape), "up_to": settings["up_to"]}
