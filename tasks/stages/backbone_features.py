"""Compute the outputs of a backbone's frozen layers once, instead of in every epoch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tasks.core.data.preprocessing import scaled
from tasks.core.data.rows import blocks
from tasks.core.names import BACKBONE, MODEL, SOURCE, TRAINING_SPLITS
from tasks.core.transfer_specs import BackboneFeaturesSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import about_images
from tasks.storage.npz import Rows


@stage_task(BackboneFeaturesSpec)
def backbone_features(spec: BackboneFeaturesSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the outputs for training and validation images, with labels and weights.

    Images are read, converted and written in batches, so memory does not grow with their number.
    """
    from tasks.core.networks import backbones
    from tasks.models.model_files import load_keras

    network = load_keras(inputs.path(BACKBONE, MODEL))
    about = about_images(inputs.facts(SOURCE))
    cut = inputs.facts(BACKBONE)["tuned_after"]
    if spec.rest:
        part = backbones.part(network, cut, None)
    else:
        height, width, channels = about["image_shape"]
        pixels = inputs.facts(BACKBONE)["pixels"]
        part = backbones.frozen_part(network, (height, width, channels), pixels, cut)
    size = backbones.batch_size(network)
    for name in TRAINING_SPLITS:
        arrays = inputs.by_rows(SOURCE, name)
        source = arrays.pop("x")
        given: Iterable[np.ndarray] = blocks(source, size)
        if not spec.rest:
            given = (scaled(images) for images in given)
        x = Rows(
            (len(source), *part.output_shape[1:]),
            np.dtype(np.float32),
            backbones.outputs(part, given),
        )
        others = {key: array[:] for key, array in arrays.items()}
        outputs.arrays(name, x=x, **others)
    return about | {"feature_shape": list(part.output_shape[1:])}
