"""Networks as in the notebook, built from settings: convolutions, then dense layers."""

from __future__ import annotations

import keras

from tasks.core.networks.precision import output_precision
from tasks.core.seeds import layer_seed
from tasks.core.settings.training import TrainSettings


def build_network(
    settings: TrainSettings, input_shape: tuple[int, int, int], classes: int, seed: int
) -> keras.Model:
    """Build an uncompiled network from `(n, h, w, c)` in [0, 1] to `(n, classes)` probabilities.

    Where the images are too small for a kernel or for pooling, the kernel is made smaller or the
    pooling is left out.

    Initial weights (Glorot uniform, Keras's default) and dropout depend on `seed` and the layer's
    name, so layers of the same name and shape start with the same weights in two networks.
    """
    inputs = keras.Input(input_shape, name="image")
    x = inputs
    for number in range(1, len(settings.filters) + 1):
        x = _convolution(x, number, settings, seed)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate(settings.dense, start=1):
        name = f"dense_{number}"
        penalty = keras.regularizers.L2(settings.l2) if settings.l2 else None
        x = keras.layers.Dense(
            units,
            activation="relu",
            kernel_regularizer=penalty,
            kernel_initializer=glorot(seed, name),
            name=name,
        )(x)
        if settings.dropout:
            name = f"dropout_{number}"
            x = keras.layers.Dropout(settings.dropout, seed=layer_seed(seed, name), name=name)(x)
    outputs = keras.layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer=glorot(seed, "probabilities"),
        dtype=output_precision(),
        name="probabilities",
    )(x)
    return keras.Model(inputs, outputs, name="network")


def _convolution(
    x: keras.KerasTensor, number: int, settings: TrainSettings, seed: int
) -> keras.KerasTensor:
    name = f"conv_{number}"
    side = min(settings.kernel_sizes[number - 1], *x.shape[1:3])
    x = keras.layers.Conv2D(
        settings.filters[number - 1],
        side,
        padding=settings.padding,
        activation="relu",
        kernel_initializer=glorot(seed, name),
        name=name,
    )(x)
    if settings.batch_norm:
        x = keras.layers.BatchNormalization(name=f"norm_{number}")(x)
    if settings.pooled[number - 1] and min(x.shape[1:3]) > 1:
        x = keras.layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    return x


def glorot(seed: int, layer: str) -> keras.Initializer:
    """Glorot and Bengio's uniform initialisation, seeded for one layer."""
    return keras.initializers.GlorotUniform(seed=layer_seed(seed, layer))
