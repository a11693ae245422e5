"""Equivalent layers that share their weights with Keras's own and train faster on CPUs.

On CPUs, some Keras layers run several times slower in TensorFlow than equivalent ones. A network is
saved with Keras's own layers and trained with these, which share its variables. Their results
differ only by the order of summation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest

import keras

from tasks.core.networks.fast_convolutions import FastConvolution, FastConvolution2x2
from tasks.core.networks.winograd import WinogradConvolution


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


def apply_fast(
    layers: Sequence[keras.layers.Layer], x: keras.KerasTensor, *, frozen: bool = False
) -> keras.KerasTensor:
    """Apply a sequence of layers to `x`, each by its fast equivalent if there is one.

    `frozen`: their weights never change.
    """
    pooled = None
    for layer, following in zip_longest(layers, layers[1:]):
        if layer is pooled:
            continue
        if FastConvolution.suits(layer):
            relu = layer.activation is keras.activations.relu
            pooled = (
                following if relu and isinstance(following, keras.layers.MaxPooling2D) else None
            )
            x = _fast_convolution(layer, pooled, x, frozen=frozen)(x)
        else:
            x = _fast_form(layer)(x)
    return x


def _fast_convolution(
    layer: keras.layers.Conv2D,
    pooled: keras.layers.MaxPooling2D | None,
    x: keras.KerasTensor,
    *,
    frozen: bool,
) -> keras.layers.Layer:
    if FastConvolution2x2.suits_input(layer, x):
        return FastConvolution2x2(layer, pooled)
    if WinogradConvolution.suits_input(layer, x):
        return WinogradConvolution(layer, pooled, frozen=frozen)
    return FastConvolution(layer, pooled)


def _fast_form(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A fast equivalent of a layer apart from its neighbours, or the layer itself."""
    for form in (FastBatchNormalization, FastGelu):
        if form.suits(layer):
            return form(layer)
    return layer


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
