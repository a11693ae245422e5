"""Get a pre-trained network, the backbone of transfer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.core.names import MODEL
from tasks.core.transfer_specs import BackboneSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.sources.imagenet_weights import imagenet_file

if TYPE_CHECKING:
    import keras


@stage_task(BackboneSpec)
def backbone(spec: BackboneSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store a network of `keras.applications` or from a file, cut at its last layer that is used.

    The facts say after which layer fine-tuning trains.
    """
    from tasks.core.networks.backbones import as_backbone, tuned_after
    from tasks.models.model_files import save_keras

    what = spec.application or inputs.external[0].name
    found = as_backbone(_network(spec, inputs.external), spec.cut, what)
    outputs.file(MODEL, "keras", lambda path: save_keras(found, path))
    return {
        "source": spec.source,
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
