"""Models are found by path or by name, compared with their records, and refused with a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.core.data.photographs import ImageFormat
from tasks.core.errors import FashionFlowError, StageError, UserError
from tasks.core.records import Record, Stage
from tasks.models.classifier import Classifier, Prediction, TrainedModel, find_model, predictions
from tasks.sources.pictures import Unreadable, read_pictures
from tasks.storage.files import content_digest
from tasks.storage.run_log import DONE, RunLog
from tasks.storage.store import Store
from tests.support import basis, on_disk, spec_of

USAGE: dict[str, Any] = {
    "dataset": "shoes",
    "class_names": ["left", "right"],
    "image": {"shape": [4, 4, 1], "dtype": "uint8", "ground": 0.0},
    "input": {"shape": ["n", 4, 4, 1], "dtype": "float32", "method": "scaled"},
}
OLD_USAGE = {key: USAGE[key] for key in ("dataset", "class_names")} | {
    "input": {"shape": ["n", 4, 4, 1], "preprocessing": "uint8 pixels divided by 255"}
}
ENTRY: dict[str, Any] = {"settings": {}, "profile": {}, "flow_run": None}


def leave(store: Store, run_id: str, stage: str, **files: bytes) -> Record:
    """A run that left a stage with these files."""
    what = Stage(stage, spec_of("train"))
    key = content_digest(repr((run_id, stage, files)).encode())
    outputs = store.writer(what, key, basis())
    for name, content in files.items():
        outputs.blob(name, "json" if name == "usage" else "keras", content)
    record = Record(stage, "train", key, dict(outputs.files), {}, basis())
    (on_disk(store.folder(stage, key)) / "record.json").write_text(record.to_json())
    run = RunLog(store, run_id)
    run.begin(**ENTRY)
    run.stage(record, "completed", "2026-01-01")
    run.end(DONE)
    return record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def written(usage: Mapping[str, Any]) -> bytes:
    return json.dumps(usage).encode()


def test_the_latest_run_that_has_a_model_is_taken(store: Store) -> None:
    leave(store, "20260101-1", "final", model=b"one", usage=written(USAGE))
    leave(store, "20260102-1", "final", model=b"two", usage=written(USAGE))
    leave(store, "20260103-1", "baseline", model=b"three", usage=written(USAGE))
    found = find_model(None, None, store)
    assert found.title == "final of run 20260102-1"
    assert found.path.read_bytes() == b"two"
    assert found.sha256 == content_digest(b"two")
    assert found.usage.like == ImageFormat(4, 4, 1, 0.0)
    assert find_model("final", "20260101-1", store).path.read_bytes() == b"one"
    assert find_model("baseline", None, store).path.read_bytes() == b"three"


def test_models_that_are_not_there(store: Store) -> None:
    with pytest.raises(UserError, match=r"no run in .* yet; start one"):
        find_model(None, None, store)
    leave(store, "r1", "baseline", model=b"one", usage=written(USAGE))
    leave(store, "r1", "gate_1", verdict=b"no model")
    with pytest.raises(UserError, match=r"no model 'final' in any run.*: baseline\. A folder"):
        find_model(None, None, store)
    with pytest.raises(UserError, match="no model 'gate_1' in run r1"):
        find_model("gate_1", "r1", store)
    with pytest.raises(UserError, match="no run 'r2'"):
        find_model("baseline", "r2", store)


def test_a_model_whose_bytes_are_others_is_refused(store: Store) -> None:
    record = leave(store, "r1", "final", model=b"one", usage=written(USAGE))
    path = on_disk(store.root) / record.files["model"].path
    find_model(str(path), None, store)
    path.write_bytes(b"two")
    for model in (None, str(path), str(path.parent)):
        with pytest.raises(StageError, match="is not what"):
            find_model(model, None, store)


def test_models_without_a_usable_usage(store: Store, tmp_path: Path) -> None:
    leave(store, "r1", "final", model=b"one")
    with pytest.raises(UserError, match=r"final of run r1 was made before .* --only final"):
        find_model(None, None, store)
    leave(store, "r2", "final", model=b"one", usage=written(OLD_USAGE))
    with pytest.raises(UserError, match=r"image: .*earlier versions lack it"):
        find_model(None, None, store)
    path = tmp_path / "model.keras"
    path.write_bytes(b"one")
    with pytest.raises(UserError, match=r"usage\.json is missing"):
        find_model(str(path), None, store)
    beside = tmp_path / "usage.json"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"class_names": ["left"]}, "class_names"),
        ({"image": {"shape": [4, 4, 2], "ground": 0.0}}, r"image\.shape"),
        ({"image": {"shape": [4, 4, 1], "ground": 7}}, r"image\.ground"),
        ({"input": {"shape": ["n", 4, 4, 1], "method": "magic"}}, r"input\.method"),
    ]
    for change, field in wrong:
        beside.write_bytes(written(USAGE | change))
        with pytest.raises(UserError, match=field):
            find_model(str(path), None, store)
    for content in (b"{", b"[]", b"\xff", b"[" * 100_000):
        beside.write_bytes(content)
        with pytest.raises(UserError, match=r"usage\.json"):
            find_model(str(path), None, store)


def test_names_that_would_speak_to_a_terminal_are_escaped(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    (folder / "a.keras").touch()
    (folder / "usage.json").write_bytes(written(USAGE | {"class_names": ["\x1b[31m", "b"]}))
    found = find_model(str(folder), None, store)
    assert found.usage.class_names[0] == "\\x1b[31m"
    assert found.title == f"{tmp_path}/caf\\udce9/a.keras"


def test_paths_of_models(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(UserError, match=r"one \.keras or \.h5 file in it, found none"):
        find_model(str(folder), None, store)
    (folder / "usage.json").write_bytes(written(USAGE))
    (folder / "shoes.keras").write_bytes(b"one")
    assert find_model(str(folder), None, store).path == folder / "shoes.keras"
    assert find_model(f"{folder}/shoes.keras", None, store).sha256 == content_digest(b"one")
    with pytest.raises(UserError, match="leave it out"):
        find_model(str(folder), "r1", store)
    (folder / "more.keras").write_bytes(b"two")
    with pytest.raises(UserError, match=r"found more\.keras, shoes\.keras; name the file"):
        find_model(str(folder), None, store)
    (folder / "old.h5").write_bytes(b"three")
    assert find_model(f"{folder}/old.h5", None, store).sha256 == content_digest(b"three")
    for name in ("shoes.keras", "more.keras"):
        (folder / name).unlink()
    assert find_model(str(folder), None, store).path == folder / "old.h5"
    monkeypatch.chdir(tmp_path)
    assert find_model("mine", None, store).path == Path("mine/old.h5")
    (folder / "old.txt").touch()
    with pytest.raises(UserError, match=r"expected one \.keras or \.h5 file"):
        find_model(f"{folder}/old.txt", None, store)
    with pytest.raises(UserError, match="no such file"):
        find_model(f"{folder}/other.keras", None, store)


# With a real network


@pytest.fixture(scope="module")
def trained(
    tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> TrainedModel:
    """A network that says `right` where the sum of pixels is high."""
    import keras

    from tasks.models.model_files import save_keras

    assert tensorflow_ready
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.set_weights([np.stack([-np.ones(16), np.ones(16)], axis=1), np.array([4.0, -4.0])])
    folder = tmp_path_factory.mktemp("model")
    save_keras(model, folder / "model.keras")
    (folder / "usage.json").write_bytes(written(USAGE))
    return find_model(str(folder), None, Store(str(folder / "store")))


def test_pictures_pass_in_batches_and_in_order(trained: TrainedModel, tmp_path: Path) -> None:
    light = np.arange(600) % 3 == 0
    x = np.where(light[:, None, None], np.uint8(255), np.uint8(0)).repeat(4, 1).repeat(4, 2)
    np.savez(tmp_path / "many.npz", x=x)
    paths = [tmp_path / "many.npz", tmp_path / "nowhere.png", tmp_path / "many.npz"]
    found = list(predictions(read_pictures(paths, trained.usage.like), trained))
    assert len(found) == 1201
    assert isinstance(found[600], Unreadable)
    del found[600]
    assert [item.source for item in found[:2]] == [f"{paths[0]}[0]", f"{paths[0]}[1]"]
    assert all(isinstance(item, Prediction) for item in found)
    best = [item.ranked(1)[0][0] for item in found if isinstance(item, Prediction)]
    assert best == [*light.astype(int), *light.astype(int)]
    first = found[0]
    assert isinstance(first, Prediction)
    assert first.probabilities.sum() == pytest.approx(1)
    assert [index for index, _ in first.ranked(5)] == [1, 0]


def test_nothing_is_loaded_where_nothing_can_be_read(tmp_path: Path) -> None:
    nothing: Any = None
    found = list(predictions(read_pictures([tmp_path / "no"], ImageFormat(4, 4, 1, 0)), nothing))
    assert [type(item) for item in found] == [Unreadable]


def test_files_that_are_no_models_or_others_than_described(
    trained: TrainedModel, tmp_path: Path
) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")

    def refused(changes: dict[str, Any], model: bytes | None = None) -> str:
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(trained.path.parent, folder)
        (folder / "usage.json").write_bytes(written(USAGE | changes))
        if model is not None:
            (folder / "model.keras").write_bytes(model)
        with pytest.raises(FashionFlowError) as error:
            Classifier(find_model(str(folder), None, Store(str(folder / "store"))))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "can't load it" in refused({}, b"no model")
    assert "can't load it" in refused({}, trained.path.read_bytes()[:-500])
    assert "do not belong together" in refused({"class_names": ["a", "b", "c"]})
    larger = {"image": {"shape": [5, 5, 1], "ground": 0.0}}
    assert "do not belong together" in refused(larger)
    assert "do not belong together" in refused(
        larger | {"input": {"shape": ["n", 5, 5, 1], "method": "scaled"}}
    )


def test_h5_models_say_the_same_and_code_in_them_is_refused(
    trained: TrainedModel, tmp_path: Path
) -> None:
    import keras

    from tasks.models.model_files import load_keras, save_h5

    shutil.copy(trained.path.with_name("usage.json"), tmp_path)
    path = tmp_path / "model.h5"
    save_h5(load_keras(trained.path), path)
    images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)
    store = Store(str(tmp_path / "store"))
    found = Classifier(find_model(str(path), None, store)).probabilities(images)
    assert (found == Classifier(trained).probabilities(images)).all()

    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Lambda(lambda x: x[:, 0, :2, 0])(inputs)
    save_h5(keras.Model(inputs, outputs), path)
    with pytest.raises(UserError, match="can't load it"):
        Classifier(find_model(str(path), None, store))
