"""VGG16 without its top as Keras models, cut into parts so frozen layers run only once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from tasks.core.array_types import Float32
from tasks.core.networks.fast_layers import apply_fast
from tasks.core.networks.stack import glorot
from tasks.core.networks.vgg16_layout import BLOCK_5, CHANNELS, MEAN_BGR, Weights
from tasks.core.seeds import layer_seed

# Images of 32 x 32 pixels per batch; batches of larger images have the same number of pixels.
BATCH = 256


def batch_size(side: int) -> int:
    """Images of `side` x `side` pixels per batch; every side takes the same memory."""
    return max(1, BATCH * 32**2 // side**2)


def as_vgg16_input(x: Float32, side: int, preprocessing: str) -> Float32:
    """Turn `(n, h, w, 1 or 3)` in [0, 1] into VGG16's input `(n, side, side, 3)`.

    Values are scaled back to whole numbers in [0, 255], a grey channel is repeated, and images are
    resized bilinearly like `tf.image.resize`, with anti-aliasing if they shrink. `raw` keeps RGB in
    [0, 255], as the notebook does; `vgg16` gives BGR with ImageNet's mean subtracted, like
    `keras.applications.vgg16.preprocess_input`.
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
    """Build the convolutional base, from `(n, side, side, 3)` to the output of a layer.

    Up to `block5_pool` that is `(n, side // 32, side // 32, 512)`. The weights are meaningless
    until `set_weights` sets them.
    """
    # Keras numbers unnamed inputs within a process, and the name is part of model files.
    inputs = keras.Input((side, side, CHANNELS), name="pixels")
    base = keras.applications.VGG16(weights=None, include_top=False, input_tensor=inputs)
    return keras.Model(inputs, base.get_layer(up_to).output, name="vgg16")


def set_weights(base: keras.Model, weights: Weights) -> None:
    """Set the weights of the base; `check_weights` must have accepted them."""
    for layer in base.layers:
        for weight in layer.weights:
            weight.assign(weights[f"{layer.name}/{weight.name}"])


def features(part: keras.Model, batches: Iterable[Float32]) -> Iterator[Float32]:
    """The output of a section of the base for each batch, in inference mode."""
    for batch in batches:
        yield part.predict_on_batch(batch)


def section(
    base: keras.Model, after: str | None, up_to: str, *, frozen: bool = False
) -> keras.Model:
    """The layers after `after` (None: from the input) up to `up_to`; it shares their weights.

    `frozen`: these never change.
    """
    names = [layer.name for layer in base.layers]
    first = 0 if after is None else names.index(after)
    inputs = keras.Input(base.layers[first].output.shape[1:])
    layers = base.layers[first + 1 : names.index(up_to) + 1]
    return keras.Model(inputs, apply_fast(layers, inputs, frozen=frozen))


def build_complete(
    base: keras.Model, dense: int, dropout: float, classes: int, seed: int
) -> keras.Model:
    """Build the notebook's transfer network: the base, flatten, dense, dropout, softmax."""
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
    """The part after layer `after` of the base, from features to probabilities, sharing weights.

    Training it on features is the same as training the complete model with all layers up to `after`
    frozen: these have no dropout and no batch statistics, so their outputs never change.
    """
    base = complete.get_layer("vgg16")
    rest = section(base, after, base.layers[-1].name)
    names = [layer.name for layer in complete.layers]
    head = complete.layers[names.index("flatten") :]
    return keras.Model(rest.input, apply_fast(head, rest.output), name="trainable_part")
