"""Networks in the form that trains soonest: the same function of the same weights.

TensorFlow computes and differentiates some of Keras's layers at a fraction of the speed at which it
does others that come to the same. What is saved has Keras's own layers; what trains has these, on
the same variables. Sums may be taken in another order, nothing else differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import keras

_SIDE = 3  # of the kernels of `ConvolutionOf2x2`


def quickest(network: keras.Model) -> keras.Model:
    """A network whose layers follow one another in its quickest form, weights shared."""
    return keras.Model(network.input, through(network.layers[1:], network.input))


def through(layers: Iterable[keras.layers.Layer], x: keras.KerasTensor) -> keras.KerasTensor:
    """`x` behind layers that follow one another, each in its quickest form."""
    left = list(layers)
    while left:
        layer = left.pop(0)
        if isinstance(layer, keras.layers.Conv2D):
            pooled = left and isinstance(left[0], keras.layers.MaxPooling2D)
            earlier = pooled and layer.activation is keras.activations.relu
            form = ConvolutionOf2x2 if ConvolutionOf2x2.suits(layer, x) else Convolution
            x = form(layer, left.pop(0) if earlier else None)(x)
        else:
            x = layer(x)
    return x


class Convolution(keras.layers.Layer):  # type: ignore[misc]
    """A convolution, and the max pooling that follows it, on the weights of the convolution.

    TensorFlow makes one operation of the gradients of a convolution's kernel and bias, which on
    processors takes several times as long as the two apart. It does so where the bias is added in
    its own way, `BiasAdd`, which Keras chooses for `outputs + bias` and not for `bias + outputs`.

    ReLU rises, so the largest of its values is its value of the largest, and the gradient passes
    through the same pixel: behind the pooling it has a quarter of the pixels to do.
    """

    def __init__(
        self, convolution: keras.layers.Conv2D, pooling: keras.layers.MaxPooling2D | None = None
    ) -> None:
        """Share the weights of a convolution that is built; `pooling` only where it has ReLU."""
        super().__init__(name=f"{convolution.name}_quick")
        self.convolution = convolution
        self.pooling = pooling
        self.built = True

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """`(n, h, w, channels)` to what the layers make of it."""
        summed = keras.ops.add(self.convolution.bias, self.convolved(x))
        return self.convolution.activation(self.pooling(summed) if self.pooling else summed)

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

    # For each place, row by row, which input it ties to which output.
    PAIRS = tuple(
        tuple(
            (i, o)
            for i, o in product(range(4), repeat=2)
            if (i // 2 - o // 2, i % 2 - o % 2) == (row - 1, column - 1)
        )
        for row, column in product(range(_SIDE), repeat=2)
    )

    @staticmethod
    def suits(convolution: keras.layers.Conv2D, x: keras.KerasTensor) -> bool:
        """Whether the convolution and its input are of this kind."""
        kind = (x.shape[1:3], convolution.kernel_size, convolution.padding)
        return kind == ((2, 2), (_SIDE, _SIDE), "same")

    def convolved(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The convolution without its bias, `(n, 2, 2, filters)`."""
        kernel = self.convolution.kernel
        channels, filters = kernel.shape[2:]
        inputs = keras.ops.unstack(keras.ops.reshape(x, (-1, 4, channels)), 4, axis=1)
        # Parted at once: the gradient of an indexing would be summed up entry by entry.
        places = keras.ops.unstack(keras.ops.reshape(kernel, (-1, channels, filters)), _SIDE**2)
        sums: list[Any] = [0, 0, 0, 0]
        for place, pairs in zip(places, self.PAIRS, strict=True):
            found = keras.ops.matmul(keras.ops.concatenate([inputs[i] for i, _ in pairs]), place)
            for (_, o), part in zip(pairs, keras.ops.split(found, len(pairs)), strict=True):
                sums[o] += part
        return keras.ops.reshape(keras.ops.stack(sums, axis=1), (-1, 2, 2, filters))
