"""Push images through frozen layers of VGG16 once, instead of once an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import about_images
from tasks.storage.npz import Rows

# As many as the notebook shows before and after the transformation.
SAMPLES = 3


@stage_task()
def vgg16_features(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the outputs of a layer for training and validation images, labels beside them.

    The source is read, pushed through and written in batches, so that memory does not grow with
    the number of images.
    """
    from tasks.core.networks import vgg16

    side, after, up_to = (settings[name] for name in ("side", "after", "up_to"))
    base = vgg16.build_base(side, up_to)
    vgg16.set_weights(base, inputs.arrays("weights", "weights"))
    part = vgg16.section(base, after, up_to)
    size = vgg16.batch_size(side)
    for name in ("train", "validation"):
        with (
            inputs.rows("source", name, "x", size) as source,
            inputs.rows("source", name, "y", size) as labels,
        ):
            given: Iterable[np.ndarray] = source.batches
            if after is None:
                given = (vgg16.as_vgg16_input(x, side, settings["preprocessing"]) for x in given)
            found = Rows(
                (source.shape[0], *part.output_shape[1:]),
                np.dtype(np.float32),
                vgg16.features(part, given),
            )
            outputs.arrays(name, x=found, y=labels)
    if after is None:
        with inputs.rows("source", "train", "x", SAMPLES) as source:
            before = next(iter(source.batches))
        seen = vgg16.as_vgg16_input(before, side, settings["preprocessing"])
        outputs.arrays("input_samples", before=before, after=seen)
    return about_images(inputs.facts("source")) | {
        "up_to": up_to,
        "feature_shape": list(part.output_shape[1:]),
    }
