"""The stages of the VGG16 branch, run on a few drawn images: what they leave is what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bare import BareRun
from flows.recipe import stages
from flows.recipe.contents import recipe_models
from flows.recipe.transfer import fine_tuned, frozen, transfer
from tasks.core.data.preprocessing import scaled
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tasks.core.training.progress import Progress
from tasks.storage.checkpoints import Checkpoints
from tests.support import on_disk

SHORT = {"epochs": 2, "fine_tune_epochs": 2, "batch_size": 32}
SETTINGS = Settings.model_validate(
    {
        "dataset": "synthetic",
        "synthetic": {"train": 160, "test": 40},
        "subset": {"train": 70, "validation": 30, "test": 40},
        "transfer": {
            "weights": "random",
            "as_notebook": SHORT,
            "corrected": SHORT | {"side": 48, "features": "block5_pool"},
        },
    }
)
MODELS = [model for model in recipe_models(SETTINGS) if model.transfer]


BATCH = 32  # images of 32 x 32 at once, so that the few here pass in several batches


@dataclass(frozen=True)
class Transferred:
    """A branch that ran, and how many images were prepared at once, by side."""

    run: BareRun
    prepared: dict[int, set[int]]

    def path(self, stage: str, name: str) -> Path:
        return on_disk(self.run.store.root) / self.run.made[stage].files[name].path


@pytest.fixture(scope="module")
def done(
    tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Transferred:
    from tasks.core.networks import vgg16

    prepared: dict[int, set[int]] = {}
    real = vgg16.as_vgg16_input

    def noted(x: Any, side: int, preprocessing: str) -> Any:
        prepared.setdefault(side, set()).add(len(x))
        return real(x, side, preprocessing)

    run = BareRun(tmp_path_factory.mktemp("store"), tensorflow_ready)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "BATCH", BATCH)
        patch.setattr(vgg16, "as_vgg16_input", noted)
        arrays = run.preprocessed(SETTINGS)
        made = transfer(run, SETTINGS, arrays)
        for model in MODELS:
            run(stages.evaluate(model, model.name), model=made[model.name], arrays=arrays)
    return Transferred(run, prepared)


# Another process without this project: the notebook's cells 3a, and Keras's own preprocessing.
PLAIN_KERAS = """
import json, sys
import keras, numpy as np, tensorflow as tf

said = json.loads(sys.argv[1])
found = {}
for name, path in said["models"].items():
    model = keras.models.load_model(path, compile=False)
    side = model.input_shape[1]
    assert model.input_shape[1:] == (side, side, 3)
    found[name] = {"parameters": model.count_params()}
    for split, images in said["images"].items():
        with np.load(images) as archive:
            pixels = np.repeat(archive["images"], 3, axis=-1)
        x = tf.image.resize(pixels, [side, side]).numpy()
        if name.endswith("corrected"):
            x = keras.applications.vgg16.preprocess_input(x)
        found[name][split] = model.predict(x, verbose=0).tolist()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def elsewhere(done: Transferred, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    said = {
        "models": {model.name: str(done.path(model.name, "model")) for model in MODELS},
        "images": {name: str(done.path("subset", name)) for name in ("validation", "test")},
    }
    process = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN_KERAS, json.dumps(said)],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_the_complete_model_needs_only_plain_keras(
    done: Transferred, elsewhere: dict[str, Any], name: str
) -> None:
    """It has all 14,848,586 parameters and predicts from images what the stages predicted."""
    assert elsewhere[name]["parameters"] == NOTEBOOK_RESULTS["vgg16_frozen"].params
    run = done.run
    assert run.made[name].facts["params"] == NOTEBOOK_RESULTS["vgg16_frozen"].params
    for split, record in (("validation", run.made[name]), ("test", run.made[f"test_{name}"])):
        table = run.store.table(record, f"{split}_predictions")
        stored = np.stack([table[f"p{index}"].to_numpy() for index in range(10)], axis=1)
        np.testing.assert_allclose(elsewhere[name][split], stored, rtol=0, atol=1e-5)
        # Differences between images are far larger than what is allowed above.
        assert stored.std(axis=0).max() > 1e-3


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_its_description_says_what_it_is_to_be_given(done: Transferred, name: str) -> None:
    usage = json.loads(done.path(name, "usage").read_text())
    side = 48 if name.endswith("corrected") else 32
    assert usage["input"]["shape"] == ["n", side, side, 3]
    assert ("preprocess_input" in usage["input"]["preprocessing"]) == name.endswith("corrected")
    assert usage["class_names"] == list(done.run.made["subset"].facts["class_names"])
    assert usage["files"] == {"keras": "model.keras"}


def test_features_are_those_of_each_image_in_order_with_its_label(done: Transferred) -> None:
    """Though no more images pass at once than have the pixels of `BATCH` images of 32 x 32."""
    from tasks.core.networks import vgg16

    # Batches of 32 and the 70, 30 and 40 images' remainders; of 14 at 48 x 48; 3 for the pictures.
    assert done.prepared == {32: {32, 6, 30, 8, 3}, 48: {14, 2, 12, 3}}
    run = done.run
    base = vgg16.build_base(48)
    vgg16.set_weights(base, run.arrays("vgg16_weights", "weights"))
    for name, count in (("train", 70), ("validation", 30)):
        images = run.arrays("preprocess", name)
        x = vgg16.as_vgg16_input(scaled(images["x"]), 48, "vgg16")
        for stage, layer, shape in (
            ("vgg16_block4_corrected", "block4_pool", (3, 3, 512)),
            ("vgg16_block5_corrected", "block5_pool", (1, 1, 512)),
        ):
            found = run.arrays(stage, name)
            assert found["x"].shape == (count, *shape)
            assert run.made[stage].facts["feature_shape"] == list(shape)
            assert found["y"].tobytes() == images["y"].tobytes()
            expected = np.asarray(vgg16.section(base, None, layer)(x, training=False))
            size = np.abs(expected).max()
            np.testing.assert_allclose(found["x"], expected, rtol=0, atol=1e-5 * size)
            assert expected.std(axis=0).max() > 1e-2 * size


def test_both_variants_keep_what_vgg16_was_given_of_the_first_images(done: Transferred) -> None:
    run = done.run
    for stage, side, lowest in (("vgg16_block4", 32, 0), ("vgg16_block4_corrected", 48, -123.68)):
        samples = run.arrays(stage, "input_samples")
        assert samples["after"].shape == (3, side, side, 3)
        assert samples["after"].min() == pytest.approx(lowest)
        first = scaled(run.arrays("preprocess", "train")["x"][:3])
        assert samples["before"].tobytes() == first.tobytes()


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_a_transfer_that_was_stopped_ends_with_the_same_bytes(
    done: Transferred, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a constant rate, and with one that depends on the step."""
    run, record = done.run, done.run.made[name]
    model = next(model for model in MODELS if model.name == name)
    assert model.transfer is not None
    suffix = "_corrected" if name.endswith("corrected") else ""
    make = frozen if "frozen" in name else fine_tuned
    stage = make(SETTINGS, suffix, model.transfer)
    block = "block5" if "frozen" in name else "block4"
    inputs: dict[str, Any] = {"features": run.made[f"vgg16_{block}{suffix}"]}
    for role, other in (("weights", "vgg16_weights"), ("start", f"vgg16_frozen{suffix}")):
        if role in stage.reads:
            inputs[role] = run.made[other]
    shutil.rmtree(done.path(name, "model").parent)
    save = Checkpoints.save

    def stop(checkpoints: Checkpoints, progress: Progress) -> None:
        save(checkpoints, progress)
        raise StoppedError

    monkeypatch.setattr(Checkpoints, "save", stop)
    with pytest.raises(StoppedError):
        run(stage, **inputs)
    seen: list[int] = []

    def note(checkpoints: Checkpoints, progress: Progress) -> None:
        seen.append(progress.epoch)
        save(checkpoints, progress)

    monkeypatch.setattr(Checkpoints, "save", note)
    again = run(stage, **inputs)
    assert seen == [2]
    assert again == record, "every file has the digest that it had"


def test_images_of_another_size_and_in_colour_pass(
    tensorflow_ready: Mapping[str, Any], tmp_path: Path
) -> None:
    """Larger than VGG16's input, no square, three channels, three classes."""
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 100, (60, 40, 56, 3)).astype(np.uint8)
    images[np.arange(60), :, :, labels] += 120  # the colour tells the class
    np.savez(
        tmp_path / "colours.npz",
        x_train=images[:45],
        y_train=labels[:45],
        x_test=images[45:],
        y_test=labels[45:],
    )
    way = {"side": 32, "features": "block4_pool", "epochs": 8, "fine_tune_epochs": 1}
    settings = Settings.model_validate(
        {
            "dataset": str(tmp_path / "colours.npz"),
            "subset": {"train": 30, "validation": 15, "test": 15},
            "transfer": {
                "weights": "random",
                "variant": "corrected",
                "corrected": way | {"batch_size": 6},
            },
        }
    )
    run = BareRun(tmp_path / "store", tensorflow_ready)
    arrays = run.preprocessed(settings)
    made = transfer(run, settings, arrays)
    model = recipe_models(settings)[-2]
    tested = run(stages.evaluate(model, model.name), model=made[model.name], arrays=arrays)
    assert isinstance(tested, Record)
    assert run.arrays("vgg16_block3_corrected", "input_samples")["before"].shape == (3, 40, 56, 3)
    assert run.made["vgg16_frozen_corrected"].facts["val_accuracy"] > 0.8
    assert tested.facts["test_accuracy"] > 0.8

    # By its own description, in plain Keras.
    folder = (run.store.root / run.made[model.name].files["model"].path).parent
    usage = json.loads((folder / "usage.json").read_text())
    assert usage["input"]["shape"] == ["n", 32, 32, 3]
    assert "antialias=True where an image is larger" in usage["input"]["preprocessing"]
    x = tf.image.resize(run.arrays("subset", "test")["images"], [32, 32], antialias=True).numpy()
    x = keras.applications.vgg16.preprocess_input(x)
    plain = keras.models.load_model(folder / usage["files"]["keras"], compile=False)
    table = run.store.table(tested, "test_predictions")
    stored = np.stack([table[f"p{index}"].to_numpy() for index in range(3)], axis=1)
    np.testing.assert_allclose(plain.predict(x, verbose=0), stored, rtol=0, atol=1e-5)
