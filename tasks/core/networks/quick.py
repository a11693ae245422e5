"""Networks in the form that trains fastest: the same function of the same weights.

TensorFlow computes and differentiates some of Keras's layers on processors at a fraction of the
speed at which it does others that come to the same. What is saved has Keras's own layers; what
trains has these, on the same variables. Finite numbers differ by the order of sums at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product, zip_longest

import keras


def quickest(network: keras.Model) -> keras.Model:
    """A network whose layers follow one another in its quickest form, weights shared."""
    return keras.Model(network.input, through(network.layers[1:], network.input))


def through(layers: Sequence[keras.layers.Layer], x: keras.KerasTensor) -> keras.KerasTensor:
    """`x` behind layers that follow one another, each in its quickest form."""
    pooled = None
    for layer, following in zip_longest(layers, layers[1:]):
        if layer is pooled:
            continue
        if Convolution.suits(layer):
            relu = layer.activation is keras.activations.relu
            pooled = (
                following if relu and isinstance(following, keras.layers.MaxPooling2D) else None
            )
            form = ConvolutionOf2x2 if ConvolutionOf2x2.suits_input(layer, x) else Convolution
            x = form(layer, pooled)(x)
        else:
            x = layer(x)
    return x


class Convolution(keras.layers.Layer):  # type: ignore[misc]
    """A convolution, and the max pooling that follows it, on the weights of the convolution.

    Adding a bias and ReLU never turn the order of two values, so the largest of what they make is
    what they make of the largest: behind the pooling they and their gradients have a fraction of
    the pixels to do. (Where two values become equal by rounding, the gradient goes to the larger.)

    Where nothing is pooled, oneDNN, TensorFlow's library on processors, makes one operation of the
    gradients of kernel and bias, which takes several times as long as the two apart. It does so
    where the bias is added in TensorFlow's own way, `BiasAdd`, which Keras chooses for `outputs +
    bias` and not for `bias + outputs`.
    """

    def __init__(
        self, convolution: keras.layers.Conv2D, pooling: keras.layers.MaxPooling2D | None = None
    ) -> None:
        """Share the weights of a convolution that is built; `pooling` only where it has ReLU."""
        super().__init__(name=f"{convolution.name}_quick", dtype=convolution.dtype_policy)
        self.convolution = convolution
        self.pooling = pooling
        self.built = True

    @staticmethod
    def suits(layer: keras.layers.Layer) -> bool:
        """Whether the layer is a convolution as the networks here have them, with a bias."""
        return (
            isinstance(layer, keras.layers.Conv2D)
            and layer.use_bias
            and layer.strides == layer.dilation_rate == (1, 1)
            and (layer.groups, layer.data_format) == (1, "channels_last")
            and layer.activity_regularizer is None
        )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """`(n, h, w, channels)` to what the layers make of it."""
        found = self.convolved(x)
        if self.pooling:
            found = self.pooling(found)
        return self.convolution.activation(keras.ops.add(self.convolution.bias, found))

    def convolved(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The convolution without its bias."""
        return self.convolution.convolution_op(x, self.convolution.kernel)


class ConvolutionOf2x2(Convolution):
    """A padded 3 x 3 convolution of `(n, 2, 2, channels)` as nine matrix products.

    Each place of the kernel ties some of the four inputs to as many of the four outputs: the middle
    each to its own, a corner one to its opposite. Without the products of padding these are 16
    pairs, not 36, and TensorFlow multiplies matrices at several times the speed of convolving maps
    this small.
    """

    # For each place of the kernel, row by row, which input it ties to which output.
    PAIRS = tuple(
        tuple(
            (i, o)
            for i, o in product(range(4), repeat=2)
            if (i // 2 - o // 2, i % 2 - o % 2) == (down, right)
        )
        for down, right in product((-1, 0, 1), repeat=2)
    )

    @staticmethod
    def suits_input(convolution: keras.layers.Conv2D, x: keras.KerasTensor) -> bool:
        """Whether a convolution of this input is of this kind."""
        kind = (x.shape[1:3], convolution.kernel_size, convolution.padding)
        return kind == ((2, 2), (3, 3), "same")

    def convolved(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The convolution without its bias, `(n, 2, 2, filters)`."""
        kernel = self.convolution.kernel
        channels, filters = kernel.shape[2:]
        inputs = keras.ops.unstack(keras.ops.reshape(x, (-1, 4, channels)), 4, axis=1)
        # Parted at once: the gradient of an indexing would be summed up entry by entry.
        places = keras.ops.unstack(keras.ops.reshape(kernel, (9, channels, filters)), 9)
        parts: tuple[list[keras.KerasTensor], ...] = ([], [], [], [])
        for place, pairs in zip(places, self.PAIRS, strict=True):
            found = keras.ops.matmul(keras.ops.concatenate([inputs[i] for i, _ in pairs]), place)
            for (_, o), part in zip(pairs, keras.ops.split(found, len(pairs)), strict=True):
                parts[o].append(part)
        sums = [first + second + third + fourth for first, second, third, fourth in parts]
        return keras.ops.reshape(keras.ops.stack(sums, axis=1), (-1, 2, 2, filters))
