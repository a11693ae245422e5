"""Convolutions that share their weights with Keras's own and take less time on CPUs."""

from __future__ import annotations

from itertools import product

import keras


class FastConvolution(keras.layers.Layer):  # type: ignore[misc]
    """A convolution and the max pooling after it, with the weights of the given convolution.

    Adding a bias and applying ReLU preserve the order of values, so the maximum may be taken first.
    After the pooling, bias, ReLU and their gradients have a fraction of the pixels to process. (If
    rounding makes two values equal, the gradient goes to the one that was larger.)

    Without pooling, oneDNN, TensorFlow's library on CPUs, computes the gradients of kernel and bias
    in one operation, which takes several times as long as two separate ones. It does so if the bias
    is added by the operation `BiasAdd`, which Keras chooses for `outputs + bias` but not for
    `bias + outputs`.
    """

    def __init__(
        self, convolution: keras.layers.Conv2D, pooling: keras.layers.MaxPooling2D | None = None
    ) -> None:
        """Share the weights of a built convolution; give `pooling` only with ReLU."""
        super().__init__(name=f"{convolution.name}_fast", dtype=convolution.dtype_policy)
        self.convolution = convolution
        self.pooling = pooling
        self.built = True

    @staticmethod
    def suits(layer: keras.layers.Layer) -> bool:
        """Whether the layer is a convolution of a kind that this class can replace."""
        return (
            isinstance(layer, keras.layers.Conv2D)
            and layer.use_bias
            and layer.strides == layer.dilation_rate == (1, 1)
            and (layer.groups, layer.data_format) == (1, "channels_last")
            and layer.activity_regularizer is None
        )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Apply both layers to `(n, h, w, channels)`."""
        found = self.convolved(x)
        if self.pooling:
            found = self.pooling(found)
        return self.convolution.activation(keras.ops.add(self.convolution.bias, found))

    def convolved(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The convolution without its bias."""
        return self.convolution.convolution_op(x, self.convolution.kernel)


class FastConvolution2x2(FastConvolution):
    """A padded 3 x 3 convolution of `(n, 2, 2, channels)` as nine matrix products.

    Each position of the kernel connects some of the four input pixels with as many output pixels:
    the middle one connects each pixel with itself, a corner one connects opposite corners. Products
    with padding left out, 16 of 36 pairs remain, and for maps this small TensorFlow multiplies
    matrices several times faster than it convolves.
    """

    # For each position of the kernel, row by row, the pairs of input and output pixels.
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
        """Whether this class can compute the convolution of this input."""
        kind = (x.shape[1:3], convolution.kernel_size, convolution.padding)
        return kind == ((2, 2), (3, 3), "same")

    def convolved(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The convolution without its bias, `(n, 2, 2, filters)`."""
        kernel = self.convolution.kernel
        channels, filters = kernel.shape[2:]
        inputs = keras.ops.unstack(keras.ops.reshape(x, (-1, 4, channels)), 4, axis=1)
        # Unstacked in one step: the gradient of indexing would be summed entry by entry.
        places = keras.ops.unstack(keras.ops.reshape(kernel, (9, channels, filters)), 9)
        parts: tuple[list[keras.KerasTensor], ...] = ([], [], [], [])
        for place, pairs in zip(places, self.PAIRS, strict=True):
            found = keras.ops.matmul(keras.ops.concatenate([inputs[i] for i, _ in pairs]), place)
            for (_, o), part in zip(pairs, keras.ops.split(found, len(pairs)), strict=True):
                parts[o].append(part)
        sums = [first + second + third + fourth for first, second, third, fourth in parts]
        return keras.ops.reshape(keras.ops.stack(sums, axis=1), (-1, 2, 2, filters))
