"""VGG16 is the published one, and cutting it at its frozen layers changes no result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.reported import REPORTED
from tasks.core.vgg16_layout import (
    BLOCK_4,
    BLOCK_5,
    check_weights,
    layer_shapes,
    random_weights,
    weight_shapes,
)

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

SIDE = 32
CLASSES = 10
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
    from tasks.core import vgg16

    built = vgg16.build_base(SIDE)
    vgg16.set_weights(built, weights)
    return built


@pytest.fixture(scope="module")
def complete(base: Any) -> Any:
    from tasks.core import vgg16

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


def test_the_base_gets_each_weight_under_its_name(base: Any, weights: Any) -> None:
    for layer in base.layers:
        for weight in layer.weights:
            assert weight.numpy().tobytes() == weights[f"{layer.name}/{weight.name}"].tobytes()


@pytest.mark.parametrize("name", ["vgg16_frozen", "vgg16_fine_tuned"])
def test_the_complete_network_has_the_notebooks_parameters(name: str, complete: Any) -> None:
    assert complete.count_params() == REPORTED[name].params
    assert [(layer.output.shape[1:], layer.count_params()) for layer in complete.layers] == [
        ((32, 32, 3), 0),
        ((1, 1, 512), 14_714_688),
        ((512,), 0),
        ((256,), 131_328),
        ((256,), 0),
        ((10,), 2_570),
    ]
    assert complete.get_layer("head_dropout").rate == 0.25


def test_nothing_in_the_stored_network_tells_how_many_were_built_before() -> None:
    from tasks.core import vgg16

    def stored() -> str:
        base = vgg16.build_base(SIDE)
        complete = vgg16.build_complete(base, 16, 0.25, CLASSES, seed=0)
        vgg16.trainable_part(complete, BLOCK_4)
        return str(complete.to_json())

    assert stored() == stored()


def test_random_weights_are_seeded_glorot_uniform_kernels_and_no_biases(weights: Any) -> None:
    again, other = random_weights(seed=0), random_weights(seed=1)
    check_weights(weights, "random")
    starts = set()
    for name, value in weights.items():
        assert value.tobytes() == again[name].tobytes()
        if name.endswith("bias"):
            assert not value.any()
            continue
        assert (value != other[name]).mean() > 0.99
        limit = np.sqrt(6 / (9 * (value.shape[2] + value.shape[3])))
        assert np.abs(value).max() <= limit
        assert value.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
        starts.add(tuple(np.sign(value.ravel()[:100])))
    assert len(starts) == 13


def test_check_weights_names_the_layer_and_both_shapes(weights: Any) -> None:
    name = "block3_conv2/kernel"
    shapes = r"block3_conv2/kernel should be float32 \(3, 3, 256, 256\), found "
    with pytest.raises(UserError, match=rf"^mine: .*{shapes}float32 \(3, 3, 256, 255\)"):
        check_weights(weights | {name: weights[name][..., 1:]}, "mine")
    with pytest.raises(UserError, match=rf"{shapes}float64 \(3, 3, 256, 256\)"):
        check_weights(weights | {name: weights[name].astype(float)}, "mine")
    with pytest.raises(UserError, match=rf"{shapes}nothing"):
        check_weights({key: weights[key] for key in weights if key != name}, "mine")


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 28, 3), (20, 31, 1)])
def test_input_is_what_tf_image_resize_makes_of_the_raw_pixels(
    shape: tuple[int, int, int], side: int
) -> None:
    import tensorflow as tf

    from tasks.core.vgg16 import as_vgg16_input

    images = pixels(259, shape)  # more than one batch of 256, the last one ragged
    rgb = np.repeat(images, 3, axis=-1) if shape[2] == 1 else images
    expected = tf.image.resize(rgb, [side, side]).numpy()
    found = as_vgg16_input(scaled(images), side)
    assert found.dtype == np.float32
    assert found.shape == (259, side, side, 3)
    assert found.tobytes() == expected.tobytes()


def test_every_pixel_value_comes_back_whole_from_the_scaling() -> None:
    from tasks.core.vgg16 import as_vgg16_input

    values = np.repeat(np.arange(256, dtype=np.uint8), 32 * 32).reshape(256, 32, 32, 1)
    found = as_vgg16_input(scaled(values), 32)
    assert np.array_equal(found, np.repeat(values, 3, axis=-1).astype(np.float32))


def test_colours_stay_apart() -> None:
    from tasks.core.vgg16 import as_vgg16_input

    red = np.zeros((1, 28, 28, 3), np.float32)
    red[..., 0] = 1
    found = as_vgg16_input(red, SIDE)
    assert found[..., 0].min() == found.max() == 255
    assert found[..., 1:].max() == 0


# Two sums of the same float32 products, at most 4,608 in one, in another order or grouping (the
# batch and what the compiler fuses differ) agree to about 1e-6 of their size; 1e-5 leaves room
# for a dozen layers of them.
ROUNDING = 1e-5


def close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def test_features_of_features_are_features_of_the_images(base: Any) -> None:
    from tasks.core import vgg16

    x = vgg16.as_vgg16_input(scaled(pixels(20)), SIDE)
    block_4 = vgg16.features(base, x, None, BLOCK_4)
    block_5 = vgg16.features(base, block_4, BLOCK_4, BLOCK_5)
    assert (block_4.shape, block_5.shape) == ((20, 2, 2, 512), (20, 1, 1, 512))
    close(block_5, vgg16.features(base, x, None, BLOCK_5))
    close(block_5, np.asarray(base(x, training=False)))
    # Not by having lost everything on the way.
    assert (block_5 > 0).mean() > 0.2
    assert block_5.std(axis=0).max() > 0.01 * block_5.max()


def test_the_trainable_part_on_features_predicts_what_the_whole_predicts(
    base: Any, complete: Any
) -> None:
    from tasks.core import vgg16
    from tests.support import predict

    x = vgg16.as_vgg16_input(scaled(pixels(20)), SIDE)
    whole = predict(complete, x)
    for after in (BLOCK_4, BLOCK_5):
        part = vgg16.trainable_part(complete, after)
        close(predict(part, vgg16.features(base, x, None, after)), whole)
    assert whole.std(axis=0).max() > 0.001


def freeze_base(complete: Any) -> None:
    """The notebook's step 3d."""
    complete.get_layer("vgg16").trainable = False


def freeze_up_to_block_5(complete: Any) -> None:
    """The notebook's step 3e."""
    base = complete.get_layer("vgg16")
    base.trainable = True
    for layer in base.layers:
        layer.trainable = layer.name.startswith("block5")


@pytest.mark.parametrize(
    ("after", "freeze", "trained"),
    [(BLOCK_5, freeze_base, ()), (BLOCK_4, freeze_up_to_block_5, ("block5_",))],
    ids=["frozen", "fine-tuned"],
)
def test_training_on_features_is_training_the_whole_with_frozen_layers(
    after: str, freeze: Callable[[Any], None], trained: tuple[str, ...], weights: Any
) -> None:
    """Same order, batches, dropout and optimizer; only rounding may differ.

    On the machine of 2 cores where this was written nothing differs. Elsewhere the batches of the
    frozen layers may be summed in another order, about 1e-6 of their size. RMSprop divides a
    gradient g by sqrt(0.1 g^2 + 1e-7) in its first step, so that even small gradients are not
    blown up: weights may differ by a hundredth of a first step (3.2 times the learning rate).
    A dropout rate of 0.2 instead of 0.25 moves them by twenty times as much and more.
    """
    from tasks.core import vgg16
    from tasks.core.training import Examples, Schedule, train

    rate, seed = 1e-4, 3
    numbers = np.arange(32)
    labels = np.eye(CLASSES, dtype=np.float32)[numbers % CLASSES]
    images = pixels(32)
    images[numbers, :, numbers % CLASSES * 2] = 255  # a stripe tells the class
    x = vgg16.as_vgg16_input(scaled(images), SIDE)
    schedule = Schedule(2, 16, rate, loss="binary_crossentropy")

    def built() -> Any:
        base = vgg16.build_base(SIDE)
        vgg16.set_weights(base, weights)
        return vgg16.build_complete(base, 32, 0.25, CLASSES, seed)

    whole = built()
    start = by_name(whole)
    freeze(whole)
    history = train(whole, Examples(x, labels), None, schedule, seed).history

    cut = built()
    features = vgg16.features(cut.get_layer("vgg16"), x, None, after)
    part = vgg16.trainable_part(cut, after)
    part_history = train(part, Examples(features, labels), None, schedule, seed).history
    for row, part_row in zip(history, part_history, strict=True):
        assert set(row) == set(part_row)
        for column, number in row.items():
            assert part_row[column] == pytest.approx(number, rel=1e-4), column

    found, expected = by_name(cut), by_name(whole)
    moving = [name for name in start if name.startswith((*trained, "head/", "probabilities/"))]
    assert len(moving) == (4 if after == BLOCK_5 else 10)
    for name, value in start.items():
        if name not in moving:
            assert found[name].tobytes() == expected[name].tobytes() == value.tobytes(), name
            continue
        assert np.abs(expected[name] - value).max() > 3 * rate, name
        assert np.abs(found[name] - expected[name]).max() < 0.032 * rate, name


@pytest.mark.parametrize("after", [BLOCK_5, BLOCK_4], ids=["frozen", "fine-tuned"])
def test_training_on_features_that_goes_on_ends_with_the_same_bytes(
    after: str, weights: Any
) -> None:
    from tasks.core import vgg16
    from tasks.core.training import Examples, Schedule, train

    rng = np.random.default_rng(5)
    shape = (2, 2, 512) if after == BLOCK_4 else (1, 1, 512)
    features = rng.random((20, *shape), dtype=np.float32)
    examples = Examples(features, np.eye(CLASSES, dtype=np.float32)[np.arange(20) % CLASSES])
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
