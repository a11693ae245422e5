"""A model of an earlier run as the backbone: found, in the key, and refused if it saw too much."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.bare import BareRun
from flows.planning.plan import CACHED, Planned, PlannedRun
from flows.planning.stage_selection import EVERYTHING
from flows.recipe import stages
from flows.recipe.backbone import backbone_transfer, stages_of
from flows.recipe.contents import stage_names
from flows.recipe.earlier import _splits, find_earlier
from tasks.core.errors import UserError
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.replicates import Replicate
from tasks.engine.keys import basis_of
from tasks.storage.run_log import RunLog, now
from tasks.storage.store import Store

SHORT = {"epochs": 1, "fine_tune_epochs": 1, "batch_size": 32, "dense": 16}
NETWORK = {"filters": (8, 12), "kernel_sizes": (3, 3), "pooled": (True, True), "dense": (16,)}
SPLITS = {"train": 70, "validation": 30, "test": 40}


def settings_with(backbone: str | None = None, seed: int = 0, **values: Any) -> Settings:
    transfer: dict[str, Any] = {"weights": "required", "variant": "none"}
    if backbone:
        transfer["backbone"] = {**SHORT, "name": backbone}
    return Settings.model_validate(
        {
            "dataset": "synthetic",
            "synthetic": {"train": 160, "test": 40},
            "subset": {**SPLITS, "seed": seed},
            "overfitting": {**NETWORK, "epochs": 1},
            "plan": [],
            "transfer": transfer,
            **values,
        }
    )


def log_of(store: Store, run_id: str, made: Mapping[str, Record], settings: Settings) -> None:
    log = RunLog(store, run_id)
    log.begin(settings.model_dump(mode="json"), {}, None)
    for record in made.values():
        log.stage(record, "completed", now())
    log.end("done")


@pytest.fixture(scope="module")
def earlier(tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run `first` that trained a model, one with a fold left out, and a final."""
    root = tmp_path_factory.mktemp("store")
    run, settings = BareRun(root, tensorflow_ready), settings_with()
    arrays = run.preprocessed(settings)
    run(stages.train("overfitting", settings.overfitting, Replicate(1, None, 1)), arrays=arrays)
    run(stages.retrain(settings.overfitting, Replicate(1, None, 1)), arrays=arrays)
    # A model of two dense layers can be no backbone.
    flat = settings.overfitting.model_copy(update={"filters": (), "kernel_sizes": (), "pooled": ()})
    run(stages.train("low_capacity", flat, Replicate(1, None, 1)), arrays=arrays)
    log_of(run.store, "first", run.made, settings)
    return root


@pytest.fixture
def store(earlier: Path, tmp_path: Path) -> Path:
    return shutil.copytree(earlier, tmp_path / "store")


def transferred(root: Path, profile: Mapping[str, Any], settings: Settings) -> BareRun:
    run = BareRun(root, profile)
    arrays = run.preprocessed(settings)
    backbone_transfer(run, settings, run.made["subset"], arrays)
    return run


def test_a_model_that_saw_training_images_only_is_cut_and_tuned(
    store: Path, tensorflow_ready: Mapping[str, Any]
) -> None:
    settings = settings_with("run:first/overfitting")
    run = transferred(store, tensorflow_ready, settings)
    facts = run.made["backbone"].facts
    assert (facts["source"], facts["pixels"]) == ("run", "unit")
    assert facts["input_shape"] == [28, 28, 1]
    assert len(facts["feature_shape"]) == 3, "before it is flattened"
    assert run.made["backbone_check"].facts == {"images": 70}
    assert run.made["backbone_fine_tuned"].facts["params"] > facts["params"]
    # Its weights are where the other training left them.
    import keras

    def kernel(stage: str, name: str) -> np.ndarray:
        with run.store.opened(run.made[stage], "model") as file:
            model: Any = keras.models.load_model(Path(file.name), compile=False)
        found: np.ndarray = model.get_layer(name).get_weights()[0]
        return found

    first = RunLog(run.store, "first").record("overfitting")
    assert first is not None
    run.made["overfitting"] = first
    name = "conv_1"
    np.testing.assert_array_equal(kernel("backbone", name), kernel("overfitting", name))


def test_the_model_of_a_transfer_remembers_what_its_own_backbone_saw(
    store: Path, tensorflow_ready: Mapping[str, Any]
) -> None:
    """A second run with other splits than the first; then a third with those of the second."""
    other = {"train": 160, "test": 40, "seed": 5}
    settings = settings_with("run:first/overfitting", synthetic=other)
    run = transferred(store, tensorflow_ready, settings)
    log_of(run.store, "second", run.made, settings)
    third = settings_with("run:second/backbone_frozen", synthetic=other)
    found = find_earlier(run.store, third)
    assert found.trained_on == ("train", "seen")
    again = transferred(store, tensorflow_ready, third)
    assert again.made["backbone_check"].facts == {"images": 140}
    # With the images of the first run, nobody may judge it any more.
    back = settings_with("run:second/backbone_frozen", seed=3)
    with pytest.raises(UserError, match=r"the model was trained on .* validation"):
        transferred(store, tensorflow_ready, back)


@pytest.mark.parametrize(
    ("model", "seed", "message"),
    [
        ("final", 0, "trained on 30 validation images of this run"),
        ("overfitting", 1, r"trained on \d+ validation images of this run"),
        ("low_capacity", 0, "no layer of the model has height and width"),
        ("iteration_3", 0, "there is no model 'iteration_3' in run first; models of run first: "),
    ],
)
def test_what_makes_no_sense_is_refused(
    store: Path,
    tensorflow_ready: Mapping[str, Any],
    model: str,
    seed: int,
    message: str,
) -> None:
    settings = settings_with(f"run:first/{model}", seed)
    with pytest.raises(UserError, match=message):
        transferred(store, tensorflow_ready, settings)


def test_a_run_that_is_not_there_is_named(store: Path) -> None:
    with pytest.raises(UserError, match="no run 'gone' in"):
        find_earlier(Store(str(store)), settings_with("run:gone/final"))


@pytest.mark.parametrize("name", ["run:", "run:first", "run:first/", "run:/final"])
def test_a_name_without_run_or_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected run:<run id>/<model>"):
        settings_with(name)


def test_a_model_with_folds_saw_a_part_of_both_splits(
    store: Path, tensorflow_ready: Mapping[str, Any]
) -> None:
    run, settings = BareRun(store, tensorflow_ready), settings_with()
    arrays = run.preprocessed(settings)
    record = run(
        stages.train("overfitting", settings.overfitting, Replicate(1, None, 1)), arrays=arrays
    )
    folded = {**record.basis, "settings": {**record.basis["settings"], "fold": 2}}

    assert _splits(record) == ("train",)
    assert _splits(replace(record, basis=folded)) == ("train", "validation")


def test_a_plan_knows_the_earlier_model(store: Path, tensorflow_ready: Mapping[str, Any]) -> None:
    settings = settings_with("run:first/overfitting")
    run = transferred(store, tensorflow_ready, settings)
    planned = PlannedRun(run.store, tensorflow_ready, EVERYTHING)

    def there(name: str) -> Planned:
        return planned.known(name, run.made[name])

    for name in ("subset", "preprocess"):
        planned.earlier(name, run.made[name])
    made = backbone_transfer(planned, settings, there("subset"), there("preprocess"))
    states = {name: item.state for name, item in made.items() if not name.startswith("curves")}
    assert set(states.values()) == {CACHED}
    assert made["backbone"].needs == ()
    names = [name for name in stage_names(settings) if name.startswith("backbone")]
    assert names[:3] == ["backbone", "backbone_check", "backbone_features"]


def test_the_key_holds_the_model_s_digest_not_its_run(
    store: Path, tensorflow_ready: Mapping[str, Any]
) -> None:
    run = transferred(store, tensorflow_ready, settings_with("run:first/overfitting"))
    first = RunLog(run.store, "first")
    made = {name: first.record(name) for name in ("load", "subset", "overfitting")}
    log_of(run.store, "twin", {k: v for k, v in made.items() if v}, settings_with())
    twin = transferred(store, tensorflow_ready, settings_with("run:twin/overfitting"))
    assert twin.made["backbone"] == run.made["backbone"]
    assert "backbone" in twin.cached
    stage = stages_of(settings_with("run:first/overfitting"))[0]
    assert "first" not in str(basis_of(stage, {}, tensorflow_ready))


def test_the_same_pictures_in_another_size_are_refused(
    tmp_path: Path, tensorflow_ready: Mapping[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("coat", "shoe"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")

    def own(side: int, backbone: str | None = None) -> Settings:
        values: dict[str, Any] = {"dataset": str(tmp_path / "pictures"), "images": {"side": side}}
        return settings_with(backbone, subset={}, **values)

    run = BareRun(tmp_path / "store", tensorflow_ready)
    arrays = run.preprocessed(own(32))
    run(stages.train("overfitting", own(32).overfitting, Replicate(1, None, 1)), arrays=arrays)
    log_of(run.store, "small", run.made, own(32))
    assert find_earlier(run.store, own(32, "run:small/overfitting")).trained_on == ("train",)
    with pytest.raises(UserError, match=r"read the same data set with other settings of images\."):
        find_earlier(run.store, own(40, "run:small/overfitting"))
