"""Today's families: whitened, normalised, scaled, and plain Keras when they are saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.settings.base import changed
from tasks.core.settings.network import NetworkSettings
from tasks.core.settings.training import TrainSettings
from tests.support import predicted_by_plain_keras

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]
SHAPE, CLASSES = (12, 10, 1), 3


def settings(**network: Any) -> TrainSettings:
    return TrainSettings(
        network=NetworkSettings(**{"family": "compact", "widths": (8, 16)} | network)
    )


def built(shape: tuple[int, int, int] = SHAPE, seed: int = 0, **network: Any) -> Any:
    from tasks.core.networks.families import build_network

    return build_network(settings(**network), shape, CLASSES, seed)


def examples(n: int = 60, shape: tuple[int, ...] = SHAPE) -> Any:
    from tasks.core.training.examples import Examples

    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=n)
    x = rng.integers(0, 120, (n, *shape)) + (labels * 60)[:, None, None, None]
    return Examples(x.astype(np.uint8), labels, CLASSES)


def test_the_recipe_of_the_trial_has_its_number_of_weights() -> None:
    from tasks.core.networks.families import build_network

    model = build_network(settings(widths=(32, 64, 128)), (28, 28, 1), 10, 0)
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    convolutions = 9 * (18 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    assert trained == convolutions + 4 * (32 + 64 + 128) + 128 * 10


VARIANTS: dict[str, dict[str, Any]] = {
    "compact": {},
    "residual": {"family": "residual", "depth": 2, "stochastic_depth": 0.5, "pooling": "average"},
    "group": {"normalisation": "group", "activation": "silu", "whitening": False, "dropout": 0.3},
    "none": {"family": "residual", "normalisation": "none", "activation": "relu"},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("shape", [SHAPE, (28, 28, 3), (2, 2, 1), (1, 5, 3)])
def test_every_variant_takes_images_of_any_size(shape: Any, variant: dict[str, Any]) -> None:
    model = built(shape, **variant)
    found = np.asarray(model(np.zeros((2, *shape), np.float32), training=False))
    assert found.shape == (2, CLASSES)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_initial_weights_depend_on_the_seed_alone(variant: dict[str, Any]) -> None:
    first, again, other = (built(seed=seed, **variant).get_weights() for seed in (0, 0, 1))
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_whitened_patches_are_uncorrelated_with_variance_one() -> None:
    from tasks.core.networks.whitening import whitening_weights

    rng = np.random.default_rng(0)
    # Neighbouring pixels are alike.
    brightness = np.cumsum(rng.normal(0, 9, (40, 14, 14, 2)), axis=2) + 120
    images = np.clip(brightness, 0, 255).astype(np.uint8)
    kernel, bias = whitening_weights(images, 3)
    assert kernel.shape == (3, 3, 2, 36)
    import keras

    found = keras.ops.conv(images.astype(np.float32) / 255, kernel) + bias
    rows = np.asarray(found).reshape(-1, 36)
    np.testing.assert_allclose(rows[:, 18:], -rows[:, :18], atol=1e-3)
    covariance = np.cov(rows[:, :18].T)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(covariance - np.diag(covariance.diagonal()), 0, atol=1e-2)
    assert (covariance.diagonal() > 0.3).all()
    assert (covariance.diagonal() < 1.01).all()


def test_images_of_one_colour_can_be_whitened() -> None:
    from tasks.core.networks.whitening import whitening_weights

    for part in whitening_weights(np.full((3, 5, 5, 1), 7, np.uint8), 3):
        assert np.isfinite(part).all()


def test_a_whitened_layer_is_computed_from_the_training_images_and_stays() -> None:
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule
    from tasks.models.fit import whiten

    model = built()
    whiten(model, examples(), seed=0)
    before = [np.array(weight) for weight in model.get_layer("whitening").get_weights()]
    assert np.abs(before[1]).max() > 0
    train(model, examples(), None, Schedule(1, 16, 0.01), 0)
    for one, two in zip(before, model.get_layer("whitening").get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def moved(x: Any, down: int, right: int) -> Any:
    """Images moved by a pixel, written anew: padded with their reflection, then cut out."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    height, width = x.shape[1:3]
    return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]


def views_of(x: Any, views: str) -> list[tuple[float, Any]]:
    """The views of images, and their weights in airbench's `infer_mirror_translate`."""
    if views == "flips":
        return [(0.5, x), (0.5, x[:, :, ::-1])]
    found = [(0.25, x), (0.25, x[:, :, ::-1])]
    for pixels in (1, -1):
        crop = moved(x, pixels, pixels)
        found += [(0.125, crop), (0.125, crop[:, :, ::-1])]
    return found


@pytest.mark.parametrize("views", ["flips", "crops"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_saved_network_predicts_from_all_views_in_plain_keras(
    variant: dict[str, Any], views: str, tmp_path: Path
) -> None:
    from tasks.core.networks.families import predicting
    from tasks.models.model_files import save_keras

    # Unscaled logits, so that views of networks that are not trained differ enough.
    network = built(**variant, logit_scale=1.0)
    model = predicting(network, settings(**variant, views=views).network)
    assert predicting(network, NetworkSettings()) is network
    x = examples(9).batch(slice(None))[0]
    found = np.asarray(model(x, training=False))
    # A softmax of a mean of logits is the normalised product of the powers.
    product = np.prod(
        [
            np.asarray(network(view, training=False)) ** weight
            for weight, view in views_of(x, views)
        ],
        axis=0,
    )
    np.testing.assert_allclose(found, product / product.sum(axis=1, keepdims=True), atol=1e-5)
    one = np.asarray(network(x, training=False))
    assert np.abs(found - one).max() > 1e-4
    save_keras(model, tmp_path / "model.keras")
    (plain,) = predicted_by_plain_keras(x, tmp_path / "model.keras")
    np.testing.assert_allclose(plain, found, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (2, 2, 1)])
def test_the_smallest_images_have_crops(shape: tuple[int, int, int]) -> None:
    from tasks.core.networks.families import predicting

    model = predicting(built(shape, whitening=False), settings(views="crops").network)
    x = examples(4, shape).batch(slice(None))[0]
    np.testing.assert_allclose(np.asarray(model(x, training=False)).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_fast_form_computes_the_same_function_and_moving_averages(
    variant: dict[str, Any],
) -> None:
    import keras

    from tasks.core.networks.fast_layers import fast_network

    variant = variant | {"dropout": 0.0, "stochastic_depth": 0.0}
    plain, shared = built(**variant), built(**variant)
    fast = fast_network(shared)
    assert {id(one) for one in fast.variables} == {id(one) for one in shared.variables}
    x = examples(40).batch(slice(None))[0]
    for _ in range(3):
        ours, kerass = (keras.ops.convert_to_numpy(one(x, training=True)) for one in (fast, plain))
        np.testing.assert_allclose(ours, kerass, atol=1e-4)
    for one, two in zip(shared.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    ours, kerass = (np.asarray(one(x, training=False)) for one in (fast, plain))
    np.testing.assert_allclose(ours, kerass, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(
    ("suffix", "views"), [("keras", "flips"), ("h5", "flips"), ("h5", "crops")]
)
def test_a_model_with_views_has_the_same_bytes_whatever_was_built_before(
    variant: dict[str, Any], suffix: str, views: str, tmp_path: Path
) -> None:
    from tasks.core.networks.families import predicting
    from tasks.core.networks.fast_layers import fast_network
    from tasks.models.model_files import load_keras, save_h5, save_keras

    saved, x = [], examples(5).batch(slice(None))[0]
    for number in range(2):
        network = built(**variant)
        fast_network(network)
        model = predicting(network, settings(**variant, views=views).network)
        path = tmp_path / f"{number}.{suffix}"
        (save_keras if suffix == "keras" else save_h5)(model, path)
        found = np.asarray(load_keras(path)(x, training=False))
        np.testing.assert_array_equal(found, np.asarray(model(x, training=False)))
        saved.append(path.read_bytes())
    assert saved[0] == saved[1]


@pytest.mark.parametrize("shape", [(3, 3, 1), (1, 9, 1), (2, 2, 3), (2, 5, 1)])
def test_small_images_are_whitened(shape: tuple[int, int, int]) -> None:
    from tasks.models.fit import whiten

    model = built(shape)
    whiten(model, examples(20, shape), 0)
    assert np.isfinite(model.get_layer("whitening").get_weights()[0]).all()


def test_settings_of_other_families_are_refused_for_a_stack() -> None:
    with pytest.raises(ValueError, match="widths: unused in family 'stack'"):
        NetworkSettings(widths=(8,))
    assert changed(TrainSettings(), {"network.family": "residual"}).network.family == "residual"


EVERYTHING: dict[str, Any] = {
    "network": {"family": "residual", "widths": [8, 16], "dropout": 0.2, "stochastic_depth": 0.3},
    "optimizer": {"name": "muon", "weight_decay": 0.05, "clip_norm": 5.0},
    "decay": "one_cycle",
    "label_smoothing": 0.1,
    "batch_size": 8,
    "final_batch_size": 32,
    "average": {"kind": "ema"},
    "variation": {"flip": "alternating", "shift": 1, "erase": 3, "mixup": 0.2, "cutmix": 1.0},
    "epochs": 4,
}


def train_everything(change: dict[str, Any], start: Any = None) -> tuple[list[Any], bytes]:
    """The states after each epoch, and the weights in the end; on any backend."""
    import keras

    from tasks.core.networks.families import build_network
    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule
    from tasks.models.fit import whiten

    training = changed(changed(TrainSettings(), EVERYTHING), change)
    model = build_network(training, SHAPE, CLASSES, 3)
    whiten(model, examples(), 3)
    states: list[Any] = []
    quick = fast_network(model)
    train(quick, examples(), examples(20), Schedule.of(training), 3, start, states.append)
    values = map(keras.ops.convert_to_numpy, model.variables)
    return states, b"".join(value.tobytes() for value in values)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"average.kind": "last", "average.epochs": 2},
        {"optimizer.name": "lion", "decay": "linear"},
        {"optimizer.name": "adamw", "decay": "cosine", "final_batch_size": None},
    ],
    ids=str,
)
def test_a_training_with_everything_resumes_to_the_same_bytes(change: dict[str, Any]) -> None:
    whole, weights = train_everything(change)
    assert [row["epoch"] for row in whole[-1].history] == [1, 2, 3, 4]
    assert {"val_loss", "val_accuracy"} < set(whole[-1].history[0])
    for epoch in (1, 3):
        resumed, again = train_everything(change, whole[epoch - 1])
        assert again == weights
        assert resumed[-1].history == whole[-1].history
    # What is scored is the average, not the last weights.
    values = b"".join(np.asarray(value).tobytes() for value in whole[-1].variables)
    assert not values.startswith(weights)


# Families, optimisers and averages, each at least once.
ON_JAX: tuple[dict[str, Any], ...] = (
    {},
    {
        "network": {"family": "compact", "widths": [8, 16], "normalisation": "group"},
        "optimizer.name": "lion",
        "average": {"kind": "last", "epochs": 2},
        "decay": "linear",
    },
    {
        "network": {"family": "compact", "widths": [8, 16], "depth": 2},
        "optimizer.name": "adamw",
        "average": {"kind": "none"},
        "decay": "cosine",
    },
)


def on_jax(folder: Path) -> dict[str, Any]:
    """Called in a process whose backend is JAX."""
    import keras

    from tasks.core.networks.families import predicting
    from tasks.models.model_files import load_keras, save_keras

    found: dict[str, Any] = {"backend": keras.backend.backend(), "same": []}
    for change in ON_JAX:
        # XLA compiles each step anew for each size of batches; these have one.
        change = {**change, "batch_size": 20, "final_batch_size": None}
        whole, weights = train_everything(change)
        resumed, again = train_everything(change, whole[1])
        same = resumed[-1].history == whole[-1].history and again == weights
        found["same"].append(same and [row["epoch"] for row in whole[-1].history] == [1, 2, 3, 4])
    # Trainings don't need TensorFlow; Keras itself imports it to save a model.
    found["tensorflow"] = "tensorflow" in sys.modules
    model = predicting(built(), settings(views="crops").network)
    save_keras(model, folder / "model.keras")
    x = examples(5).batch(slice(None))[0]
    ours, loaded = (
        one.predict(x, verbose=0) for one in (model, load_keras(folder / "model.keras"))
    )
    found["loaded"] = bool((ours == loaded).all())
    return found


@pytest.mark.timeout(900)
def test_today_s_trainings_resume_to_the_same_bytes_on_jax(tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from tasks.core.settings.execution import ExecutionSettings\n"
        "from tasks.engine.profile import configure, resolve_profile\n"
        "configure(resolve_profile(ExecutionSettings(device='cpu')))\n"
        "from tests.tasks.core.networks.test_families import on_jax\n"
        "print(json.dumps(on_jax(Path(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[4],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "backend": "jax",
        "same": [True] * len(ON_JAX),
        "loaded": True,
        "tensorflow": False,
    }
