"""Today's families of networks: a whitened first layer, blocks of convolutions, global pooling.

`compact` follows Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv 2404.00498):
convolutions without bias, pooling before normalisation, scaled logits. `residual` has blocks with
identity shortcuts in which normalisation and activation come first (He et al., "Identity mappings
in deep residual networks", 2016).

A network is built once, as it is trained; `predicting` adds what it does when it predicts.
Networks of a user's function and of `keras.applications` go the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from tasks.core.array_types import Int64
from tasks.core.networks.applications import application
from tasks.core.networks.own import own_network
from tasks.core.networks.precision import output_precision
from tasks.core.networks.stack import build_network as build_stack
from tasks.core.networks.stack import glorot
from tasks.core.seeds import layer_seed
from tasks.core.settings.network import NetworkSettings
from tasks.core.settings.training import TrainSettings
from tasks.core.training.variation import reflected

WHITENING = "whitening"
# The network inside one that averages its logits of several views.
VIEW_LOGITS = "view_logits"
# The side of a whitened patch, in pixels.
PATCH = 3
_GROUP = 8
# Batch normalisation follows the last ten batches or so: short trainings have few.
_MOMENTUM = 0.8

Shape = tuple[int, int, int]


def build_network(
    settings: TrainSettings,
    shape: Shape,
    classes: int,
    seed: int,
    function: Callable[..., Any] | None = None,
) -> keras.Model:
    """Build an uncompiled network from `(n, h, w, c)` in [0, 1] to `(n, classes)` probabilities.

    Initial weights, dropout and stochastic depth depend on `seed` and the layer's name. Where
    images become too small for pooling, it is left out. A whitened first layer is not whitened yet,
    see `tasks.core.networks.whitening`. `function` builds the network of family `function`.
    """
    network = settings.network
    if network.family == "stack":
        return build_stack(settings, shape, classes, seed)
    if network.family == "application":
        make = partial(application, network, shape, classes)
        return own_network(make, shape, classes, seed, str(network.application), twice=False)
    if network.family == "function":
        assert function is not None, "the stage has the code of its network"
        make = partial(function, shape, classes, **network.options)
        what = str(network.function).rpartition(":")[2]
        return own_network(make, shape, classes, seed, what, twice=True)
    return _Builder(network, seed).build(shape, classes)


def predicting(network: keras.Model, settings: NetworkSettings) -> keras.Model:
    """The network that predicts, with the same weights.

    With one view it is the network itself. Otherwise it takes a mean of the logits of all views of
    an image, and softmax comes last, so its output can be used in the same way. Crops weigh half as
    much as the image, as in airbench (Jordan, arXiv 2404.00498, section 3.5).
    """
    if settings.views == "one":
        return network
    logits = keras.Model(network.input, network.layers[-2].output, name=VIEW_LOGITS)
    inputs = keras.Input(network.input_shape[1:], name="image")
    mirror = _moved(network, "mirrored", 2, np.arange(inputs.shape[2])[::-1])

    def both_ways(x: keras.KerasTensor) -> list[keras.KerasTensor]:
        return [logits(x), logits(mirror(x))]

    mean = keras.layers.Average(name="mean_logits")(both_ways(inputs))
    if settings.views == "crops":
        crops = []
        for name, pixels in (("down_right", 1), ("up_left", -1)):
            x = inputs
            for axis, side in enumerate(inputs.shape[1:3], start=1):
                x = _moved(network, f"{name}_{axis}", axis, _shifted(side, pixels))(x)
            crops += both_ways(x)
        crop_mean = keras.layers.Average(name="mean_crop_logits")(crops)
        mean = keras.layers.Average(name="mean_view_logits")([mean, crop_mean])
    return keras.Model(inputs, _probabilities(mean), name="network")


def _shifted(side: int, pixels: int) -> Int64:
    """Where the pixels of a row come from if they move on by so many pixels."""
    return reflected(np.arange(side) - pixels, side)


def _moved(network: keras.Model, name: str, axis: int, places: Int64) -> keras.layers.Layer:
    """A layer that takes rows (`axis` 1) or columns (2) of `(n, h, w, c)` from other places.

    It multiplies by a matrix of zeros and ones: HDF5 files can hold no operations but layers. It
    has a name because Keras would number it by what the process built before.
    """
    equation = "nhwc,hv->nvwc" if axis == 1 else "nhwc,wv->nhvc"
    shape = network.input_shape[1:]
    layer = keras.layers.EinsumDense(equation, shape, trainable=False, name=name)
    layer.build((None, *shape))
    layer.set_weights([np.eye(len(places), dtype=np.float32)[:, places]])
    return layer


def _probabilities(logits: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.Activation("softmax", dtype=output_precision(), name="probabilities")(
        logits
    )


class _Builder:
    """Adds layers one by one; their names number them."""

    def __init__(self, settings: NetworkSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed

    def build(self, shape: Shape, classes: int) -> keras.Model:
        """Build the network."""
        settings = self._settings
        inputs = keras.Input(shape, name="image")
        x = self._stem(inputs)
        groups = self._compact if settings.family == "compact" else self._residual
        x = groups(x)
        pool = {
            "max": keras.layers.GlobalMaxPooling2D,
            "average": keras.layers.GlobalAveragePooling2D,
        }
        x = pool[settings.pooling](name="global_pool")(x)
        if settings.dropout:
            seed = layer_seed(self._seed, "dropout")
            x = keras.layers.Dropout(settings.dropout, seed=seed, name="dropout")(x)
        x = keras.layers.Dense(
            classes, use_bias=False, kernel_initializer=glorot(self._seed, "logits"), name="logits"
        )(x)
        x = keras.layers.Rescaling(settings.logit_scale, name="scaled_logits")(x)
        return keras.Model(inputs, _probabilities(x), name="network")

    def _stem(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The first layer: whitening, or a convolution that is trained."""
        if not self._settings.whitening:
            x = self._convolution(x, self._settings.widths[0], "stem")
            return self._activation(self._normalised(x, "stem_norm"), "stem_activation")
        side = min(PATCH, *x.shape[1:3])
        x = keras.layers.Conv2D(
            2 * side**2 * x.shape[-1],
            side,
            # The mean is subtracted by the bias, so padding with zeros would not be neutral.
            padding="valid",
            trainable=False,
            kernel_initializer=glorot(self._seed, WHITENING),
            name=WHITENING,
        )(x)
        return self._activation(x, f"{WHITENING}_activation")

    def _compact(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Groups of convolutions; pooling follows the first one of each group."""
        for number, width in enumerate(self._settings.widths, start=1):
            for place in range(self._settings.depth + 1):
                name = f"{number}_{place + 1}"
                x = self._convolution(x, width, f"conv_{name}")
                if place == 0:
                    x = _halved(x, f"pool_{number}")
                x = self._activation(self._normalised(x, f"norm_{name}"), f"activation_{name}")
        return x

    def _residual(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Groups of residual blocks; the first block of each group but the first halves both sides.

        The sum of all blocks is normalised at the end.
        """
        settings = self._settings
        count, total = 0, len(settings.widths) * settings.depth
        for number, width in enumerate(settings.widths, start=1):
            if number > 1:
                x = _halved(x, f"pool_{number}")
            for place in range(1, settings.depth + 1):
                count += 1
                left_out = settings.stochastic_depth * count / total
                x = self._block(x, width, f"{number}_{place}", left_out)
        return self._activation(self._normalised(x, "last_norm"), "last_activation")

    def _block(
        self, x: keras.KerasTensor, width: int, name: str, left_out: float
    ) -> keras.KerasTensor:
        found = self._activation(self._normalised(x, f"norm_{name}_1"), f"activation_{name}_1")
        if x.shape[-1] != width:
            # A projection, which sees the same normalised input.
            x = self._convolution(found, width, f"shortcut_{name}", 1)
        found = self._convolution(found, width, f"conv_{name}_1")
        found = self._activation(self._normalised(found, f"norm_{name}_2"), f"activation_{name}_2")
        found = self._convolution(found, width, f"conv_{name}_2")
        if left_out:
            # One decision for each image.
            found = keras.layers.Dropout(
                left_out,
                noise_shape=(None, 1, 1, 1),
                seed=layer_seed(self._seed, f"left_out_{name}"),
                name=f"left_out_{name}",
            )(found)
        return keras.layers.Add(name=f"sum_{name}")([x, found])

    def _convolution(
        self, x: keras.KerasTensor, width: int, name: str, side: int = 3
    ) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            width,
            side,
            padding="same",
            # Normalisation has an offset of its own.
            use_bias=self._settings.normalisation == "none",
            kernel_initializer=keras.initializers.HeNormal(seed=layer_seed(self._seed, name)),
            name=name,
        )(x)

    def _normalised(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if self._settings.normalisation == "batch":
            return keras.layers.BatchNormalization(momentum=_MOMENTUM, name=name)(x)
        if self._settings.normalisation == "group":
            channels = x.shape[-1]
            groups = channels // _GROUP if channels % _GROUP == 0 else 1
            return keras.layers.GroupNormalization(groups, name=name)(x)
        return x

    def _activation(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.Activation(self._settings.activation, name=name)(x)


def _halved(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.MaxPooling2D(2, name=name)(x) if min(x.shape[1:3]) > 1 else x
