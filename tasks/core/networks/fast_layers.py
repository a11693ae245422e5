"""Equivalent layers that share their weights with Keras's own and train faster on CPUs.

On CPUs, some Keras layers run several times slower in TensorFlow than equivalent ones. A network is
saved with Keras's own layers and trained with these, which share its variables. Their results
differ only by the order of summation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product, zip_longest

import keras


def fast_network(network: keras.Model) -> keras.Model:
    """A fast equivalent of a network, which shares its weights."""
    if any(isinstance(layer, keras.layers.Add) for layer in network.layers):
        return keras.models.clone_model(
            network,
            clone_function=lambda layer: layer,
            # No input is masked, so nothing but the input is given.
            call_function=lambda layer, x, **_: _fast_form(layer)(x),
        )
    return keras.Model(network.input, apply_fast(network.layers[1:], network.input))


def apply_fast(layers: Sequence[keras.layers.Layer], x: keras.KerasTensor) -> keras.KerasTensor:
    """Apply a sequence of layers to `x`, each by its fast equivalent if there is one."""
    pooled = None
    for layer, following in zip_longest(layers, layers[1:]):
        if layer is pooled:
            continue
        if FastConvolution.suits(layer):
            relu = layer.activation is keras.activations.relu
            pooled = (
                following if relu and isinstance(following, keras.layers.MaxPooling2D) else None
            )
            form = (
                FastConvolution2x2 if FastConvolution2x2.suits_input(layer, x) else FastConvolution
            )
            x = form(layer, pooled)(x)
        else:
            x = _fast_form(layer)(x)
    return x


def _fast_form(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A fast equivalent of a layer apart from its neighbours, or the layer itself."""
    for form in (FastBatchNormalization, FastGelu):
        if form.suits(layer):
            return form(layer)
    return layer


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


class FastBatchNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Batch normalisation of `(n, h, w, channels)` by TensorFlow's fused operation.

    Keras's layer computes means, variances, the result and their gradients one after the other. The
    fused operation, which has to be trained in float32, reads the images once for each.
    """

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        """Share the weights of a built layer."""
        super().__init__(name=f"{layer.name}_fast", dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True

    @staticmethod
    def suits(layer: keras.layers.Layer) -> bool:
        """Whether the layer is a batch normalisation of a kind that this class can replace."""
        return (
            keras.backend.backend() == "tensorflow"
            and isinstance(layer, keras.layers.BatchNormalization)
            and layer.axis == -1
            and layer.scale
            and layer.center
            and layer.compute_dtype == "float32"
        )

    def call(self, x: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        """Normalise by the batch in training, by the moving averages otherwise."""
        layer = self.layer
        if not training or not layer.trainable:
            return layer(x, training=False)
        import tensorflow as tf

        found, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            x, layer.gamma, layer.beta, epsilon=layer.epsilon, is_training=True
        )
        # TensorFlow's variance is that of a sample, Keras's that of the batch.
        count = tf.cast(tf.size(x) / x.shape[-1], "float32")
        for moving, new in (
            (layer.moving_mean, mean),
            (layer.moving_variance, variance * (count - 1) / count),
        ):
            moving.assign(moving * layer.momentum + new * (1 - layer.momentum))
        return found


class FastGelu(keras.layers.Layer):  # type: ignore[misc]
    """The activation GELU, x times the normal distribution function of x.

    TensorFlow's goes through the numbers a dozen times forwards and backwards, once more for each
    factor, and its complementary error function is slower than the error function. Here the
    gradient uses what the forward pass computed.
    """

    def __init__(self, layer: keras.layers.Activation) -> None:
        """Replace a layer that `suits` accepts."""
        super().__init__(name=f"{layer.name}_fast", dtype=layer.dtype_policy)
        self.built = True

    @staticmethod
    def suits(layer: keras.layers.Layer) -> bool:
        """Whether the layer is an activation of the kind that this class can replace."""
        return (
            keras.backend.backend() == "tensorflow"
            and isinstance(layer, keras.layers.Activation)
            and layer.activation is keras.activations.gelu
            and layer.compute_dtype in ("float32", "float64")
        )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Apply GELU to each number."""
        import tensorflow as tf

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            scaled = x * math.sqrt(0.5)
            below = 0.5 * tf.math.erf(scaled) + 0.5

            def gradient(above: tf.Tensor) -> tf.Tensor:
                # The density of x, times x. TensorFlow merges the three functions into one.
                density = scaled * tf.exp(tf.negative(tf.square(scaled))) * math.sqrt(1 / math.pi)
                return above * (below + density)

            return x * below, gradient

        return gelu(x)
