"""Set the weights of a network of `keras.applications` from a file."""

from __future__ import annotations

from pathlib import Path

import keras

from tasks.core.errors import UserError
from tasks.core.messages import first_line


def load_weights(model: keras.Model, name: str, path: Path) -> None:
    """Set the weights of an application from a file of Keras's.

    Raises:
        UserError: these are not weights of this network without top.
    """
    try:
        model.load_weights(path)
    except Exception as error:
        raise UserError(
            f"{path}: these are not weights of {name} without top ({first_line(error, 120)}); name "
            "a file with them (transfer.backbone.weights_file)."
        ) from None
    if name.startswith("EfficientNetB"):
        _square_variances(model)


def _square_variances(model: keras.Model) -> None:
    """Let EfficientNet's first layer divide by ImageNet's variance, as it was trained.

    The published weights hold the standard deviation where Keras expects the variance, and divide
    by its root only. Keras adds a layer for the rest to networks with ImageNet's weights
    (`keras.applications.efficientnet`); here the layer itself gets what makes it equal.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_variance.assign(layer.adapt_variance**2)
            layer.finalize_state()
