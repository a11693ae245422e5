"""A model is found by path or by name, compared with its record, and refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.data.photographs import ImageFormat
from tasks.core.errors import StageError, UserError
from tasks.core.records import Record, Stage
from tasks.models.model_lookup import find_model
from tasks.storage.files import content_digest
from tasks.storage.run_log import DONE, RunLog
from tasks.storage.store import Store
from tests.support import basis, on_disk, spec_of
from tests.tasks.models.usages import OLD_USAGE, USAGE, written

ENTRY: dict[str, Any] = {"settings": {}, "profile": {}, "flow_run": None}


def finished_run(store: Store, run_id: str, stage: str, **files: bytes) -> Record:
    """Add a run to the store with one stage that has these files."""
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


def test_the_latest_run_with_the_stage_is_used(store: Store) -> None:
    finished_run(store, "20260101-1", "final", model=b"one", usage=written(USAGE))
    finished_run(store, "20260102-1", "final", model=b"two", usage=written(USAGE))
    finished_run(store, "20260103-1", "baseline", model=b"three", usage=written(USAGE))
    found = find_model(None, None, store)
    assert found.title == "final of run 20260102-1"
    assert found.path.read_bytes() == b"two"
    assert found.sha256 == content_digest(b"two")
    assert found.usage.image_format == ImageFormat(4, 4, 1, background=0.0)
    assert find_model("final", "20260101-1", store).path.read_bytes() == b"one"
    assert find_model("baseline", None, store).path.read_bytes() == b"three"


def test_missing_models_are_explained(store: Store) -> None:
    with pytest.raises(UserError, match=r"no run in .* yet; start one"):
        find_model(None, None, store)
    finished_run(store, "r1", "baseline", model=b"one", usage=written(USAGE))
    finished_run(store, "r1", "gate_1", verdict=b"no model")
    with pytest.raises(UserError, match=r"no model 'final' in any run.*: baseline\. Choose one"):
        find_model(None, None, store)
    with pytest.raises(UserError, match="no model 'gate_1' in run r1"):
        find_model("gate_1", "r1", store)
    with pytest.raises(UserError, match="no run 'r2'"):
        find_model("baseline", "r2", store)


def test_a_damaged_model_is_refused(store: Store) -> None:
    record = finished_run(store, "r1", "final", model=b"one", usage=written(USAGE))
    path = on_disk(store.root) / record.files["model"].path
    find_model(str(path), None, store)
    path.write_bytes(b"two")
    for model in (None, str(path), str(path.parent)):
        with pytest.raises(StageError, match="does not match its"):
            find_model(model, None, store)


def test_a_missing_or_invalid_usage_is_explained(store: Store, tmp_path: Path) -> None:
    finished_run(store, "r1", "final", model=b"one")
    with pytest.raises(UserError, match=r"final of run r1 was made before .* --only final"):
        find_model(None, None, store)
    finished_run(store, "r2", "final", model=b"one", usage=written(OLD_USAGE))
    with pytest.raises(UserError, match=r"image: .*earlier versions lack some fields"):
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


def test_control_characters_in_names_are_escaped(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    (folder / "a.keras").touch()
    (folder / "usage.json").write_bytes(written(USAGE | {"class_names": ["\x1b[31m", "b"]}))
    found = find_model(str(folder), None, store)
    assert found.usage.class_names[0] == "\\x1b[31m"
    assert found.title == f"{tmp_path}/caf\\udce9/a.keras"


def test_models_are_found_by_path(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(UserError, match=r"one \.keras or \.h5 file in it, found none"):
        find_model(str(folder), None, store)
    (folder / "usage.json").write_bytes(written(USAGE))
    (folder / "shoes.keras").write_bytes(b"one")
    assert find_model(str(folder), None, store).path == folder / "shoes.keras"
    assert find_model(f"{folder}/shoes.keras", None, store).sha256 == content_digest(b"one")
    with pytest.raises(UserError, match="leave --run out"):
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
