"""Networks of `keras.applications`, from random weights, for images of any size."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed
from tasks.core.settings.network import NetworkSettings

Shape = tuple[int, int, int]

# The smallest side that an architecture takes; the others take 32.
_SMALLEST = {"InceptionV3": 75, "Xception": 71}
_SMALLEST_OF_OTHERS = 32
_GIVEN = {
    "weights", "classes", "input_shape", "input_tensor", "include_top", "classifier_activation",
    "pooling", "name", "include_preprocessing", "classifier_weights",
}  # fmt: skip


def application(settings: NetworkSettings, shape: Shape, classes: int) -> keras.Model:
    """A model from images `(n, h, w, c)` in [0, 1] to logits `(n, classes)`.

    Images smaller than the architecture takes are enlarged by a whole factor, then framed with
    black. Pixels are scaled to the range for which the architecture was made: [-1, 1], or [0, 255]
    where it begins with a layer that scales them. Grey images keep their one channel.

    Raises:
        UserError: an option is unknown or wrong.
    """
    assert settings.application is not None
    make = getattr(keras.applications, settings.application)
    known = inspect.signature(make).parameters
    unknown = sorted(set(settings.options) - (set(known) - _GIVEN))
    if unknown:
        takes = sorted(set(known) - _GIVEN)
        raise UserError(
            f"network.options: {settings.application} has no option {listed(unknown)}; expected "
            f"{listed(takes) if takes else 'none'}."
        )
    more: dict[str, Any] = dict(settings.options)
    if "include_preprocessing" in known:
        more["include_preprocessing"] = False
    inputs = keras.Input(shape, name="image")
    smallest = _SMALLEST.get(settings.application, _SMALLEST_OF_OTHERS)
    x = _enlarged(inputs, smallest)
    own_scale = settings.application.startswith("EfficientNetB")
    scale, offset = (255.0, 0.0) if own_scale else (2.0, -1.0)
    x = keras.layers.Rescaling(scale, offset=offset, name="scaled")(x)
    try:
        made = make(
            weights=None,
            classes=classes,
            input_shape=tuple(x.shape[1:]),
            input_tensor=x,
            classifier_activation=None,
            **more,
        )
    except Exception as error:
        raise UserError(
            f"network.application: {settings.application} can't be built with these options "
            f"({first_line(error, 200)}); correct network.options."
        ) from None
    return keras.Model(inputs, made.outputs[0])


def _enlarged(x: keras.KerasTensor, smallest: int) -> keras.KerasTensor:
    """Images of at least `smallest` pixels each way."""
    height, width = x.shape[1:3]
    factor = max(1, min(smallest // height, smallest // width))
    if factor > 1:
        x = keras.layers.UpSampling2D(factor, name="enlarged")(x)
    missing = [max(0, smallest - factor * side) for side in (height, width)]
    if any(missing):
        frame = tuple((number // 2, number - number // 2) for number in missing)
        x = keras.layers.ZeroPadding2D(frame, name="framed")(x)
    return x
