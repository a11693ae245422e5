"""VGG16 without its top as Keras models, cut so that frozen layers need to run only once."""

from __future__ import annotations

import keras
import numpy as np

from tasks.core.data import Float32
from tasks.core.models import glorot
from tasks.core.seeds import layer_seed
from tasks.core.vgg16_layout import BLOCK_5, CHANNELS, Weights

BATCH = 256


def as_vgg16_input(x: Float32, side: int) -> Float32:
    """`(n, h, w, 1 or 3)` in [0, 1] as the notebook's `(n, side, side, 3)` in [0, 255].

    A grey channel is repeated; the resizing is bilinear without anti-aliasing
    (`tf.image.resize`), of the whole pixel values that the scaling came from.
    """
    resized = [
        keras.ops.convert_to_numpy(_resized(x[start : start + BATCH], side))
        for start in range(0, len(x), BATCH)
    ]
    return np.concatenate(resized)


def _resized(x: Float32, side: int) -> keras.KerasTensor:
    pixels = np.rint(x * np.float32(255))
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, CHANNELS, axis=-1)
    return keras.ops.image.resize(pixels, (side, side), interpolation="bilinear")


def build_base(side: int) -> keras.Model:
    """The convolutional base, `(n, side, side, 3)` to `(n, side / 32, side / 32, 512)`.

    Its weights are meaningless until `set_weights` gives it some.
    """
    # Named, because Keras numbers nameless inputs by process, and the name enters model files.
    inputs = keras.Input((side, side, CHANNELS), name="pixels")
    base = keras.applications.VGG16(weights=None, include_top=False, input_tensor=inputs)
    return keras.Model(inputs, base.output, name="vgg16")


def set_weights(base: keras.Model, weights: Weights) -> None:
    """Give the base weights that `check_weights` found to be right."""
    for layer in base.layers:
        for weight in layer.weights:
            weight.assign(weights[f"{layer.name}/{weight.name}"])


def features(base: keras.Model, x: Float32, after: str | None, up_to: str) -> Float32:
    """Outputs of layer `up_to` in inference mode; `x` are images, or outputs of layer `after`."""
    found: Float32 = section(base, after, up_to).predict(x, batch_size=BATCH, verbose=0)
    return found


def section(base: keras.Model, after: str | None, up_to: str) -> keras.Model:
    """The layers behind `after` (from the input where None) up to `up_to`, weights shared."""
    if after is None:
        return keras.Model(base.input, base.get_layer(up_to).output)
    names = [layer.name for layer in base.layers]
    inputs = keras.Input(base.get_layer(after).output.shape[1:])
    x = inputs
    for name in names[names.index(after) + 1 : names.index(up_to) + 1]:
        x = base.get_layer(name)(x)
    return keras.Model(inputs, x)


def build_complete(
    base: keras.Model, dense: int, dropout: float, classes: int, seed: int
) -> keras.Model:
    """The notebook's transfer network: the base, flatten, dense, dropout, softmax."""
    inputs = keras.Input(base.input_shape[1:], name="image")
    x = keras.layers.Flatten(name="flatten")(base(inputs))
    x = keras.layers.Dense(
        dense, activation="relu", kernel_initializer=glorot(seed, "head"), name="head"
    )(x)
    x = keras.layers.Dropout(dropout, seed=layer_seed(seed, "head_dropout"), name="head_dropout")(x)
    outputs = keras.layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer=glorot(seed, "probabilities"),
        name="probabilities",
    )(x)
    return keras.Model(inputs, outputs, name="vgg16_transfer")


def trainable_part(complete: keras.Model, after: str) -> keras.Model:
    """What follows layer `after` of the base: features in, probabilities out, weights shared.

    Training it on the features trains the complete model with everything up to `after` frozen:
    frozen layers have no dropout and no batch statistics, so their outputs never change.
    """
    base = complete.get_layer("vgg16")
    rest = section(base, after, BLOCK_5)
    x = rest.output
    names = [layer.name for layer in complete.layers]
    for name in names[names.index("flatten") :]:
        x = complete.get_layer(name)(x)
    return keras.Model(rest.input, x, name="trainable_part")
