"""The branch of a backbone, run on a few drawn images: what it leaves is what it says."""

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
from flows.recipe.backbone import backbone_transfer, stages_of
from flows.recipe.contents import recipe_models
from tasks.core.errors import UnavailableError, UserError
from tasks.core.settings.run_settings import Settings
from tasks.core.training.progress import Progress
from tasks.storage.checkpoints import Checkpoints
from tests.support import on_disk

SHORT = {"side": 32, "epochs": 2, "fine_tune_epochs": 2, "batch_size": 32, "dense": 16}
MODELS = ("backbone_frozen", "backbone_fine_tuned")


def settings_with(weights: str = "random", **values: Any) -> Settings:
    return Settings.model_validate(
        {
            "dataset": "synthetic",
            "synthetic": {"train": 160, "test": 40},
            "subset": {"train": 70, "validation": 30, "test": 40},
            "transfer": {"weights": weights, "variant": "none", "backbone": SHORT | values},
        }
    )


SETTINGS = settings_with(name="MobileNetV3Small")


@dataclass(frozen=True)
class Transferred:
    """A branch that ran."""

    run: BareRun

    def path(self, stage: str, name: str) -> Path:
        return on_disk(self.run.store.root) / self.run.made[stage].files[name].path


def transferred(run: BareRun, settings: Settings) -> Transferred:
    arrays = run.preprocessed(settings)
    made = backbone_transfer(run, settings, run.made["subset"], arrays)
    for model in recipe_models(settings):
        if model.name in MODELS:
            run(stages.evaluate(model, model.name), model=made[model.name], arrays=arrays)
    return Transferred(run)


@pytest.fixture(scope="module")
def done(
    tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Transferred:
    return transferred(BareRun(tmp_path_factory.mktemp("store"), tensorflow_ready), SETTINGS)


# Another process without this project.
PLAIN_KERAS = """
import json, sys
import keras, numpy as np

said = json.loads(sys.argv[1])
found = {}
for name, path in said["models"].items():
    model = keras.models.load_model(path, compile=False)
    found[name] = {}
    for split, images in said["images"].items():
        with np.load(images) as archive:
            x = archive["images"].astype("float32") / 255
        found[name][split] = model.predict(x, verbose=0).tolist()
print(json.dumps(found))
"""


def test_the_complete_model_needs_only_plain_keras_and_pixels_divided_by_255(
    done: Transferred, tmp_path: Path
) -> None:
    said = {
        "models": {name: str(done.path(name, "model")) for name in MODELS},
        "images": {name: str(done.path("subset", name)) for name in ("validation", "test")},
    }
    process = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN_KERAS, json.dumps(said)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    run = done.run
    for name in MODELS:
        usage = json.loads(done.path(name, "usage").read_text())
        assert usage["input"] == {
            "shape": ["n", 28, 28, 1],
            "dtype": "float32",
            "method": "scaled",
            "preprocessing": "uint8 pixels (0 to 255) divided by 255",
        }
        for split, record in (("validation", run.made[name]), ("test", run.made[f"test_{name}"])):
            table = run.store.table(record, f"{split}_predictions")
            stored = np.stack([table[f"p{index}"].to_numpy() for index in range(10)], axis=1)
            np.testing.assert_allclose(found[name][split], stored, rtol=0, atol=1e-5)
    first, last = (run.made[name].facts["params"] for name in MODELS)
    assert first == last > run.made["backbone"].facts["params"]


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("number", [3, 4], ids=MODELS)
def test_a_training_that_was_stopped_ends_with_the_same_bytes(
    done: Transferred, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = done.run
    stage = stages_of(SETTINGS)[number]
    record = run.made[stage.name]
    inputs: dict[str, Any] = {
        role: run.made[
            {
                "features": "backbone_outputs" if number == 3 else "backbone_features",
                "backbone": "backbone",
                "start": "backbone_frozen",
            }[role]
        ]
        for role in stage.reads
    }
    shutil.rmtree(done.path(stage.name, "model").parent)
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
    assert run(stage, **inputs) == record, "every file has the digest that it had"
    assert seen == [2]


def test_a_model_of_one_s_own_in_a_file_and_no_fine_tuning(
    tensorflow_ready: Mapping[str, Any], tmp_path: Path
) -> None:
    """It keeps its size, and its flattened end is left out."""
    import keras

    inputs = keras.Input((20, 20, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(12, 3, activation="relu")(x)
    x = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    keras.Model(inputs, x).save(tmp_path / "mine.keras")
    settings = settings_with("imagenet", name=str(tmp_path / "mine.keras"), fine_tune_epochs=0)
    run = transferred(BareRun(tmp_path / "store", tensorflow_ready), settings).run
    assert run.made["backbone"].facts["input_shape"] == [20, 20, 3]
    assert run.made["backbone_outputs"].facts["feature_shape"] == [7, 7, 12]
    assert "backbone_fine_tuned" not in run.made
    assert "test_accuracy" in run.facts(run.made["test_backbone_frozen"])


@pytest.mark.parametrize(
    ("values", "content", "message"),
    [
        ({"name": "gone.keras"}, None, "transfer.backbone.name: .*gone.keras is not a file"),
        ({"name": "VGG16", "weights_file": "gone.h5"}, None, "weights_file: .*gone.h5 is not a"),
        ({"name": "bad.keras"}, b"no model", "transfer.backbone.name: Keras cannot load .*bad"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    values: dict[str, str],
    content: bytes | None,
    message: str,
    tmp_path: Path,
    tensorflow_ready: Mapping[str, Any],
) -> None:
    key = "weights_file" if "weights_file" in values else "name"
    path = tmp_path / values[key]
    if content:
        path.write_bytes(content)
    run = BareRun(tmp_path / "store", tensorflow_ready)
    settings = settings_with("required", **values | {key: str(path)})

    def attempt() -> None:
        run(stages_of(settings)[0])

    with pytest.raises(UserError, match=message):
        attempt()


def test_weights_that_cannot_be_had_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensorflow_ready: Mapping[str, Any]
) -> None:
    from tasks.sources import imagenet_weights

    def offline(*_arguments: Any, **_options: Any) -> Path:
        raise UnavailableError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(imagenet_weights, "download", offline)
    stage = stages_of(settings_with("required", name="MobileNetV2"))[0]
    with pytest.raises(UnavailableError, match=r"transfer\.backbone\.weights_file.*no network"):
        BareRun(tmp_path / "store", tensorflow_ready)(stage)
