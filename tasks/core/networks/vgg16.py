"""VGG16 without its top as Keras models, cut so that frozen layers need to run only once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from tasks.core.array_types import Float32
from tasks.core.networks.quick import through
from tasks.core.networks.stack import glorot
from tasks.core.networks.vgg16_layout import BLOCK_5, CHANNELS, MEAN_BGR, Weights
from tasks.core.seeds import layer_seed

# Images of 32 x 32 pixels that pass at once; of larger ones as many as have the same pixels.
BATCH = 256


def batch_size(side: int) -> int:
    """How many images of `side` x `side` pixels may pass at once for memory to stay the same."""
    return max(1, BATCH * 32**2 // side**2)


def as_vgg16_input(x: Float32, side: int, preprocessing: str) -> Float32:
    """`(n, h, w, 1 or 3)` in [0, 1] as `(n, side, side, 3)`, what VGG16 is given.

    The whole pixel values that the scaling came from, a grey channel repeated, are resized
    bilinearly as `tf.image.resize` does, with anti-aliasing where an image shrinks. `raw` leaves
    them RGB in [0, 255], as the notebook does; `vgg16` makes them BGR with ImageNet's mean
    subtracted, as `keras.applications.vgg16.preprocess_input` does.
    """
    pixels = np.rint(x * np.float32(255))
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, CHANNELS, axis=-1)
    resized: Float32 = keras.ops.convert_to_numpy(
        keras.ops.image.resize(
            pixels, (side, side), interpolation="bilinear", antialias=max(x.shape[1:3]) > side
        )
    )
    if preprocessing == "raw":
        return resized
    swapped: Float32 = resized[..., ::-1] - np.array(MEAN_BGR, np.float32)
    return swapped


def build_base(side: int, up_to: str = BLOCK_5) -> keras.Model:
    """The convolutional base up to a layer, `(n, side, side, 3)` to that layer's output.

    Up to `block5_pool` that is `(n, side // 32, side // 32, 512)`. Its weights are meaningless
    until `set_weights` gives it some.
    """
    # Named, because Keras numbers nameless inputs by process, and the name enters model files.
    inputs = keras.Input((side, side, CHANNELS), name="pixels")
    base = keras.applications.VGG16(weights=None, include_top=False, input_tensor=inputs)
    return keras.Model(inputs, base.get_layer(up_to).output, name="vgg16")


def set_weights(base: keras.Model, weights: Weights) -> None:
    """Give the base weights that `check_weights` found to be right."""
    for layer in base.layers:
        for weight in layer.weights:
            weight.assign(weights[f"{layer.name}/{weight.name}"])


def features(part: keras.Model, batches: Iterable[Float32]) -> Iterator[Float32]:
    """What a section of the base makes of each batch, in inference mode."""
    for batch in batches:
        yield part.predict_on_batch(batch)


def section(base: keras.Model, after: str | None, up_to: str) -> keras.Model:
    """The layers behind `after` (from the images where None) up to `up_to`, weights shared."""
    names = [layer.name for layer in base.layers]
    first = 0 if after is None else names.index(after)
    inputs = keras.Input(base.layers[first].output.shape[1:])
    layers = base.layers[first + 1 : names.index(up_to) + 1]
    return keras.Model(inputs, through(layers, inputs))


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
    rest = section(base, after, base.layers[-1].name)
    names = [layer.name for layer in complete.layers]
    head = complete.layers[names.index("flatten") :]
    return keras.Model(rest.input, through(head, rest.output), name="trainable_part")
