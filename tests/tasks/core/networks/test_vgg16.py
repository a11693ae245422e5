"""VGG16 is the published one, and cutting it at its frozen layers changes no result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.networks.vgg16_layout import (
    BLOCK_5,
    block_below,
    layer_shapes,
    random_weights,
    weight_shapes,
)
from tasks.core.seeds import generator
from tasks.core.settings.transfer import TransferVariant, corrected_transfer
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tests.support import computing_in, predict

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

SIDE = 32
CLASSES = 10
BLOCK_4 = "block4_pool"
# The notebook's summary of the base: output shape and parameters of each layer.
SUMMARY = [
    ((32, 32, 3), 0),
    ((32, 32, 64), 1_792),
    ((32, 32, 64), 36_928),
    ((16, 16, 64), 0),
    ((16, 16, 128), 73_856),
    ((16, 16, 128), 147_584),
    ((8, 8, 128), 0),
    ((8, 8, 256), 295_168),
    ((8, 8, 256), 590_080),
    ((8, 8, 256), 590_080),
    ((4, 4, 256), 0),
    ((4, 4, 512), 1_180_160),
    ((4, 4, 512), 2_359_808),
    ((4, 4, 512), 2_359_808),
    ((2, 2, 512), 0),
    ((2, 2, 512), 2_359_808),
    ((2, 2, 512), 2_359_808),
    ((2, 2, 512), 2_359_808),
    ((1, 1, 512), 0),
]


@pytest.fixture(scope="module")
def weights() -> dict[str, NDArray[np.float32]]:
    return random_weights(seed=0)


@pytest.fixture(scope="module")
def base(weights: Any) -> Any:
    from tasks.core.networks import vgg16

    built = vgg16.build_base(SIDE)
    vgg16.set_weights(built, weights)
    return built


@pytest.fixture(scope="module")
def complete(base: Any) -> Any:
    from tasks.core.networks import vgg16

    return vgg16.build_complete(base, 256, 0.25, CLASSES, seed=0)


def pixels(n: int, shape: tuple[int, int, int] = (28, 28, 1), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255)


def test_the_base_has_the_layers_that_the_notebook_prints(base: Any) -> None:
    assert [(layer.output.shape[1:], layer.count_params()) for layer in base.layers] == SUMMARY
    assert base.count_params() == 14_714_688
    assert base.input_shape == (None, 32, 32, 3)
    assert base.name == "vgg16"


def test_the_layout_is_that_of_keras_applications(base: Any) -> None:
    import keras

    published = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    assert [layer.name for layer in base.layers][1:] == [layer.name for layer in published.layers][
        1:
    ]
    shapes = {
        f"{layer.name}/{weight.name}": weight.shape
        for layer in published.layers
        for weight in layer.weights
    }
    assert list(weight_shapes().items()) == list(shapes.items())
    assert layer_shapes()["block4_conv1"] == (3, 3, 256, 512)
    assert {BLOCK_4, BLOCK_5} < {layer.name for layer in published.layers}


def test_each_weight_of_the_base_is_set_by_its_name(base: Any, weights: Any) -> None:
    for layer in base.layers:
        for weight in layer.weights:
            assert weight.numpy().tobytes() == weights[f"{layer.name}/{weight.name}"].tobytes()


@pytest.mark.parametrize("name", ["vgg16_frozen", "vgg16_fine_tuned"])
def test_the_complete_network_has_the_notebooks_parameters(name: str, complete: Any) -> None:
    assert complete.count_params() == NOTEBOOK_RESULTS[name].params
    assert [(layer.output.shape[1:], layer.count_params()) for layer in complete.layers] == [
        ((32, 32, 3), 0),
        ((1, 1, 512), 14_714_688),
        ((512,), 0),
        ((256,), 131_328),
        ((256,), 0),
        ((10,), 2_570),
    ]
    assert complete.get_layer("head_dropout").rate == 0.25


def test_a_stored_network_does_not_depend_on_those_built_before() -> None:
    from tasks.core.networks import vgg16

    def stored() -> str:
        base = vgg16.build_base(SIDE)
        complete = vgg16.build_complete(base, 16, 0.25, CLASSES, seed=0)
        vgg16.trainable_part(complete, BLOCK_4)
        return str(complete.to_json())

    assert stored() == stored()


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 28, 3), (20, 31, 1)])
def test_raw_input_equals_tf_image_resize(shape: tuple[int, int, int], side: int) -> None:
    import tensorflow as tf

    from tasks.core.networks.vgg16 import as_vgg16_input

    images = pixels(20, shape)
    rgb = np.repeat(images, 3, axis=-1) if shape[2] == 1 else images
    expected = tf.image.resize(rgb, [side, side]).numpy()
    found = as_vgg16_input(scaled(images), side, "raw")
    assert found.dtype == np.float32
    assert found.shape == (20, side, side, 3)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 28, 3)])
def test_vgg16_s_input_equals_keras_s_preprocessing(
    shape: tuple[int, int, int],
) -> None:
    import keras
    import tensorflow as tf

    from tasks.core.networks.vgg16 import as_vgg16_input

    images = pixels(20, shape)
    x = scaled(images)
    before = x.copy()
    rgb = np.repeat(images, 3, axis=-1) if shape[2] == 1 else images
    expected = keras.applications.vgg16.preprocess_input(tf.image.resize(rgb, [48, 48]).numpy())
    found = as_vgg16_input(x, 48, "vgg16")
    assert found.dtype == np.float32
    assert found.shape == (20, 48, 48, 3)
    np.testing.assert_array_equal(found, expected)
    assert x.tobytes() == before.tobytes()
    assert found.min() < -100


def test_shrinking_images_are_anti_aliased() -> None:
    """Every other pixel of a fine chequered pattern would be all black or all white."""
    from tasks.core.networks.vgg16 import as_vgg16_input

    chequered = (np.indices((128, 128)).sum(axis=0) % 2).astype(np.float32)[None, ..., None]
    found = as_vgg16_input(chequered, 32, "raw")
    assert 100 < found.min() <= found.max() < 155
    wide = as_vgg16_input(chequered[:, :20], 32, "raw")
    assert 100 < wide[:, 8:-8].mean() < 155


def test_scaling_back_restores_every_pixel_value() -> None:
    from tasks.core.networks.vgg16 import as_vgg16_input

    values = np.repeat(np.arange(256, dtype=np.uint8), 32 * 32).reshape(256, 32, 32, 1)
    found = as_vgg16_input(scaled(values), 32, "raw")
    assert np.array_equal(found, np.repeat(values, 3, axis=-1).astype(np.float32))


def test_colour_channels_are_kept() -> None:
    from tasks.core.networks.vgg16 import as_vgg16_input

    red = np.zeros((1, 28, 28, 3), np.float32)
    red[..., 0] = 1
    found = as_vgg16_input(red, SIDE, "raw")
    assert found[..., 0].min() == found.max() == 255
    assert found[..., 1:].max() == 0
    swapped = as_vgg16_input(red, SIDE, "vgg16")
    np.testing.assert_allclose(swapped[0, 0, 0], [-103.939, -116.779, 255 - 123.68], rtol=1e-6)


# Two sums of the same float32 products, at most 4,608 in one, in another order or grouping (the
# batch and what the compiler fuses differ) agree to about 1e-6 of their size; 1e-5 leaves room
# for a dozen layers of them.
ROUNDING = 1e-5


def close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def features(
    base: Any, x: NDArray[np.float32], after: str | None, up_to: str
) -> NDArray[np.float32]:
    from tasks.core.networks import vgg16

    part = vgg16.section(base, after, up_to)
    found = list(vgg16.features(part, (x[start : start + 7] for start in range(0, len(x), 7))))
    assert [len(batch) for batch in found[:-1]] == [7] * (len(found) - 1)
    return np.concatenate(found)


def test_batches_have_the_same_number_of_pixels_for_any_side() -> None:
    from tasks.core.networks.vgg16 import batch_size

    assert [batch_size(side) for side in (32, 48, 64, 96)] == [256, 113, 64, 28]


def test_features_of_features_are_features_of_the_images(base: Any) -> None:
    from tasks.core.networks import vgg16

    x = vgg16.as_vgg16_input(scaled(pixels(20)), SIDE, "raw")
    block_4 = features(base, x, None, BLOCK_4)
    block_5 = features(base, block_4, BLOCK_4, BLOCK_5)
    assert (block_4.shape, block_5.shape) == ((20, 2, 2, 512), (20, 1, 1, 512))
    close(block_5, features(base, x, None, BLOCK_5))
    close(block_5, np.asarray(base(x, training=False)))
    # Not by having lost everything on the way.
    assert (block_5 > 0).mean() > 0.2
    assert block_5.std(axis=0).max() > 0.01 * block_5.max()


@pytest.mark.parametrize("side", [32, 48, 64])
@pytest.mark.parametrize("up_to", ["block3_pool", "block4_pool", "block5_pool"])
def test_a_base_may_end_at_any_later_block(weights: Any, side: int, up_to: str) -> None:
    from tasks.core.networks import vgg16

    base = vgg16.build_base(side, up_to)
    vgg16.set_weights(base, weights)
    complete = vgg16.build_complete(base, 8, 0.25, CLASSES, seed=0)
    x = vgg16.as_vgg16_input(scaled(pixels(3)), side, "vgg16")
    whole = predict(complete, x)
    below = features(base, x, None, block_below(up_to))
    close(predict(vgg16.trainable_part(complete, block_below(up_to)), below), whole)
    last = features(base, below, block_below(up_to), up_to)
    close(predict(vgg16.trainable_part(complete, up_to), last), whole)
    assert last.shape[1] == side // 2 ** int(up_to[5])
    shapes = {name: shape for name, shape in weight_shapes().items() if name[5] <= up_to[5]}
    assert base.count_params() == sum(int(np.prod(shape)) for shape in shapes.values())
    assert whole.std(axis=0).max() > 1e-4


def test_matrix_products_replace_convolutions_of_2x2_maps_only(base: Any) -> None:
    from tasks.core.networks import vgg16
    from tasks.core.networks.fast_convolutions import FastConvolution2x2

    def products(after: str | None, up_to: str) -> list[str]:
        layers = vgg16.section(base, after, up_to).layers
        return [item.convolution.name for item in layers if isinstance(item, FastConvolution2x2)]

    assert products(BLOCK_4, BLOCK_5) == [f"block5_conv{number}" for number in (1, 2, 3)]
    assert products(None, BLOCK_4) == []


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    with computing_in(request.param):
        yield request.param


# The notebook's way at the notebook's rate, and another loss, layer, input and schedule.
WAYS = {
    "as in the notebook": TransferVariant(dense=32),
    "otherwise": corrected_transfer().model_copy(
        update={"side": 32, "features": "block4_pool", "dense": 32, "fine_tune_learning_rate": 1e-4}
    ),
}
EPOCHS, BATCH, SEED = 2, 16, 3


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_training_on_features_equals_training_the_whole_with_frozen_layers(
    way: TransferVariant, precision: str, weights: Any
) -> None:
    """Keras's own training of the whole network beside ours on features, stage after stage.

    Both have the same images, order, batches, dropout and optimizer; the sums of the frozen layers
    and of the products for 2 x 2 maps are taken in another order, so they differ by rounding. In
    float64 losses and accuracies must agree to 1e-9, weights to 1e-6 of a step (the learning rate):
    nothing but rounding can be behind that. (A trial found 1e-15 and 1e-12.)

    In float32 a rounding error of 1e-7 now and then moves a sum across the kink of a ReLU, where
    the gradient jumps, and RMSprop, which divides by the gradient's own size, magnifies small ones.
    So losses and predictions must agree to 1e-4, no weight may be off by more than a step where
    some went more than two, and the average weight by no more than a tenth of one. (The trial found
    1e-6, 2e-5 and a third of a step.)
    """
    import keras

    from tasks.core.networks import vgg16
    from tasks.core.training.examples import Examples
    from tasks.core.training.loop import train
    from tasks.core.training.optimizers import RateTable
    from tasks.core.training.schedule import Schedule

    numbers = np.arange(40)
    classes = numbers % CLASSES
    labels = np.eye(CLASSES, dtype=np.float32)[classes]
    images = pixels(len(numbers))
    images[numbers, :, classes * 2] = 255  # a stripe tells the class
    x = vgg16.as_vgg16_input(scaled(images), way.side, way.preprocessing)

    def built() -> Any:
        base = vgg16.build_base(way.side, way.features)
        vgg16.set_weights(base, weights)
        return vgg16.build_complete(base, way.dense, way.dropout, CLASSES, SEED)

    def train_whole(model: Any, rate: Any) -> list[dict[str, float]]:
        if way.decay == "cosine":
            # Keras's `CosineDecay` knows pi to 7 digits only. The first step is the warm-up.
            falling = [rate * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(6)]
            rate = RateTable(np.array([rate, *falling]))
        optimizer = keras.optimizers.RMSprop(learning_rate=rate)
        model.compile(loss=way.loss, optimizer=optimizer, metrics=["accuracy"])
        history = []
        for epoch in range(1, EPOCHS + 1):
            order = generator(SEED, "order", epoch).permutation(len(x))
            fitted = model.fit(x[order], labels[order], batch_size=BATCH, shuffle=False, verbose=0)
            history.append({name: value[0] for name, value in fitted.history.items()})
        return history

    whole, ours = built(), built()
    base, our_base = whole.get_layer("vgg16"), ours.get_layer("vgg16")
    assert x.dtype == np.float32
    assert base.get_layer("block1_conv1").kernel.dtype == precision
    below = features(our_base, x, None, block_below(way.features))
    last = features(our_base, below, block_below(way.features), way.features)

    # The notebook's step 3d: all of the base is frozen. Its step 3e: all but the last block.
    block = way.features.removesuffix("pool")
    for given, after, trained, rate in (
        (last, way.features, "nothing", way.learning_rate),
        (below, block_below(way.features), block, way.fine_tune_learning_rate),
    ):
        for layer in base.layers:
            layer.trainable = layer.name.startswith(trained)
        start = by_name(whole)
        history = train_whole(whole, rate)
        schedule = Schedule(EPOCHS, BATCH, rate, loss=way.loss, decay=way.decay)
        part = vgg16.trainable_part(ours, after)
        our_history = train(part, Examples(given, classes, CLASSES), None, schedule, SEED).history
        exact = precision == "float64"
        for row, our_row in zip(history, our_history, strict=True):
            for name, number in row.items():
                assert our_row[name] == pytest.approx(number, rel=1e-9 if exact else 1e-4), name

        found, expected = by_name(ours), by_name(whole)
        moving = [name for name in start if name.startswith((trained, "head/", "probabilities/"))]
        assert len(moving) == (4 if trained == "nothing" else 10)
        for name, value in start.items():
            if name not in moving:
                assert found[name].tobytes() == expected[name].tobytes() == value.tobytes(), name
                continue
            assert np.abs(expected[name] - value).max() > 2 * rate, name
            off = np.abs(found[name] - expected[name]) / rate
            assert off.max() < (1e-6 if exact else 1), name
            assert off.mean() < (1e-6 if exact else 0.1), name

    whole_predicts = whole.predict(x, verbose=0)
    np.testing.assert_allclose(
        ours.predict(x, verbose=0), whole_predicts, rtol=0, atol=1e-9 if exact else 1e-4
    )
    assert whole_predicts.std(axis=0).max() > 0.001


@pytest.mark.parametrize("after", [BLOCK_5, BLOCK_4], ids=["frozen", "fine-tuned"])
def test_a_resumed_training_on_features_ends_with_the_same_bytes(after: str, weights: Any) -> None:
    from tasks.core.networks import vgg16
    from tasks.core.training.examples import Examples
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    rng = np.random.default_rng(5)
    shape = (2, 2, 512) if after == BLOCK_4 else (1, 1, 512)
    features = rng.random((20, *shape), dtype=np.float32)
    examples = Examples(features, np.arange(20) % CLASSES, CLASSES)
    schedule = Schedule(3, 16, 1e-4, loss="binary_crossentropy")

    def trained(start: Any = None) -> tuple[list[Any], dict[str, bytes]]:
        base = vgg16.build_base(SIDE)
        vgg16.set_weights(base, weights)
        complete = vgg16.build_complete(base, 16, 0.25, CLASSES, 3)
        part = vgg16.trainable_part(complete, after)
        states: list[Any] = []
        train(part, examples, None, schedule, 3, start, states.append)
        return states, {name: value.tobytes() for name, value in by_name(complete).items()}

    states, ended = trained()
    for start in states[:2]:
        found, complete = trained(start)
        assert complete == ended
        assert found[-1].history == states[-1].history
        for value, expected in zip(found[-1].variables, states[-1].variables, strict=True):
            assert value.tobytes() == expected.tobytes()


def by_name(complete: Any) -> dict[str, NDArray[np.float32]]:
    base = complete.get_layer("vgg16")
    layers = [layer for layer in (*base.layers, *complete.layers) if layer is not base]
    return {f"{layer.name}/{w.name}": w.numpy() for layer in layers for w in layer.weights}
