"""Fast equivalents compute the same as Keras's own layers, on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest

from tasks.core.settings.base import changed
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import RetrainSpec
from tests.support import computing_in

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

SHAPE = (9, 10, 2)
IMAGE = (18, 18, 1)
SMALL = TrainSettings(filters=(4, 6, 6), dense=(8,), batch_size=16)
NETWORKS = {
    "valid": SMALL,
    "same": changed(SMALL, {"padding": "same", "kernel_sizes": (3, 3, 3)}),
    "normalised": changed(SMALL, {"batch_norm": True}),
    "penalised, with dropout": changed(SMALL, {"l2": 0.01, "dropout": 0.25}),
    "no pooling": changed(SMALL, {"filters": (4,), "kernel_sizes": (5,), "pooled": (False,)}),
    "dense": changed(SMALL, {"filters": (), "kernel_sizes": (), "pooled": ()}),
}


def convolution(filters: int, side: int, padding: str, activation: str, shape: Any) -> Any:
    """A built layer with whole numbers as weights, since sums of small integers are exact."""
    import keras

    layer = keras.layers.Conv2D(filters, side, padding=padding, activation=activation, name="conv")
    layer.build((None, *shape))
    rng = np.random.default_rng(filters)
    for weight in layer.weights:
        weight.assign(rng.integers(-9, 10, weight.shape))
    return layer


def output_and_gradients(
    call: Callable[[Any], Any], x: Any, weights: Any, *, graph: bool
) -> list[Any]:
    """The output, and the gradients of its weighted sum."""
    import tensorflow as tf

    def step(x: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
            scale = tf.reshape(tf.range(tf.size(y)) % 17 - 8, tf.shape(y))
            loss = tf.reduce_sum(y * tf.cast(scale, y.dtype))
        return [y, *tape.gradient(loss, [x, *(weight.value for weight in weights)])]

    return [np.asarray(part) for part in (tf.function(step) if graph else step)(x)]


def assert_same(plain: Any, fast: Any, layer: Any, x: Any) -> None:
    for graph in (False, True):
        expected = output_and_gradients(plain, x, layer.weights, graph=graph)
        found = output_and_gradients(fast, x, layer.weights, graph=graph)
        assert (expected[0] != 0).mean() > 0.2
        assert all(part.any() for part in expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("channels", "filters"), [(1, 1), (3, 5), (16, 4)])
@pytest.mark.parametrize("pooled", [False, True])
def test_the_products_for_2x2_maps_are_the_convolution(
    channels: int, filters: int, pooled: bool
) -> None:
    import keras
    import tensorflow as tf

    from tasks.core.networks.fast_convolutions import FastConvolution2x2

    layer = convolution(filters, 3, "same", "relu", (2, 2, channels))
    pooling = keras.layers.MaxPooling2D(2) if pooled else None
    products = FastConvolution2x2(layer, pooling)
    assert [weight.path for weight in products.trainable_weights] == ["conv/kernel", "conv/bias"]
    rng = np.random.default_rng(channels)
    x = tf.constant(rng.integers(-9, 10, (6, 2, 2, channels)), tf.float32)

    def plain(x: Any) -> Any:
        return pooling(layer(x)) if pooling else layer(x)

    assert_same(plain, products, layer, x)


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    "pool", [None, {"pool_size": 2}, {"pool_size": 3, "strides": 2, "padding": "same"}]
)
@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_convolution_and_its_pooling_equal_keras_s(
    activation: str, padding: str, pool: dict[str, Any] | None, side: int
) -> None:
    """To the last bit, even if several values of a pooling window are equally large."""
    import keras
    import tensorflow as tf

    from tasks.core.networks.fast_layers import apply_fast

    layer = convolution(3, side, padding, activation, SHAPE)
    layers = [layer] + ([keras.layers.MaxPooling2D(**pool)] if pool else [])
    inputs = keras.Input(SHAPE)
    fast = keras.Model(inputs, apply_fast(layers, inputs))
    rng = np.random.default_rng(side)
    x = tf.constant(rng.integers(-1, 2, (4, *SHAPE)), tf.float32)

    def plain(x: Any) -> Any:
        for one in layers:
            x = one(x)
        return x

    assert_same(plain, fast, layer, x)


@pytest.mark.parametrize(
    ("side", "padding", "shape"),
    [(3, "valid", (3, 3)), (5, "same", (2, 2)), (3, "same", (2, 3)), (2, "same", (2, 2))],
)
def test_other_kernels_and_maps_are_convolved(
    side: int, padding: str, shape: tuple[int, int]
) -> None:
    import keras

    from tasks.core.networks.fast_convolutions import FastConvolution
    from tasks.core.networks.fast_layers import apply_fast

    layer = convolution(2, side, padding, "relu", (*shape, 1))
    inputs = keras.Input((*shape, 1))
    model = keras.Model(inputs, apply_fast([layer], inputs))
    assert type(model.layers[-1]) is FastConvolution


@pytest.mark.parametrize(
    "other", [{"strides": 2}, {"dilation_rate": 2}, {"groups": 2}, {"use_bias": False}]
)
def test_other_convolutions_are_not_replaced(other: dict[str, Any]) -> None:
    import keras

    from tasks.core.networks.fast_layers import apply_fast

    layer = keras.layers.Conv2D(4, 3, **{"padding": "same", **other})
    inputs = keras.Input((2, 2, 2))
    assert keras.Model(inputs, apply_fast([layer], inputs)).layers[1:] == [layer]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_fast_gelu_is_gelu_with_its_gradient(precision: str) -> None:
    """Keras's is compared to seven digits only: its constants have 32 bits in any precision."""
    import keras
    import tensorflow as tf
    from scipy.stats import norm

    from tasks.core.networks.fast_layers import FastGelu, apply_fast

    x = np.linspace(-12, 12, 4_001)[None].astype(precision)
    weights = np.arange(x.size) % 17 - 8
    exact = x.astype(np.float64)
    expected = [exact * norm.cdf(exact), weights * (norm.cdf(exact) + exact * norm.pdf(exact))]
    with computing_in(precision):
        plain = keras.layers.Activation("gelu")
        inputs = keras.Input(x.shape[1:])
        fast = keras.Model(inputs, apply_fast([plain], inputs)).layers[-1]
        assert isinstance(fast, FastGelu)
        for graph in (False, True):
            found = output_and_gradients(fast, tf.constant(x), [], graph=graph)
            kerass = output_and_gradients(plain, tf.constant(x), [], graph=graph)
            for one, value, other in zip(found, expected, kerass, strict=True):
                assert one.dtype == precision
                atol = 1e-5 if precision == "float32" else 1e-13
                np.testing.assert_allclose(one, value, rtol=0, atol=atol)
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_other_activations_are_not_replaced(activation: str) -> None:
    import keras

    from tasks.core.networks.fast_layers import apply_fast

    layer = keras.layers.Activation(activation)
    inputs = keras.Input((3,))
    assert keras.Model(inputs, apply_fast([layer], inputs)).layers[1:] == [layer]


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_training_the_fast_equivalent_is_training_the_network(settings: TrainSettings) -> None:
    """Both are trained from the same weights in float64, so only rounding can differ."""
    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network
    from tasks.core.training.examples import Examples
    from tasks.core.training.loop import evaluate, train
    from tasks.core.training.schedule import Schedule

    rng = np.random.default_rng(0)
    x = rng.random((50, *IMAGE))
    examples = Examples(x, rng.integers(0, 3, 50), 3)
    schedule = Schedule(2, settings.batch_size, 1e-3)
    with computing_in("float64"):
        plain, shared, before = (build_network(settings, IMAGE, 3, 1) for _ in range(3))
        fast = fast_network(shared)
        assert list(map(id, fast.variables)) == list(map(id, shared.variables))
        expected = train(plain, examples, examples, schedule, 1)
        found = train(fast, examples, examples, schedule, 1)
        ours, kerass = (evaluate(model, examples, schedule.loss)[1] for model in (shared, plain))
    assert [row.keys() for row in found.history] == [row.keys() for row in expected.history]
    for row, other in zip(found.history, expected.history, strict=True):
        assert row == pytest.approx(other, rel=1e-9)
    for weights, others, start in zip(
        shared.get_weights(), plain.get_weights(), before.get_weights(), strict=True
    ):
        np.testing.assert_allclose(weights, others, rtol=0, atol=1e-6 * schedule.learning_rate)
        assert np.abs(weights - start).max() > schedule.learning_rate
    np.testing.assert_allclose(ours, kerass, rtol=0, atol=1e-9)


def test_the_network_itself_is_not_changed() -> None:
    """The network is saved, so it must have Keras's own layers and must not be compiled."""
    import keras

    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network

    model = build_network(SMALL, IMAGE, 3, 0)
    before = model.to_json()
    fast_network(model).compile(loss="categorical_crossentropy")
    assert model.to_json() == before
    assert not model.compiled
    modules = {type(layer).__module__.partition(".")[0] for layer in model.layers}
    assert modules == {keras.__name__}


def test_a_trained_network_is_saved_like_an_untrained_copy(tmp_path: Path) -> None:
    """Files contain neither the optimizer nor the state of dropout's generators."""
    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network
    from tasks.core.training.examples import Examples
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule
    from tasks.models.model_files import save_h5, save_keras

    settings = changed(SMALL, {"batch_norm": True, "dropout": 0.5})
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 32)
    examples = Examples(rng.random((32, *IMAGE), dtype=np.float32), labels, 3)
    trained, copy = (build_network(settings, IMAGE, 3, 0) for _ in range(2))
    train(fast_network(trained), examples, None, Schedule(1, 16, 1e-3), 0)
    copy.set_weights(trained.get_weights())
    for save, suffix in ((save_keras, "keras"), (save_h5, "h5")):
        paths = [tmp_path / f"{name}.{suffix}" for name in ("trained", "copy")]
        for model, path in zip((trained, copy), paths, strict=True):
            save(model, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_stages_train_the_fast_equivalent(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.core.networks.fast_convolutions import FastConvolution
    from tasks.core.training.examples import Examples
    from tasks.models import fit

    trained: list[Any] = []

    def note(model: Any, *_: Any) -> None:
        trained.extend(layer for layer in model.layers if isinstance(layer, FastConvolution))
        raise InterruptedError

    monkeypatch.setattr(fit, "train", note)
    examples = Examples(np.zeros((2, *IMAGE), np.uint8), np.arange(2), 3)
    spec = RetrainSpec(training=changed(SMALL, {"epochs": 1}), seed=0)
    with pytest.raises(InterruptedError):
        fit.fit_network(spec, examples, None, mock.MagicMock())
    assert len(trained) == 3
