"""Compute the outputs of VGG16's frozen layers once, instead of in every epoch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tasks.core.data.preprocessing import scaled
from tasks.core.data.rows import blocks
from tasks.core.names import INPUT_SAMPLES, SOURCE, TRAIN, TRAINING_SPLITS, WEIGHTS
from tasks.core.stage_specs import Vgg16FeaturesSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import about_images
from tasks.storage.npz import Rows

# The notebook shows three images before and after the transformation.
SAMPLES = 3


@stage_task(Vgg16FeaturesSpec)
def vgg16_features(spec: Vgg16FeaturesSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the outputs of a layer for training and validation images, with labels and weights.

    Images are read, transformed and written in batches, so memory does not grow with their
    number.
    """
    from tasks.core.networks import vgg16

    base = vgg16.build_base(spec.side, spec.up_to)
    vgg16.set_weights(base, inputs.arrays(WEIGHTS, WEIGHTS))
    part = vgg16.section(base, spec.after, spec.up_to, frozen=True)
    size = vgg16.batch_size(spec.side)

    def as_input(x: np.ndarray) -> np.ndarray:
        assert spec.preprocessing is not None, "a stage that reads images preprocesses them"
        return vgg16.as_vgg16_input(x, spec.side, spec.preprocessing)

    for name in TRAINING_SPLITS:
        arrays = inputs.by_rows(SOURCE, name)
        source = arrays.pop("x")
        if name == TRAIN and spec.after is None:
            before = scaled(source[:SAMPLES])
            outputs.arrays(INPUT_SAMPLES, before=before, after=as_input(before))
        given: Iterable[np.ndarray] = blocks(source, size)
        if spec.after is None:
            given = (as_input(scaled(images)) for images in given)
        x = Rows(
            (len(source), *part.output_shape[1:]),
            np.dtype(np.float32),
            vgg16.features(part, given),
        )
        others = {key: array[:] for key, array in arrays.items()}
        outputs.arrays(name, x=x, **others)
    return about_images(inputs.facts(SOURCE)) | {
        "up_to": spec.up_to,
        "feature_shape": list(part.output_shape[1:]),
    }
