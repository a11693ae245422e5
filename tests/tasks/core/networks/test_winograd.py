"""Winograd's method: what Keras's convolution computes, with a quarter of the products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.seeds import generator
from tests.support import computing_in, predict

pytestmark = pytest.mark.usefixtures("tensorflow_ready")
CHANNELS, FILTERS = 128, 136


def images(side: int, n: int = 3, channels: int = CHANNELS) -> NDArray[np.float32]:
    drawn = generator(0, "images").standard_normal((n, side, side, channels), dtype=np.float32)
    return np.maximum(drawn, 0)


def convolution(side: int, channels: int = CHANNELS, **values: Any) -> Any:
    """A convolution with weights of usual size."""
    import keras

    values = {
        "filters": FILTERS,
        "kernel_size": 3,
        "padding": "same",
        "activation": "relu",
    } | values
    made = keras.layers.Conv2D(**values)
    made.build((None, side, side, channels))
    rng = generator(1, "weights")
    shape = made.kernel.shape
    made.kernel.assign(rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:3])))
    made.bias.assign(rng.standard_normal(shape[-1]) / 10)
    return made


@pytest.mark.parametrize("side", [4, 8, 16])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_it_computes_what_keras_computes(side: int, frozen: bool, pooled: bool) -> None:
    import keras

    from tasks.core.networks.winograd import WinogradConvolution

    layer = convolution(side)
    pooling = keras.layers.MaxPooling2D() if pooled else None
    x = images(side)
    expected = predict(layer, x)
    if pooling:
        expected = predict(pooling, expected)
    found = predict(WinogradConvolution(layer, pooling, frozen=frozen), x)
    assert found.shape == expected.shape
    # A trial found 3e-6; sums of 1,152 products in another order differ by 1e-6.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())
    assert (expected > 0).mean() > 0.2


@pytest.mark.parametrize("side", [4, 8, 16])
def test_in_float64_outputs_and_gradients_are_the_same(side: int) -> None:
    import tensorflow as tf

    from tasks.core.networks.winograd import WinogradConvolution

    with computing_in("float64"):
        layer = convolution(side)
        x = tf.constant(images(side), "float64")
        found = []
        for form in (layer, WinogradConvolution(layer)):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = form(x)
                loss = tf.reduce_sum(y * y)
            found.append([y, *tape.gradient(loss, [x, layer.kernel.value, layer.bias.value])])
    for ours, theirs in zip(found[1], found[0], strict=True):
        scale = np.abs(theirs).max()
        assert scale > 0
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize(
    ("side", "values"),
    [
        (6, {}),
        (2, {}),
        (12, {}),
        (32, {}),
        (8, {"kernel_size": 5}),
        (8, {"padding": "valid"}),
        (8, {"filters": 64}),
        (8, {"channels": 64}),
        (16, {}),
    ],
)
def test_other_convolutions_stay_as_they_are(side: int, values: dict[str, Any]) -> None:
    import keras

    from tasks.core.networks.winograd import WinogradConvolution

    layer = convolution(side, **values)
    x = keras.Input((side, side, values.get("channels", CHANNELS)))
    assert not WinogradConvolution.suits_input(layer, x)
    assert WinogradConvolution.suits_input(convolution(8), keras.Input((8, 8, CHANNELS)))
    wide = convolution(16, filters=256)
    assert WinogradConvolution.suits_input(wide, keras.Input((16, 16, CHANNELS)))
    assert not WinogradConvolution.suits_input(convolution(8), keras.Input((8, 4, CHANNELS)))


def test_it_needs_all_digits_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products on GPUs are of TensorFloat-32, those of mixed precision have 16 bits."""
    import keras

    from tasks.core.networks.winograd import WinogradConvolution

    x = keras.Input((8, 8, CHANNELS))
    assert not WinogradConvolution.suits_input(convolution(8, dtype="mixed_bfloat16"), x)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda *_: ["gpu:0"])
    assert not WinogradConvolution.suits_input(convolution(8), x)
