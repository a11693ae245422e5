"""The networks are the notebook's, layer by layer, and start from their seed alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flows.recipe.presets import NOTEBOOK
from tasks.core.settings.base import changed
from tasks.core.settings.training import TrainSettings
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

IMAGE = (28, 28, 1)
CLASSES = 10
NAMES = [name for name in NOTEBOOK_RESULTS if not name.startswith("vgg16")]


def replayed() -> dict[str, TrainSettings]:
    """The settings of every model of the notebook, its decisions taken as it took them."""
    incumbent = NOTEBOOK.overfitting
    found = {
        "baseline": NOTEBOOK.baseline,
        "low_capacity": NOTEBOOK.low_capacity,
        "overfitting": incumbent,
    }
    for number, iteration in enumerate(NOTEBOOK.plan, start=1):
        candidate = changed(incumbent, iteration.change)
        found[f"iteration_{number}"] = candidate
        if iteration.replay == "forward":
            incumbent = candidate
    return found | {"final": incumbent}


SETTINGS = replayed()


@pytest.fixture(scope="module")
def built() -> Callable[[str], Any]:
    """Each of the notebook's networks, built once with seed 0."""
    from tasks.core.networks.stack import build_network

    networks: dict[str, Any] = {}

    def network(name: str) -> Any:
        if name not in networks:
            networks[name] = build_network(SETTINGS[name], IMAGE, CLASSES, seed=0)
        return networks[name]

    return network


def spelt(model: Any) -> str:
    """A network's layers in order, e.g. `C64/2 P F D10*`: filters/kernel, `+` same padding,
    `P` pooling, `B` batch normalisation, `F` flatten, `D` dense, `*` softmax, `O` dropout."""
    import keras

    words = []
    for layer in model.layers:
        match layer:
            case keras.layers.InputLayer():
                continue
            case keras.layers.Conv2D():
                assert layer.activation is keras.activations.relu
                assert layer.strides == (1, 1)
                assert len(set(layer.kernel_size)) == 1
                same = "+" if layer.padding == "same" else ""
                words.append(f"C{layer.filters}/{layer.kernel_size[0]}{same}")
            case keras.layers.BatchNormalization():
                words.append("B")
            case keras.layers.MaxPooling2D():
                assert layer.pool_size == layer.strides == (2, 2)
                assert layer.padding == "valid"
                words.append("P")
            case keras.layers.Flatten():
                words.append("F")
            case keras.layers.Dense():
                softmax = layer.activation is keras.activations.softmax
                assert softmax or layer.activation is keras.activations.relu
                words.append(f"D{layer.units}{'*' if softmax else ''}")
            case keras.layers.Dropout():
                words.append(f"O{layer.rate}")
            case _:
                raise AssertionError(f"the notebook has no {type(layer).__name__}")
    return " ".join(words)


# Copied from the notebook's model cells.
SMALL_CONVOLUTIONS = "C64/2 P C128/3 P C128/3 F"
LARGER_CONVOLUTIONS = "C64/3 P C128/3 P C128/3 F"
PADDED_CONVOLUTIONS = "C64/3+ P C128/3+ P C128/3+ F"
WITH_DROPOUT = "D256 O0.25 D64 O0.25 D10*"
LAYERS = {
    "baseline": "F D128 D10*",
    "low_capacity": "C16/7 P F D16 D10*",
    "overfitting": f"{SMALL_CONVOLUTIONS} D256 D64 D10*",
    "iteration_1": f"{SMALL_CONVOLUTIONS} D256 D64 D10*",
    "iteration_2": f"{SMALL_CONVOLUTIONS} D64 D10*",
    "iteration_3": f"{SMALL_CONVOLUTIONS} D128 D32 D10*",
    "iteration_4": f"{SMALL_CONVOLUTIONS} D256 D64 D10*",
    "iteration_5": f"{SMALL_CONVOLUTIONS} {WITH_DROPOUT}",
    "iteration_6": f"C64/2 B P C128/3 B P C128/3 B F {WITH_DROPOUT}",
    "iteration_7": f"{LARGER_CONVOLUTIONS} {WITH_DROPOUT}",
    "iteration_8": f"{PADDED_CONVOLUTIONS} {WITH_DROPOUT}",
    "iteration_9": f"{PADDED_CONVOLUTIONS} {WITH_DROPOUT}",
    "final": f"{PADDED_CONVOLUTIONS} {WITH_DROPOUT}",
}


def test_every_model_of_the_notebook_is_replayed() -> None:
    assert list(SETTINGS) == NAMES


def test_the_plan_replays_the_decisions_that_the_notebook_reports() -> None:
    reported = [NOTEBOOK_RESULTS[f"iteration_{number}"].decision for number in range(1, 10)]
    assert [iteration.replay for iteration in NOTEBOOK.plan] == reported


def test_epochs_and_batch_sizes_are_the_notebooks() -> None:
    schedules = {name: (spec.epochs, spec.batch_size) for name, spec in SETTINGS.items()}
    assert schedules == {
        "baseline": (5, 128),
        "low_capacity": (20, 512),
        "overfitting": (40, 128),
        **{f"iteration_{number}": (11, 128) for number in range(1, 9)},
        "iteration_9": (11, 32),
        "final": (11, 128),
    }
    augmented = [name for name, spec in SETTINGS.items() if spec.augmentation]
    assert augmented == ["iteration_9"]
    assert {spec.learning_rate for spec in SETTINGS.values()} == {0.001}  # RMSprop's default


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_parameters_are_the_notebooks(name: str, built: Callable[[str], Any]) -> None:
    model = built(name)
    assert spelt(model) == LAYERS[name]
    assert model.count_params() == NOTEBOOK_RESULTS[name].params
    assert model.input_shape == (None, *IMAGE)
    assert model.output_shape == (None, CLASSES)


def test_the_final_model_has_the_shapes_of_the_notebooks_summary(
    built: Callable[[str], Any],
) -> None:
    assert [(layer.output.shape[1:], layer.count_params()) for layer in built("final").layers] == [
        ((28, 28, 1), 0),
        ((28, 28, 64), 640),
        ((14, 14, 64), 0),
        ((14, 14, 128), 73_856),
        ((7, 7, 128), 0),
        ((7, 7, 128), 147_584),
        ((6272,), 0),
        ((256,), 1_605_888),
        ((256,), 0),
        ((64,), 16_448),
        ((64,), 0),
        ((10,), 650),
    ]


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 7)])
def test_outputs_are_probabilities_of_each_class(channels: int, classes: int) -> None:
    from tasks.core.networks.stack import build_network
    from tests.support import predict

    model = build_network(SETTINGS["low_capacity"], (12, 17, channels), classes, seed=0)
    x = np.random.default_rng(0).random((5, 12, 17, channels), dtype=np.float32)
    probabilities = predict(model, x)
    assert probabilities.shape == (5, classes)
    assert probabilities.dtype == np.float32
    assert probabilities.min() > 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def arrays(model: Any) -> dict[str, Any]:
    return {f"{layer.name}/{w.name}": w.numpy() for layer in model.layers for w in layer.weights}


def test_the_seed_alone_decides_the_initial_weights(built: Callable[[str], Any]) -> None:
    from tasks.core.networks.stack import build_network

    again = arrays(build_network(SETTINGS["iteration_6"], IMAGE, CLASSES, seed=0))
    other = arrays(build_network(SETTINGS["iteration_6"], IMAGE, CLASSES, seed=1))
    for name, value in arrays(built("iteration_6")).items():
        assert value.tobytes() == again[name].tobytes(), name
        if name.endswith("kernel"):
            assert (value != other[name]).mean() > 0.99, name


def test_no_two_layers_share_their_random_numbers(built: Callable[[str], Any]) -> None:
    kernels = [value for name, value in arrays(built("final")).items() if name.endswith("kernel")]
    # Glorot's uniform numbers, brought to [-1, 1]: equal draws would show whatever the shapes.
    starts = [tuple(np.sign(kernel.ravel()[:100])) for kernel in kernels]
    assert len(kernels) == 6
    assert len(set(starts)) == 6


def test_kernels_are_glorot_uniform_and_biases_zero(built: Callable[[str], Any]) -> None:
    for name, value in arrays(built("overfitting")).items():
        if name.endswith("bias"):
            assert not value.any(), name
            continue
        field = np.prod(value.shape[:-2], dtype=int)
        limit = np.sqrt(6 / (field * (value.shape[-2] + value.shape[-1])))
        assert np.abs(value).max() <= limit, name
        assert value.std() == pytest.approx(limit / np.sqrt(3), rel=0.1), name


def test_equally_named_layers_of_candidates_start_equal(built: Callable[[str], Any]) -> None:
    candidates = {name: arrays(built(name)) for name in NAMES if name.startswith("iteration")}
    first = arrays(built("overfitting"))
    compared = 0
    for name, weights in candidates.items():
        for key, value in weights.items():
            if key in first and first[key].shape == value.shape:
                assert value.tobytes() == first[key].tobytes(), (name, key)
                compared += 1
    # 12 weights each; fewer where layers are gone, or have other shapes.
    assert compared == 12 + 8 + 7 + 12 + 12 + 12 + 11 + 10 + 10


def test_global_random_state_is_neither_read_nor_changed() -> None:
    from tasks.core.networks.stack import build_network

    def state() -> tuple[Any, ...]:
        name, keys, *rest = np.random.get_state()
        return random.getstate(), name, np.asarray(keys).tobytes(), rest

    before = state()
    first = build_network(SETTINGS["iteration_6"], IMAGE, CLASSES, seed=3)
    assert state() == before
    random.random()
    np.random.random()
    second = build_network(SETTINGS["iteration_6"], IMAGE, CLASSES, seed=3)
    assert all(
        a.tobytes() == b.tobytes()
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True)
    )


@pytest.mark.parametrize(
    ("change", "image", "kernels", "pooled"),
    [
        ({"filters": [4], "kernel_sizes": [7], "pooled": [True]}, (6, 28, 1), [6], []),
        ({"filters": [4], "kernel_sizes": [7], "pooled": [True]}, (8, 9, 1), [7], [1]),
        # 2 x 2 kernel: 17; pooled: 8; 3 x 3: 6; pooled: 3; 3 x 3: 1.
        ({}, (17, 17, 1), [2, 3, 3], [1, 2]),
        ({}, (9, 9, 1), [2, 3, 1], [1, 2]),
        ({}, (1, 1, 3), [1, 1, 1], []),
        ({}, (28, 1, 1), [1, 1, 1], []),
        ({"padding": "same"}, (2, 3, 1), [2, 1, 1], [1]),
    ],
)
def test_networks_fit_small_images(
    change: dict[str, Any], image: tuple[int, int, int], kernels: list[int], pooled: list[int]
) -> None:
    from tasks.core.networks.stack import build_network

    model = build_network(changed(TrainSettings(), change), image, CLASSES, seed=0)
    names = [layer.name for layer in model.layers]
    found = [model.get_layer(name).kernel_size for name in names if name.startswith("conv")]
    assert found == [(side, side) for side in kernels]
    assert [name for name in names if name.startswith("pool")] == [f"pool_{n}" for n in pooled]
    assert model.output_shape == (None, CLASSES)


def test_l2_is_on_hidden_dense_kernels_only(built: Callable[[str], Any]) -> None:
    model = built("iteration_4")
    penalised = []
    for layer in model.layers:
        for role in ("kernel", "bias", "activity"):
            if getattr(layer, f"{role}_regularizer", None) is not None:
                penalised.append((layer.name, role))
    assert penalised == [("dense_1", "kernel"), ("dense_2", "kernel")]
    kernels = [model.get_layer(name).kernel.numpy().astype(float) for name, _ in penalised]
    expected = 0.001 * sum(float((kernel**2).sum()) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert expected > 0.1
    assert not built("overfitting").losses
