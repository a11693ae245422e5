"""Get a pre-trained network, the backbone of transfer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.array_types import UInt8
from tasks.core.data.image_digests import SIZE, image_digests
from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.core.names import EARLIER, EARLIER_BACKBONE, EARLIER_SPLIT, MODEL, SEEN, USAGE
from tasks.core.settings.backbone import PixelScale
from tasks.core.transfer_specs import BackboneSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import RAW, SCALED, VGG16
from tasks.sources.imagenet_weights import imagenet_file

if TYPE_CHECKING:
    import keras


# The range of pixels by the way in which they became a model's input.
_PIXELS: dict[str, PixelScale] = {SCALED: "unit", RAW: "raw", VGG16: "caffe"}


@stage_task(BackboneSpec)
def backbone(spec: BackboneSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store a pre-trained network, cut at its last layer that is used.

    The facts say after which layer fine-tuning trains, and which pixels the network takes. Of a
    model of an earlier run, digests of the images that it was trained on are stored, too.
    """
    from tasks.core.networks.backbones import as_backbone, tuned_after
    from tasks.models.model_files import save_keras

    files = (inputs.path(EARLIER, MODEL),) if spec.source == "run" else inputs.external
    what = spec.application or files[0].name
    found = as_backbone(_network(spec, files), spec.cut, what)
    outputs.file(MODEL, "keras", lambda path: save_keras(found, path))
    pixels = spec.pixels
    if spec.source == "run":
        usage = json.loads(inputs.content(EARLIER, USAGE))
        pixels = pixels or _PIXELS[usage["input"]["method"]]
        outputs.arrays(SEEN, digests=_seen(spec, inputs))
    return {
        "source": spec.source,
        "pixels": pixels,
        "tuned_after": tuned_after(found, spec.tuned_after),
        "input_shape": list(found.input_shape[1:]),
        "feature_shape": list(found.output_shape[1:]),
        "params": found.count_params(),
    }


def _network(spec: BackboneSpec, files: tuple[Path, ...]) -> keras.Model:
    from tasks.core.networks.backbones import application
    from tasks.models.backbone_weights import load_weights

    if spec.application is None:
        return _model_in(files[0])
    model = application(spec.application, spec.side, spec.seed or 0)
    if spec.source != "random":
        path = files[0] if files else imagenet_file(spec.application)
        load_weights(model, spec.application, path)
    return model


def _seen(spec: BackboneSpec, inputs: Inputs) -> UInt8:
    """`(n, SIZE)` digests of the images that a model of an earlier run was trained on."""
    found = []
    for name in spec.trained_on:
        if name == SEEN:
            found.append(inputs.arrays(EARLIER_BACKBONE, SEEN)["digests"])
        else:
            images = inputs.by_rows(EARLIER_SPLIT, name)["images"]
            found.append(image_digests(images).view(np.uint8).reshape(-1, SIZE))
    seen: UInt8 = np.unique(np.concatenate(found), axis=0)
    return seen


def _model_in(path: Path) -> keras.Model:
    from tasks.models.model_files import load_keras

    try:
        return load_keras(path)
    except Exception as error:
        # Keras raises many kinds of errors for files that are not models.
        raise UserError(
            f"transfer.backbone.name: Keras cannot load {path} ({first_line(error, 200)}); name a "
            "complete model without custom layers."
        ) from None
