"""Transfer: weights, features and trainings, on the first layers of VGG16 alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.errors import UnavailableError, UserError
from tasks.core.networks.vgg16_layout import Weights, random_weights, weight_shapes
from tasks.core.records import Record, Stage
from tasks.core.stage_specs import (
    TransferHead,
    TransferTraining,
    Vgg16FeaturesSpec,
    Vgg16TrainSpec,
    Vgg16WeightsSpec,
)
from tasks.stages import vgg16_weights as weights_module
from tests.support import predict
from tests.tasks.stages.workbench import NAMES, Computed, Workbench, images

# vgg16_weights


def weights_stage(optional: bool = True, **changes: Any) -> Stage:
    values: dict[str, Any] = {"source": "imagenet"} | changes
    external = values.pop("external", ())
    spec = Vgg16WeightsSpec(**values)
    return Stage("vgg16_weights", spec, external=external, optional=optional)


def first_weights(seed: int) -> Weights:
    """Weights of the first block, which is all that is needed here."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in weight_shapes().items()
        if name.startswith("block1")
    }


def test_random_weights_are_those_of_the_seed(bench: Workbench) -> None:
    done = bench.compute(weights_stage(source="random", seed=5))
    assert done.facts == {"source": "random"}
    stored, expected = done.arrays("weights"), random_weights(5)
    assert list(stored) == list(expected)
    assert all(stored[name].tobytes() == expected[name].tobytes() for name in expected)


def test_weights_are_read_from_the_file_that_is_named(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"weights")
    read: list[Path] = []

    def note(given: Path) -> Weights:
        read.append(given)
        return first_weights(0)

    monkeypatch.setattr(weights_module, "read_weights", note)
    done = bench.compute(weights_stage(source="file", external=(str(path),)))
    assert read == [path]
    assert done.facts == {"source": "file"}
    assert set(done.arrays("weights")) == set(first_weights(0))


def test_a_file_without_weights_is_an_error_even_if_transfer_is_optional(
    bench: Workbench, tmp_path: Path
) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"weights\.h5"):
        bench.compute(weights_stage(source="file", external=(str(path),)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Keras would keep ImageNet's weights; `b"published"` passes for them."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    digest = hashlib.md5(b"published", usedforsecurity=False).hexdigest()
    monkeypatch.setattr(weights_module, "IMAGENET_MD5", digest)
    monkeypatch.setattr(weights_module, "read_weights", lambda _path: first_weights(1))
    path = tmp_path / "keras/models/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is downloaded; it works."""
    found: list[str] = []

    def download(url: str, path: Path, **_options: Any) -> Path:
        found.append(url)
        path.write_bytes(b"published")
        return path

    monkeypatch.setattr(weights_module, "download", download)
    return found


def test_published_weights_are_taken_from_keras_s_cache(
    bench: Workbench, cache: Path, downloads: list[str]
) -> None:
    cache.write_bytes(b"published")
    assert bench.compute(weights_stage()).facts == {"source": "imagenet"}
    assert downloads == []


@pytest.mark.parametrize("there", [False, True], ids=["missing", "damaged"])
def test_published_weights_are_downloaded_if_the_cache_has_none(
    bench: Workbench,
    cache: Path,
    downloads: list[str],
    there: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if there:
        cache.write_bytes(b"damaged")
    assert bench.compute(weights_stage()).state == "Completed"
    assert downloads == [weights_module.IMAGENET_URL]
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warnings) == there
    assert all("expected MD5" in text and str(cache) in text for text in warnings)


@pytest.mark.usefixtures("cache")
def test_weights_that_are_not_available_skip_the_stage_with_advice(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_arguments: Any, **_options: Any) -> Path:
        raise UnavailableError("no network")

    monkeypatch.setattr(weights_module, "download", offline)
    done = bench.compute(weights_stage())
    assert done.state == "Skipped"
    assert "--vgg16-weights FILE" in done.message
    assert done.message.endswith("(no network)")
    with pytest.raises(UnavailableError, match="--transfer-weights random"):
        bench.compute(weights_stage(optional=False))


# vgg16_features

SIDE, LAYER, SHAPE = 32, "block1_pool", (16, 16, 64)
SIZES = {"train": 6, "validation": 3}
ABOUT: dict[str, Any] = {
    "dataset": "own",
    "class_names": NAMES,
    "image_shape": [12, 12, 1],
    "ground": 0.0,
    "fit": "pad",
    "white": 255,
}


def labels(count: int) -> NDArray[np.uint8]:
    return (np.arange(count) % 3).astype(np.uint8)


def pixels(split: str) -> NDArray[np.uint8]:
    return images(SIZES[split], seed=list(SIZES).index(split))


def scaled(split: str) -> NDArray[np.float32]:
    return pixels(split).astype(np.float32) / np.float32(255)


def weights(bench: Workbench) -> Record:
    return bench.stored("vgg16_weights", arrays={"weights": first_weights(2)})


def with_features(
    bench: Workbench,
    after: str | None = None,
    up_to: str = LAYER,
    preprocessing: str | None = "raw",
) -> Computed:
    """The outputs of a layer, of images or of made-up outputs of an earlier layer."""
    rng = np.random.default_rng(0)
    x = {
        name: rng.random((size, 32, 32, 64), np.float32) if after else pixels(name)
        for name, size in SIZES.items()
    }
    source = bench.stored(
        "source",
        arrays={name: {"x": x[name], "y": labels(size)} for name, size in SIZES.items()},
        **ABOUT,
    )
    spec = Vgg16FeaturesSpec.model_validate(
        {"side": SIDE, "after": after, "up_to": up_to, "preprocessing": preprocessing}
    )
    reads = {"source": ("train", "validation", "facts"), "weights": ("weights",)}
    stage = Stage("vgg16_block1", spec, reads)
    return bench.compute(stage, source=source, weights=weights(bench))


def base(up_to: str = LAYER) -> Any:
    from tasks.core.networks import vgg16

    built = vgg16.build_base(SIDE, up_to)
    vgg16.set_weights(built, first_weights(2))
    return built


def test_features_are_the_outputs_of_the_layer(
    keras_bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.core.networks import vgg16

    monkeypatch.setattr(vgg16, "BATCH", 4)  # so that six images pass in two batches
    done = with_features(keras_bench)
    assert done.files == dict.fromkeys(("train", "validation", "input_samples"), "npz")
    assert done.facts == {**ABOUT, "up_to": LAYER, "feature_shape": list(SHAPE)}
    for name, size in SIZES.items():
        found = done.arrays(name)
        assert found["x"].shape == (size, *SHAPE)
        assert found["y"].tobytes() == labels(size).tobytes()
        x = vgg16.as_vgg16_input(scaled(name), SIDE, "raw")
        np.testing.assert_allclose(found["x"], predict(base(), x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("preprocessing", "lowest"), [("raw", 0), ("vgg16", -123.68)])
def test_the_first_inputs_are_kept_to_be_looked_at(
    keras_bench: Workbench, preprocessing: str, lowest: float
) -> None:
    samples = with_features(keras_bench, preprocessing=preprocessing).arrays("input_samples")
    assert samples["before"].tobytes() == scaled("train")[:3].tobytes()
    assert samples["after"].shape == (3, SIDE, SIDE, 3)
    assert samples["after"].min() == pytest.approx(lowest, abs=15)
    assert samples["after"].max() > 100


def test_features_can_start_from_the_outputs_of_another_layer(keras_bench: Workbench) -> None:
    done = with_features(keras_bench, after="block1_conv1", preprocessing=None)
    assert set(done.files) == {"train", "validation"}, "no image was prepared here"
    from tasks.core.networks import vgg16

    rest = vgg16.section(base(), "block1_conv1", LAYER)
    rng = np.random.default_rng(0)
    x = rng.random((6, 32, 32, 64), np.float32)
    np.testing.assert_allclose(done.arrays("train")["x"], predict(rest, x), rtol=1e-4, atol=1e-3)


# vgg16_train


def features(bench: Workbench, shape: tuple[int, ...] = SHAPE) -> Record:
    rng = np.random.default_rng(1)
    parts: dict[str, dict[str, NDArray[Any]]] = {
        name: {"x": rng.random((size, *shape), np.float32), "y": labels(size)}
        for name, size in SIZES.items()
    }
    return bench.stored("vgg16_block1", arrays=parts, **ABOUT)


def transferred(bench: Workbench, given: Record, start: Record | None = None) -> Computed:
    """A head trained on features; with `start`, the layers behind the first convolution, too."""
    training = TransferTraining(
        epochs=2, learning_rate=1e-3, batch_size=4, loss="categorical_crossentropy", decay="none"
    )
    spec = Vgg16TrainSpec(
        training=training,
        preprocessing="raw",
        after="block1_conv1" if start else LAYER,
        seed=0,
        head=None if start else TransferHead(side=SIDE, dense=4, dropout=0.25),
    )
    reads: dict[str, tuple[str, ...]] = {"features": ("train", "validation", "facts")}
    reads |= {"start": ("model",)} if start else {"weights": ("weights",)}
    other = {"start": start} if start else {"weights": weights(bench)}
    return bench.compute(Stage("vgg16_frozen", spec, reads), features=given, **other)


def model_of(done: Computed, folder: Path) -> Any:
    import keras

    path = folder / "loaded.keras"
    path.write_bytes(done.content("model"))
    return keras.models.load_model(path, compile=False)


def weights_of(model: Any) -> dict[str, bytes]:
    layers = [*model.get_layer("vgg16").layers, *model.layers]
    return {
        f"{layer.name}/{weight.name}": weight.numpy().tobytes()
        for layer in layers
        if layer.name != "vgg16"
        for weight in layer.weights
    }


def test_a_head_is_trained_and_the_base_is_kept(keras_bench: Workbench, tmp_path: Path) -> None:
    given = features(keras_bench)
    done = transferred(keras_bench, given)
    assert done.files == {
        "model": "keras",
        "history": "parquet",
        "validation_predictions": "parquet",
        "usage": "json",
    }
    base_size = 3 * 3 * 3 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    head_size = (16 * 16 * 64 + 1) * 4 + (4 + 1) * 3
    assert done.facts["params"] == base_size + head_size
    assert (done.facts["train_samples"], done.facts["epochs"]) == (6, 2)
    model = model_of(done, tmp_path)
    expected = {name: value.tobytes() for name, value in first_weights(2).items()}
    assert {k: v for k, v in weights_of(model).items() if k.startswith("block1")} == expected
    usage = json.loads(done.content("usage"))
    assert (usage["input"]["shape"], usage["input"]["method"]) == (["n", 32, 32, 3], "raw")


def test_fine_tuning_starts_from_the_frozen_stage_s_model(
    keras_bench: Workbench, tmp_path: Path
) -> None:
    frozen = transferred(keras_bench, features(keras_bench))
    tuned = transferred(keras_bench, features(keras_bench, (32, 32, 64)), frozen.record)
    before, after = (weights_of(model_of(done, tmp_path)) for done in (frozen, tuned))
    assert before.keys() == after.keys()
    unchanged = {name for name in before if before[name] == after[name]}
    assert unchanged == {"block1_conv1/kernel", "block1_conv1/bias"}
    assert tuned.facts["params"] == frozen.facts["params"]
