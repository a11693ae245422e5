"""Any backbone: cutting it changes no result, and training on features equals Keras's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.networks.imagenet_files import IMAGENET
from tasks.core.seeds import generator
from tasks.core.settings.backbone import APPLICATIONS, BackboneSettings, pixel_scale
from tests.support import computing_in, predict

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

SIDE, CLASSES, SEED = 32, 3, 5
# One of each family, with the layer after which the lowest resolution with weights begins.
FAMILIES = {
    "VGG16": "block4_pool",
    "ResNet50V2": "conv4_block5_out",
    "DenseNet121": "pool4_pool",
    "MobileNetV2": "block_13_pad",
    "MobileNetV3Small": "expanded_conv_8_depthwise_pad",
    "EfficientNetB0": "block6a_dwconv_pad",
    "EfficientNetV2B0": "block6a_expand_activation",
    "ConvNeXtTiny": "add_14",
}


def images(n: int, shape: tuple[int, int, int] = (28, 28, 1)) -> NDArray[np.float32]:
    """Drawn images in [0, 1]; a stripe tells the class."""
    found = generator(0, "images").random((n, *shape), dtype=np.float32)
    found[np.arange(n), :, np.arange(n) % CLASSES * 2] = 1
    return found


def calibrated(model: Any, name: str) -> Any:
    """The model with the statistics of random pixels in its batch normalisation.

    With those of a new network, signals vanish on their way through many layers.
    """
    import keras

    pixels = generator(0, "pixels").random((16, *model.input_shape[1:]))
    pixels = pixels * 255 if pixel_scale(name) in ("raw", "caffe") else pixels * 2 - 1
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(pixels, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return model


def network(name: str, shape: tuple[int, int, int] = (28, 28, 1)) -> tuple[Any, Any]:
    """A backbone with random weights, and the complete network on it."""
    from tasks.core.networks import backbones

    model = calibrated(backbones.application(name, SIDE, SEED), name)
    backbone = backbones.as_backbone(model, None, name)
    complete = backbones.complete_network(
        backbone, shape, pixel_scale(name), "average", 8, 0.25, CLASSES, SEED
    )
    # Outputs of hundreds would make every probability 0 or 1.
    head = complete.get_layer("head")
    features = backbones.frozen_part(backbone, shape, pixel_scale(name), backbone.layers[-1].name)
    kernel, bias = head.get_weights()
    head.set_weights([kernel / np.abs(predict(features, images(4, shape))).max(), bias])
    return backbone, complete


def test_every_application_has_an_address() -> None:
    assert set(APPLICATIONS) == set(IMAGENET)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_compute_what_the_whole_computes(name: str, tmp_path: Path) -> None:
    """Also once plain Keras has loaded it, with no weight that depends on anything but the seed."""
    import keras

    from tasks.core.networks import backbones

    backbone, complete = network(name)
    shape = (28, 28, 1)
    after = backbones.tuned_after(backbone, None)
    assert after == FAMILIES[name]
    complete.save(tmp_path / "model.keras")
    complete = keras.models.load_model(tmp_path / "model.keras", compile=False)
    x = images(4)
    below = predict(backbones.frozen_part(backbone, shape, pixel_scale(name), after), x)
    last = predict(backbones.part(backbone, after, None), below)
    assert last.shape == (4, *backbone.output_shape[1:])
    whole = predict(complete, x)
    for part, features in ((after, below), (None, last)):
        found = predict(backbones.trainable_part(complete, part), features)
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)
    assert last.std(axis=0).max() > 1e-2 * np.abs(last).max()
    assert whole.std(axis=0).max() > 1e-6
    _, again = network(name)
    assert [v.tobytes() for v in again.get_weights()] == [
        v.tobytes() for v in complete.get_weights()
    ]


@pytest.fixture
def float64() -> Iterator[None]:
    with computing_in("float64"):
        yield


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetV2B0"])
def test_training_on_features_equals_training_the_whole_with_frozen_layers(name: str) -> None:
    """In float64, weights agree to a millionth of a step: nothing but rounding differs.

    The whole is trained by Keras's `fit`, with nothing dropped. Batch normalisation keeps its
    weights and statistics on both ways.
    """
    import keras

    from tasks.core.networks import backbones
    from tasks.core.training.examples import Examples
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    x, classes = images(12), np.arange(12) % CLASSES
    labels = np.eye(CLASSES)[classes]
    rate, epochs, batch = 1e-4, 2, 4
    _, whole = network(name)
    _, ours = network(name)
    backbone, inner = ours.get_layer("backbone"), whole.get_layer("backbone")
    after = backbones.tuned_after(backbone, None)
    place = [layer.name for layer in inner.layers].index(after)
    for layer in inner.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0
    below = predict(backbones.frozen_part(backbone, (28, 28, 1), pixel_scale(name), after), x)
    last = predict(backbones.part(backbone, after, None), below)
    for features, cut in ((last, None), (below, after)):
        for number, layer in enumerate(inner.layers):
            steady = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = cut is not None and number > place and not steady
        before = [value.copy() for value in whole.get_weights()]
        whole.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.RMSprop(rate))
        for epoch in range(1, epochs + 1):
            order = generator(SEED, "order", epoch).permutation(len(x))
            whole.fit(x[order], labels[order], batch_size=batch, shuffle=False, verbose=0)
        schedule = Schedule(epochs, batch, rate, loss="categorical_crossentropy")
        part = backbones.trainable_part(ours, cut)
        train(part, Examples(features, classes, CLASSES), None, schedule, SEED)
        moved = 0
        for start, expected, found in zip(
            before, whole.get_weights(), ours.get_weights(), strict=True
        ):
            moved += not np.array_equal(start, expected)
            assert np.abs(found - expected).max() < 1e-6 * rate
        assert moved >= (4 if cut is None else 10)


def keras_preprocessing(name: str) -> Any:
    import keras

    module = {
        "VGG16": keras.applications.vgg16,
        "ResNet50V2": keras.applications.resnet_v2,
        "DenseNet121": keras.applications.densenet,
        "EfficientNetV2B0": keras.applications.efficientnet_v2,
    }[name]
    return module.preprocess_input


@pytest.mark.parametrize("name", ["VGG16", "ResNet50V2", "DenseNet121", "EfficientNetV2B0"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 50, 3), (32, 32, 3)])
def test_pixels_are_converted_as_keras_s_preprocessing_does(
    name: str, shape: tuple[int, int, int]
) -> None:
    import keras
    import tensorflow as tf

    from tasks.core.networks import backbones

    backbone = backbones.part(backbones.application(name, SIDE, SEED), None, None)
    image = keras.Input(shape)
    model = keras.Model(image, backbones.converted(image, backbone, pixel_scale(name)))
    x = images(3, shape)
    colours = np.repeat(x, 4 - shape[2], axis=-1)[..., :3] if shape[2] == 1 else x
    resized = tf.image.resize(255 * colours, (SIDE, SIDE), antialias=max(shape[:2]) > SIDE).numpy()
    expected = keras_preprocessing(name)(resized.copy())
    np.testing.assert_allclose(predict(model, x), expected, rtol=0, atol=1e-3)


def test_colours_become_grey_for_a_grey_backbone() -> None:
    import keras

    from tasks.core.networks import backbones

    inputs = keras.Input((8, 8, 1))
    grey = backbones.as_backbone(
        keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)), None, "grey"
    )
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, backbones.converted(image, grey, "unit"))
    red = np.zeros((1, 8, 8, 3), np.float32)
    red[..., 0] = 1
    np.testing.assert_allclose(predict(model, red), np.full((1, 8, 8, 1), 0.299), rtol=1e-6)


def small(*, flat: bool = True) -> Any:
    """A model of someone's own: a shortcut, then flattened and classified."""
    import keras

    inputs = keras.Input((16, 16, 3), name="photograph")
    x = first = keras.layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", name="second")(x)
    x = keras.layers.Add(name="sum")([first, x])
    x = keras.layers.MaxPooling2D(name="halved")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", name="third")(x)
    if flat:
        x = keras.layers.Dense(5, name="classes")(keras.layers.Flatten(name="flat")(x))
    return keras.Model(inputs, x)


def test_a_model_is_cut_before_it_is_flattened() -> None:
    from tasks.core.networks import backbones

    model = small()
    assert backbones.cut_points(model) == [
        "photograph", "first", "sum", "halved", "third", "flat", "classes",
    ]  # fmt: skip
    backbone = backbones.as_backbone(model, None, "model.keras")
    assert backbone.output_shape == (None, 8, 8, 6)
    assert backbones.tuned_after(backbone, None) == "halved"
    assert backbones.tuned_after(backbone, "first") == "first"
    assert backbones.as_backbone(model, "sum", "model.keras").output_shape == (None, 16, 16, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.as_backbone(small(), "second", "m"), "cut is 'second'; expected a layer thr"),
        (lambda b: b.as_backbone(small(), "flat", "m"), "output of layer 'flat' is"),
        (lambda b: b.tuned_after(small(flat=False), "second"), "tuned_after is 'second'; expected"),
        (lambda b: b.tuned_after(small(flat=False), "third"), "no layer after it has weights"),
        (lambda b: b.application("NASNetMobile", 16, 0), "side is 16, which NASNetMobile does not"),
    ],
)
def test_what_does_not_fit_is_refused_with_advice(call: Any, message: str) -> None:
    from tasks.core.networks import backbones

    with pytest.raises(UserError, match=message):
        call(backbones)


def test_a_model_without_images_is_refused() -> None:
    import keras

    from tasks.core.networks import backbones

    inputs = keras.Input((9,))
    with pytest.raises(UserError, match="no layer of the model has height and width"):
        backbones.as_backbone(keras.Model(inputs, keras.layers.Dense(2)(inputs)), None, "m.keras")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "MobileNetV9"}, "MobileNetV9.*expected the path"),
        ({"name": "my.keras", "weights_file": "w.h5"}, "weights_file is for networks of"),
        ({"name": "VGG16", "side": 8}, "greater than or equal to 32"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BackboneSettings.model_validate(values)


def test_of_a_network_that_averages_views_one_view_is_cut() -> None:
    from tasks.core.networks.backbones import as_backbone
    from tasks.core.networks.families import build_network, predicting
    from tasks.core.settings.training import TrainSettings

    network = {"family": "residual", "views": "flips", "widths": (8, 16)}
    settings = TrainSettings.model_validate({"network": network})
    trained = build_network(settings, (28, 28, 1), 4, seed=1)
    found = as_backbone(predicting(trained, settings.network), None, "mine.keras")
    one = as_backbone(trained, None, "mine.keras")
    np.testing.assert_array_equal(predict(found, images(3)), predict(one, images(3)))


def test_a_layer_that_is_used_twice_is_refused() -> None:
    import keras

    from tasks.core.networks.backbones import as_backbone

    inputs = keras.Input((20, 20, 1))
    twice = keras.layers.Conv2D(1, 3, padding="same", name="twice")
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(twice(twice(inputs))))
    with pytest.raises(UserError, match="uses layer 'twice' more than once"):
        as_backbone(model, None, "mine.keras")


def test_rates_fall_by_resolution() -> None:
    from tasks.core.networks import backbones

    backbone = backbones.application("VGG16", 32, 0)
    rates = backbones.rates_by_layer(backbone, "block3_pool", 0.3)
    assert rates == {f"block4_conv{n}": 0.3 for n in (1, 2, 3)} | {
        f"block5_conv{n}": 1.0 for n in (1, 2, 3)
    }
    assert backbones.rates_by_layer(backbone, "block3_pool", 1.0) == {}


def test_layers_take_steps_of_their_own_rates() -> None:
    """RMSprop's first step is the rate in every direction that has a gradient."""
    from tasks.core.networks import backbones
    from tasks.core.training.examples import Examples
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    x = images(8, (16, 16, 3))
    moved: dict[tuple[str, float], float] = {}
    for decay in (1.0, 0.5):
        backbone = backbones.as_backbone(small(), None, "model.keras")
        complete = backbones.complete_network(
            backbone, (16, 16, 3), "unit", "average", 8, 0.0, CLASSES, SEED
        )
        part = backbones.trainable_part(complete, "photograph")
        before = {v.path: v.numpy() for v in part.trainable_variables}
        rates = backbones.rates_by_layer(backbone, "photograph", decay)
        schedule = Schedule(epochs=1, batch_size=8, learning_rate=1e-3, layer_rates=rates)
        train(part, Examples(x, np.arange(8) % CLASSES, CLASSES), None, schedule, seed=1)
        for variable in part.trainable_variables:
            name = variable.path.split("/")[-2]
            step = np.abs(variable.numpy() - before[variable.path])
            moved[name, decay] = max(moved.get((name, decay), 0), step.max())
    for name in ("head", "probabilities", "third"):
        assert moved[name, 0.5] == pytest.approx(moved[name, 1.0], rel=0.02)
    for name in ("first", "second"):
        assert moved[name, 0.5] == pytest.approx(0.5 * moved[name, 1.0], rel=0.02)
