"""Networks that others describe: seeded by the run, plain Keras, refused if they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.core.settings.base import changed
from tasks.core.settings.network import Application
from tasks.core.settings.training import TrainSettings
from tests.support import predicted_by_plain_keras

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]
SHAPE, CLASSES = (12, 10, 1), 3


def settings(**network: Any) -> TrainSettings:
    return changed(TrainSettings(), {"network": network or {"function": "own:build"}})


def built(function: Callable[..., Any], seed: int = 0, **network: Any) -> Any:
    from tasks.core.networks.families import build_network

    network = {"function": "own:build"} | network
    return build_network(settings(**network), SHAPE, CLASSES, seed, function)


def examples(n: int = 60) -> Any:
    from tasks.core.training.examples import Examples

    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=n)
    x = rng.integers(0, 120, (n, *SHAPE)) + (labels * 60)[:, None, None, None]
    return Examples(x.astype(np.uint8), labels, CLASSES)


def random_everywhere(input_shape: Any, classes: int, width: int = 6) -> Any:
    """Random layers, batch normalisation, dropout, and operations between layers."""
    import keras
    from keras import layers

    inputs = keras.Input(input_shape)
    x = layers.RandomTranslation(0.1, 0.1)(inputs)
    x = layers.GaussianNoise(0.1)(x)
    for _ in range(2):
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.ops.relu(layers.BatchNormalization(momentum=0.8)(y)) + x
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3, seed=7)(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def weights(model: Any) -> list[Any]:
    return [np.asarray(variable) for variable in model.variables]


def test_weights_names_and_seeds_depend_on_the_run_s_seed_alone() -> None:
    import keras

    first = built(random_everywhere)
    keras.layers.Dense(3)
    keras.utils.set_random_seed(5)
    again, other = built(random_everywhere), built(random_everywhere, seed=1)
    assert [v.path for v in first.variables] == [v.path for v in again.variables]
    assert all((a == b).all() for a, b in zip(weights(first), weights(again), strict=True))
    differ = [
        v.path
        for v, a, b in zip(first.variables, weights(first), weights(other), strict=True)
        if (a != b).any()
    ]
    # Kernels, and the states of the dropout and of both random layers, whose seeds were given or
    # drawn by Keras.
    assert len(differ) == 3 + 3
    assert first.layers[-1].name == "probabilities"
    assert "logits/kernel" in [v.path for v in first.variables]


def test_options_reach_the_function() -> None:
    for width in (1, 5):
        model = built(random_everywhere, options={"width": width})
        assert model.get_layer("conv2d").filters == width


@pytest.mark.parametrize("optimizer", ["rmsprop", "muon", "lion"])
def test_a_training_resumes_to_the_same_bytes(optimizer: str) -> None:
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    training = changed(
        settings(),
        {
            "optimizer": {"name": optimizer, "weight_decay": 0.01},
            "average.kind": "ema",
            "decay": "cosine",
            "batch_size": 16,
            "epochs": 3,
            "variation.flip": "alternating",
        },
    )

    def trained(start: Any) -> tuple[list[Any], bytes]:
        model = built(random_everywhere, seed=3)
        states: list[Any] = []
        train(model, examples(), examples(20), Schedule.of(training), 3, start, states.append)
        return states, b"".join(value.tobytes() for value in weights(model))

    whole, bytes_ = trained(None)
    for epoch in (1, 2):
        resumed, again = trained(whole[epoch - 1])
        assert again == bytes_
        assert resumed[-1].history == whole[-1].history


def test_muon_leaves_the_last_layer_to_adamw() -> None:
    from tasks.core.networks.families import build_network
    from tasks.core.training.optimizers import MuonOfKernels

    model = build_network(settings(), SHAPE, CLASSES, 0, random_everywhere)
    muon = MuonOfKernels()
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    assert [muon._should_use_adamw(v) for v in kernels] == [False, False, True]


@pytest.mark.parametrize("views", ["one", "flips"])
def test_plain_keras_loads_the_saved_model_and_predicts_the_same(
    views: str, tmp_path: Path
) -> None:
    from tasks.core.networks.families import predicting
    from tasks.models.model_files import fits_hdf5, save_keras

    network = settings(function="own:build", views=views).network
    model = predicting(built(random_everywhere), network)
    x = examples(9).batch(slice(None))[0]
    save_keras(model, tmp_path / "model.keras")
    (found,) = predicted_by_plain_keras(x, tmp_path / "model.keras")
    np.testing.assert_allclose(found, np.asarray(model(x, training=False)), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert not fits_hdf5(model)


def sequential(*layers: Any, shape: Any = SHAPE) -> Any:
    import keras

    return keras.Sequential([keras.Input(shape), *layers])


def test_a_sequence_of_layers_compiled_and_with_softmax_apart() -> None:
    import keras
    from keras import layers

    from tasks.models.model_files import fits_hdf5

    def build(_shape: Any, classes: int) -> Any:
        model = keras.Sequential([layers.Flatten(), layers.Dense(classes), layers.Softmax()])
        model.compile("sgd", "mse")
        return model

    model = built(build)
    assert [layer.name for layer in model.layers[-3:]] == ["softmax", "output", "probabilities"]
    assert model.variables[0].path == "logits/kernel"
    assert not model.compiled
    found = np.asarray(model(np.ones((2, *SHAPE), np.float32)))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    # It is softmax of logits, not of probabilities.
    assert found.max() > 0.5
    assert fits_hdf5(model)


def wrong() -> dict[str, tuple[Callable[..., Any], str]]:
    """Functions that are refused, and what the message says."""
    import keras
    from keras import layers

    class Doubled(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    class Subclass(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(layers.Flatten()(x))

    def ends(*last: Any) -> Callable[..., Any]:
        return lambda _shape, _classes: sequential(layers.Flatten(), *last)

    def chosen(_shape: Any, _classes: int) -> Any:
        # A width that nobody gave.
        return sequential(layers.Flatten(), layers.Dense(len(calls)), layers.Dense(3))

    calls: list[int] = []

    def counted(shape: Any, classes: int) -> Any:
        calls.append(1)
        return chosen(shape, classes)

    def set_weights(_shape: Any, _classes: int) -> Any:
        model = sequential(layers.Flatten(), layers.Dense(3, name="mine"))
        model.get_layer("mine").set_weights([np.ones((120, 3)), np.zeros(3)])
        return model

    def patched(_shape: Any, _classes: int) -> Any:
        dense = layers.Dense(3)
        model = sequential(layers.Flatten(), dense)
        dense.call = lambda x, **_: keras.ops.zeros_like(x)[:, :3] + 1
        return model

    def broken(_shape: Any, _classes: int) -> Any:
        dense = layers.Dense(3)
        model = sequential(layers.Flatten(), dense)
        dense.call = lambda: 1 / 0
        return model

    def configured(shape: Any, _classes: int) -> Any:
        keras.config.set_image_data_format("channels_first")
        return sequential(layers.Flatten(), layers.Dense(3), shape=shape)

    def inner(shape: Any, _classes: int) -> Any:
        part = sequential(layers.Flatten(), layers.Dense(3, activation="softmax"), shape=shape)
        inputs = keras.Input(shape)
        return keras.Model(inputs, part(inputs))

    def two(shape: Any, _classes: int) -> Any:
        inputs = [keras.Input(shape), keras.Input(shape)]
        return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Add()(inputs))))

    return {
        "no model": (lambda _shape, _classes: None, "returned NoneType instead of a keras.Model"),
        "classes": (ends(layers.Dense(4)), r"returns \(None, 4\); expected one output \(None, 3\)"),
        "input": (
            lambda _shape, _classes: sequential(layers.Flatten(), layers.Dense(3), shape=(9, 9, 1)),
            r"takes .*9, 9, 1.*expected one input \(None, 12, 10, 1\)",
        ),
        "inputs": (two, "expected one input"),
        "custom layer": (ends(Doubled(name="twice"), layers.Dense(3)), "'twice' uses 'Doubled'"),
        "lambda": (ends(layers.Lambda(lambda x: x, name="l"), layers.Dense(3)), "'l' uses"),
        "function": (ends(layers.Dense(3, lambda x: x, name="d")), "'d' uses"),
        "class": (lambda _shape, _classes: Subclass(), "returned Subclass, a class of its own"),
        "sigmoid": (ends(layers.Dense(3, "sigmoid", name="d")), "'d' has activation 'sigmoid'"),
        "inner softmax": (inner, "returns probabilities, but its last layer has no softmax"),
        "no weights": (
            lambda _shape, _classes: sequential(layers.Flatten(), layers.Dense(3, trainable=False)),
            "no weights that could be trained",
        ),
        "chance": (counted, "two different models"),
        "weights": (set_weights, "sets the weights of .*mine/kernel"),
        "patched": (patched, "predicts otherwise"),
        "broken": (broken, "can't be called with images"),
        "configuration": (configured, "changes Keras's configuration"),
        "activity": (
            ends(layers.Dense(5, activity_regularizer="l2"), layers.Dense(3)),
            "penalises activations",
        ),
        "name": (
            ends(layers.Dense(5, name="probabilities"), layers.Dense(3)),
            "a layer 'probabilities' before its end",
        ),
    }


def test_what_is_no_network_of_these_images_is_refused_in_one_message() -> None:
    for name, (function, message) in wrong().items():
        with pytest.raises(UserError, match=message) as raised:
            built(function)
        assert len(str(raised.value)) <= 400, name


def test_seeds_and_constants_that_the_layers_say_are_no_set_weights() -> None:
    import keras
    from keras import layers

    def build(_shape: Any, classes: int) -> Any:
        given = keras.initializers.Constant(np.arange(360.0).reshape(120, 3).tolist())
        mine = keras.initializers.GlorotUniform(seed=1)
        return sequential(
            layers.Flatten(),
            layers.Dense(3, kernel_initializer=given, trainable=False),
            layers.Dense(classes, kernel_initializer=mine),
        )

    first, other = (built(build, seed=seed).get_weights() for seed in (0, 1))
    np.testing.assert_array_equal(first[0], np.arange(360).reshape(120, 3))
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_every_application_is_one_of_keras_s_and_the_others_are_known() -> None:
    import inspect

    import keras

    there = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    left_out = {name for name in there if name.startswith("ConvNeXt")} | {"InceptionResNetV2"}
    assert set(get_args(Application)) == there - left_out


# A small one of each architecture; the others differ by numbers of layers and channels.
ARCHITECTURES = (
    "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionV3", "MobileNet", "MobileNetV2",
    "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception",
)  # fmt: skip


def test_each_architecture_has_public_layers_only() -> None:
    from tasks.core.networks.applications import application
    from tasks.core.networks.own import _config_of

    for name in ARCHITECTURES:
        model = application(settings(application=name).network, (32, 32, 1), CLASSES)
        assert _config_of(model, name)["class_name"] == "Functional"


def test_architectures_that_are_left_out_have_others() -> None:
    import keras

    from tasks.core.networks.own import _config_of

    for name in ("InceptionResNetV2", "ConvNeXtTiny"):
        model = getattr(keras.applications, name)(weights=None, input_shape=(75, 75, 3))
        with pytest.raises(UserError, match="which plain Keras can't load without your code"):
            _config_of(model, name)


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("MobileNetV2", {"alpha": 0.35}, (28, 28, 1)),
        ("MobileNetV3Small", {"alpha": 0.75}, (12, 40, 3)),
        ("EfficientNetB0", {}, (28, 28, 1)),
    ],
)
def test_applications_take_small_and_grey_images(
    name: str, options: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    from tasks.core.networks.families import build_network

    training = settings(application=name, options=options)
    model = build_network(training, shape, 10, seed=0)
    x = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    found = np.asarray(model(x, training=False))
    assert found.shape == (2, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    first = next(v for v in model.variables if v.path.endswith("kernel"))
    assert first.shape[2] == shape[2]
    assert "logits/kernel" in [v.path for v in model.variables]


def test_small_images_are_enlarged_by_a_whole_factor_and_framed_with_black() -> None:
    import keras

    from tasks.core.networks.applications import _enlarged

    def enlarged(side: tuple[int, int], smallest: int) -> Any:
        inputs = keras.Input((*side, 1))
        model = keras.Model(inputs, _enlarged(inputs, smallest))
        return np.asarray(model(np.ones((1, *side, 1), np.float32)))[0, :, :, 0]

    assert enlarged((28, 28), 32).shape == (32, 32)
    assert enlarged((28, 28), 32).sum() == 28 * 28
    assert enlarged((28, 28), 75).shape == (75, 75)
    assert enlarged((28, 28), 75).sum() == 56 * 56
    assert enlarged((28, 50), 32).shape == (32, 50)
    assert enlarged((64, 64), 32).shape == (64, 64)


def test_wrong_options_of_an_application_are_refused() -> None:
    from tasks.core.networks.families import build_network

    for options, message in (
        ({"alpa": 1}, "MobileNetV2 has no option alpa; expected alpha"),
        ({"weights": "imagenet"}, "has no option weights"),
        ({"alpha": "wide"}, "can't be built with these options"),
    ):
        training = settings(application="MobileNetV2", options=options)
        with pytest.raises(UserError, match=message):
            build_network(training, (32, 32, 1), 10, 0)
