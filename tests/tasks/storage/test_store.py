"""A result is a hit only if every byte of it is intact; files are whole or missing."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.arithmetic import Arithmetic
from tasks.core.data.rows import blocks
from tasks.core.errors import SealedError, StageError, StorageError, UserError
from tasks.core.names import FACTS
from tasks.core.records import Record, Skipped, Stage, digest_of
from tasks.core.training.progress import Progress
from tasks.storage import local_path
from tasks.storage.checkpoints import Checkpoints
from tasks.storage.exchange import Inputs, Outputs
from tasks.storage.run_log import RunLog
from tasks.storage.store import Miss, Store
from tests.processes import python
from tests.support import basis, on_disk, spec_of

ROOT = Path(__file__).resolve().parents[3]
PROFILE = {"device": "cpu", "threads": 2}
STAGE = Stage("subset", spec_of("subset", seed=1, train=10), {"raw": ("train", FACTS)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def fill(outputs: Outputs) -> None:
    outputs.arrays("train", x=np.arange(12, dtype=np.float32).reshape(3, 4), y=np.eye(3))
    outputs.table("labels", pa.table({"label": [1, 2, 3]}))


def committed(store: Store, stage: Stage = STAGE, key: str = "0123456789abcdef" * 4) -> Record:
    outputs = store.writer(stage, key, basis(why="test"))
    fill(outputs)
    return store.commit(outputs, {"classes": 3})


def path_of(store: Store, record: Record, name: str = "train") -> Path:
    return on_disk(store.root) / record.files[name].path


def record_path(store: Store, record: Record) -> Path:
    return path_of(store, record).parent / "record.json"


def reason(store: Store, record: Record, stage: Stage = STAGE) -> str:
    found = store.lookup(stage, record.key)
    assert isinstance(found, Miss), "a damaged stage was taken for a hit"
    return found.reason


# Commit and lookup


def test_a_committed_result_is_found(store: Store) -> None:
    record = committed(store)
    assert store.lookup(STAGE, record.key) == record
    assert store.record("subset", record.key) == record
    assert (record.stage, record.kind, record.facts) == ("subset", "subset", {"classes": 3})
    file = record.files["train"]
    assert (file.kind, file.size) == ("npz", path_of(store, record).stat().st_size)
    assert file.schema == {"x": "float32 [3, 4]", "y": "float64 [3, 3]"}
    assert record.files["labels"].schema == {"label": "int64", "rows": 3}
    assert not Path(file.path).is_absolute()


def test_a_store_that_is_moved_keeps_its_hits(store: Store, tmp_path: Path) -> None:
    record = committed(store)
    shutil.move(on_disk(store.root), tmp_path / "moved")
    assert Store(str(tmp_path / "moved")).lookup(STAGE, record.key) == record


def test_files_without_a_record_are_a_miss(store: Store) -> None:
    fill(store.writer(STAGE, "b" * 64, basis()))
    assert store.lookup(STAGE, "b" * 64) == Miss(
        "not computed yet with these settings, inputs and code"
    )
    with pytest.raises(StageError, match=r"record of subset can't be read.*run the flow again"):
        store.record("subset", "b" * 64)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["train", "labels"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"has \d+ bytes instead of \d+"),
        (lambda path: path.write_bytes(path.read_bytes() + b"."), r"has \d+ bytes instead of"),
        (lambda path: path.write_bytes(b""), r"has 0 bytes instead of \d+"),
        (flip_a_bit, "has other content"),
    ],
    ids=["missing", "truncated", "longer", "emptied", "one bit"],
)
def test_a_damaged_file_is_a_miss(
    store: Store, name: str, damage: Callable[[Path], Any], said: str
) -> None:
    record = committed(store)
    damage(path_of(store, record, name))
    assert re.match(f"{name} {said}.*: stages/", reason(store, record))
    with pytest.raises(StageError, match="run again"):
        store.content(record, name)


@pytest.mark.parametrize(
    ("replacement", "said"),
    [
        (b"", "Expecting value"),
        (b"{}", "digest does not match"),
        (b"[1]", "digest does not match"),
        (b"\xff\xfe\x00", "codec can't decode"),
        (b'{"stage": "subset"}', "digest does not match"),
    ],
    ids=["emptied", "no fields", "a list", "no text", "unsigned"],
)
def test_a_replaced_record_is_a_miss(store: Store, replacement: bytes, said: str) -> None:
    record = committed(store)
    record_path(store, record).write_bytes(replacement)
    assert reason(store, record).startswith("its record can't be used: ")
    assert said in reason(store, record)
    with pytest.raises(StageError, match="run the flow again"):
        store.record("subset", record.key)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000],
    ids=["lists", "objects", "closed"],
)
def test_a_record_that_is_nested_too_deeply_is_a_miss(store: Store, text: str) -> None:
    record = committed(store)
    record_path(store, record).write_text(text)
    assert reason(store, record).startswith("its record can't be used: ")
    assert list(store.records("subset")) == []
    with pytest.raises(StageError, match="run the flow again"):
        store.record("subset", record.key)


def test_an_unreadable_record_is_a_miss(store: Store) -> None:
    record = committed(store)
    record_path(store, record).unlink()
    record_path(store, record).mkdir()
    assert reason(store, record) == "its record can't be read: Is a directory"


def test_missing_and_changed_files_are_told_apart(store: Store) -> None:
    record = committed(store)
    flip_a_bit(path_of(store, record))
    with pytest.raises(StageError, match=r"train\.npz does not match its SHA-256; run again to"):
        store.content(record, "train")
    path_of(store, record).unlink()
    with pytest.raises(StageError, match=r"train\.npz is missing; run again to restore it"):
        store.content(record, "train")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_an_error_of_reading_is_raised_unchanged(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whether it may be tried again is not the store's to say."""
    record = committed(store)
    cause = OSError(number, os.strerror(number), str(path_of(store, record)))

    def refuse(_path: Path, _mode: str) -> bytes:
        raise cause

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=r".") as passed:
        store.content(record, "train")
    assert passed.value is cause


def test_a_damaged_record_is_a_miss(store: Store) -> None:
    record = committed(store)
    path = record_path(store, record)
    text = path.read_text()
    path.write_text(text.replace('"classes": 3', '"classes": 4'))
    assert "digest does not match" in reason(store, record)
    path.write_text(text[: len(text) // 2])
    assert "its record can't be used" in reason(store, record)
    path.write_text(text)
    assert store.lookup(STAGE, record.key) == record


def test_another_stage_s_record_is_a_miss(store: Store) -> None:
    record = committed(store)
    other = committed(store, replace(STAGE, name="elsewhere"))
    shutil.copy(record_path(store, other), record_path(store, record))
    assert reason(store, record) == "its record belongs to another stage"


def test_a_key_with_the_same_beginning_is_a_miss(store: Store) -> None:
    record = committed(store)
    alike = record.key[:-1] + "0"
    assert store.lookup(STAGE, alike) == Miss("its record belongs to another stage")


def test_a_damaged_stage_is_restored_by_computing_it_again(store: Store) -> None:
    record = committed(store)
    path = path_of(store, record)
    path.unlink()
    assert "is missing" in reason(store, record)
    assert committed(store) == record
    assert store.lookup(STAGE, record.key) == record


def test_commit_refuses_what_it_cannot_read_back(store: Store) -> None:
    outputs = store.writer(STAGE, "c" * 64, basis())
    fill(outputs)
    flip_a_bit(on_disk(store.root) / outputs.files["train"].path)
    with pytest.raises(StorageError) as refused:
        store.commit(outputs, {})
    for words in (
        "subset: the result can't be read back (train has other content: stages/subset/",
        f"Check the disk of {store.root}; start the run again, or name another store with --store",
    ):
        assert words in str(refused.value)
    assert refused.value.transient, "what a disk gave once it may give another time"
    assert isinstance(store.lookup(STAGE, "c" * 64), Miss)


def test_checkpoints_that_cannot_be_trusted_are_refused(store: Store) -> None:
    def refuse() -> None:
        raise StageError("the code changed")

    outputs = store.writer(STAGE, "c" * 64, basis())
    outputs.check = refuse
    with pytest.raises(StageError, match="the code changed"):
        outputs.checkpoints({}, 3).save(progress(1))
    assert list(outputs.folder.iterdir()) == []


# Trainings in the making


def progress(epochs: int) -> Progress:
    rows = tuple({"epoch": float(epoch), "val_loss": 1.0} for epoch in range(1, epochs + 1))
    return Progress(rows, (np.full(3, epochs, np.float32),))


def epoch_of(checkpoints: Checkpoints) -> int:
    found = checkpoints.latest()
    return found.epoch if found else 0


TRAINING = Stage(
    "iteration_1", spec_of("train", seed=1, epochs=9), {"beginning": ()}, snapshots=(2,)
)


def training_of(store: Store, stage: Stage = TRAINING, **given: Any) -> tuple[Outputs, Checkpoints]:
    profile = PROFILE if stage.spec.arithmetic is Arithmetic.NETWORK else {}
    values = stage.spec.as_json()
    stands_for = basis(stage=stage.name, settings=values, profile=profile)
    outputs = store.writer(stage, digest_of(stands_for), stands_for, **given)
    return outputs, outputs.checkpoints({"seed": values["seed"]}, values["epochs"])


def trained_for(store: Store, stage: Stage, epochs: int) -> Record:
    outputs, checkpoints = training_of(store, stage)
    for epoch in range(1, epochs + 1):
        checkpoints.save(progress(epoch))
    fill(outputs)
    return store.commit(outputs, {})


def test_the_writer_removes_only_temporary_files_of_a_killed_process(store: Store) -> None:
    outputs, checkpoints = training_of(store)
    checkpoints.save(progress(2))
    checkpoints.save(progress(3))
    before = sorted(on_disk(outputs.folder).iterdir())
    for name in (".part-1.npz", ".part-2"):
        (on_disk(outputs.folder) / name).write_bytes(b"half of")
    (on_disk(outputs.folder) / "model.keras").write_bytes(b"whole")
    _, again = training_of(store)
    assert set(outputs.folder.iterdir()) == {*before, outputs.folder / "model.keras"}
    assert epoch_of(again) == 3


def test_a_refreshed_training_starts_from_scratch(store: Store) -> None:
    longer = replace(TRAINING, name="overfitting", spec=spec_of("train", seed=1, epochs=12))
    given: dict[str, Any] = {"inputs": {"beginning": trained_for(store, longer, 12)}}
    outputs, checkpoints = training_of(store, **given)
    assert epoch_of(checkpoints) == 2
    checkpoints.save(progress(5))
    assert epoch_of(training_of(store, **given)[1]) == 5
    outputs, checkpoints = training_of(store, **given, from_scratch=True)
    assert epoch_of(checkpoints) == 0
    assert list(outputs.folder.iterdir()) == []
    assert epoch_of(training_of(store, **given)[1]) == 2, "the other's snapshot is its own"


def test_a_committed_training_keeps_snapshots_only(store: Store) -> None:
    record = trained_for(store, TRAINING, 3)
    names = {path.name[:15] for path in store.folder(record.stage, record.key).iterdir()}
    assert names == {"train.npz", "labels.parquet", "record.json", "snapshot-000002"}


def test_a_refused_commit_keeps_the_checkpoints(store: Store) -> None:
    outputs, checkpoints = training_of(store)
    checkpoints.save(progress(3))
    fill(outputs)
    flip_a_bit(on_disk(store.root) / outputs.files["train"].path)
    with pytest.raises(StorageError):
        store.commit(outputs, {})
    assert epoch_of(training_of(store)[1]) == 3


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (TRAINING, 2),
        (replace(TRAINING, name="iteration_7"), 2),
        (replace(TRAINING, spec=spec_of("train", seed=1, epochs=20)), 2),
        (replace(TRAINING, spec=spec_of("train", seed=1, epochs=1)), 0),
        (replace(TRAINING, spec=spec_of("train", seed=2, epochs=9)), 0),
        (replace(TRAINING, spec=spec_of("retrain", seed=1, epochs=9)), 0),
        (
            replace(
                TRAINING, spec=spec_of("train", arithmetic=Arithmetic.NETWORK, seed=1, epochs=9)
            ),
            0,
        ),
    ],
    ids=["itself", "name", "more epochs", "fewer", "settings", "kind", "profile"],
)
def test_trainings_of_one_lineage_differ_in_name_and_epochs_only(
    store: Store, other: Stage, expected: int
) -> None:
    record = trained_for(store, TRAINING, 3)
    _, checkpoints = training_of(store, other, inputs={"beginning": record})
    assert epoch_of(checkpoints) == expected


def test_a_training_does_not_begin_from_an_input_that_it_reads(store: Store) -> None:
    record = trained_for(store, TRAINING, 3)
    reads = {"arrays": ("train",), "facts": (FACTS,), "beginning": ()}
    stage = replace(TRAINING, name="iteration_7", reads=reads)
    for role, expected in (("arrays", 0), ("facts", 0), ("no role", 0), ("beginning", 2)):
        outputs = store.writer(stage, "e" * 64, basis(), {role: record})
        beginnings = (store.folder(record.stage, record.key),) if expected else ()
        assert outputs.snapshot_folders == beginnings
    both = {"arrays": committed(store), "beginning": record}
    outputs = store.writer(stage, "e" * 64, basis(), both)
    assert outputs.snapshot_folders == (store.folder(record.stage, record.key),)


def test_the_stage_s_folder_replaces_a_file_of_its_name(store: Store) -> None:
    record = committed(store)
    folder = on_disk(store.folder(record.stage, record.key))
    shutil.rmtree(folder)
    folder.write_bytes(b"in the way")
    assert "its record can't be " in reason(store, record)
    assert committed(store) == record
    assert store.lookup(STAGE, record.key) == record


@pytest.mark.parametrize("target", ["nowhere", "0123456789abcdef"], ids=["dangling", "circular"])
def test_a_stage_s_folder_replaces_a_link_that_leads_nowhere(store: Store, target: str) -> None:
    record = committed(store)
    folder = on_disk(store.folder(record.stage, record.key))
    folder.remove_tree()
    folder.symlink_to(target)
    assert reason(store, record)
    assert committed(store) == record
    assert store.lookup(STAGE, record.key) == record


@pytest.mark.parametrize("name", ["train.npz", "labels.parquet", "record.json"])
def test_a_stage_s_file_replaces_a_link_and_not_what_it_leads_to(
    store: Store, name: str, tmp_path: Path
) -> None:
    record = committed(store)
    path = on_disk(store.folder(record.stage, record.key)) / name
    path.unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"somebody's")
    path.symlink_to(tmp_path / "other")
    assert reason(store, record)
    assert committed(store) == record
    assert store.lookup(STAGE, record.key) == record
    assert (tmp_path / "other" / "file").read_bytes() == b"somebody's"


@pytest.mark.parametrize("name", ["train.npz", "labels.parquet", "record.json"])
def test_a_stage_s_file_replaces_a_folder_of_its_name(store: Store, name: str) -> None:
    record = committed(store)
    path = on_disk(store.folder(record.stage, record.key)) / name
    path.unlink()
    path.mkdir()
    (path / "file").write_bytes(b"in the way")
    assert reason(store, record)
    assert committed(store) == record
    assert store.lookup(STAGE, record.key) == record
    assert path.is_file()


def test_a_training_does_not_begin_from_a_skipped_input(store: Store) -> None:
    outputs, _ = training_of(store, inputs={"beginning": Skipped("overfitting", "offline")})
    assert outputs.snapshot_folders == ()


def test_records_of_a_stage_are_the_readable_ones(store: Store) -> None:
    assert list(store.records("subset")) == []
    first, second, third = (committed(store, key=letter * 64) for letter in "abc")
    record_path(store, second).write_bytes(b"{}")
    path_of(store, third).unlink()
    assert list(store.records("subset")) == [first, third]
    assert list(store.records("load")) == []


# Writing


def broken_writer(path: Path) -> None:
    path.write_bytes(b"half of")
    raise OSError(28, "No space left on device")


def test_a_writer_that_fails_leaves_nothing(store: Store) -> None:
    outputs = store.writer(STAGE, "d" * 64, basis())
    with pytest.raises(OSError, match="No space left"):
        outputs.file("model", "keras", broken_writer)
    assert list(outputs.folder.iterdir()) == []
    assert outputs.files == {}


def test_a_writer_that_fails_keeps_the_old_file(store: Store) -> None:
    outputs = store.writer(STAGE, "d" * 64, basis())
    outputs.blob("model", "keras", b"the first")
    before = outputs.files["model"]
    with pytest.raises(OSError, match="No space left"):
        outputs.file("model", "keras", broken_writer)
    assert [path.read_bytes() for path in outputs.folder.iterdir()] == [b"the first"]
    assert outputs.files == {"model": before}


def test_temporary_files_have_the_suffix_of_their_format(store: Store) -> None:
    seen: list[Path] = []

    def write(path: Path) -> None:
        seen.append(path)
        path.write_bytes(b"x")

    outputs = store.writer(STAGE, "d" * 64, basis())
    outputs.file("model", "keras", write)
    assert seen[0].suffix == ".keras"
    assert seen[0].parent == on_disk(outputs.folder)
    assert [path.name for path in outputs.folder.iterdir()] == ["model.keras"]


DIE_HALFWAY = """
import os, signal, sys
from tasks.core.records import Stage
from tasks.core.stage_specs import SubsetSpec
from tasks.storage.exchange import Outputs
from tasks.storage.local_path import LocalPath
def write(path):
    path.write_bytes(b"half of")
    os.kill(os.getpid(), signal.SIGKILL)
folder = LocalPath(sys.argv[1])
stage = Stage("a", SubsetSpec.model_construct())
Outputs(folder, folder, stage, "key", {}).file("model", "keras", write)
"""


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"the first")
    with python(DIE_HALFWAY, str(tmp_path)) as process:
        assert process.wait(30) == -signal.SIGKILL
    assert (tmp_path / "model.keras").read_bytes() == b"the first"
    strays = [path.name for path in tmp_path.iterdir() if path.name != "model.keras"]
    assert all(name.startswith(".part-") for name in strays)


def test_the_same_content_has_the_same_bytes_at_any_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = committed(store, key="e" * 64)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1e6)
    second = committed(store, key="f" * 64)
    for name in ("train", "labels"):
        contents = [path_of(store, record, name).read_bytes() for record in (first, second)]
        assert contents[0] == contents[1]
        assert first.files[name].path != second.files[name].path
    assert first.digest(("train", "labels", FACTS)) == second.digest(("train", "labels", FACTS))


def test_object_arrays_are_refused(store: Store) -> None:
    outputs = store.writer(STAGE, "d" * 64, basis())
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        outputs.arrays("train", x=np.array([{"a": 1}], dtype=object))
    assert list(outputs.folder.iterdir()) == []


def test_object_arrays_are_not_read_either(store: Store) -> None:
    packed = io.BytesIO()
    np.savez(packed, x=np.array([{"a": 1}], dtype=object))
    outputs = store.writer(STAGE, "d" * 64, basis())
    outputs.blob("train", "npz", packed.getvalue())
    record = store.commit(outputs, {})
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        inputs(store, record).arrays("split", "train")


# Reading


def inputs(store: Store, given: Record | Skipped, **reads: tuple[str, ...]) -> Inputs:
    stage = Stage("train_1", spec_of("train"), reads or {"split": ("train",)})
    return store.inputs(stage, {"split": given})


def rows(found: Inputs, name: str) -> list[Any]:
    return list(blocks(found.by_rows("split", name)["x"], 2))


def test_declared_files_are_read(store: Store) -> None:
    record = committed(store)
    found = inputs(store, record, split=("train", "labels", FACTS))
    assert found.arrays("split", "train")["x"].tolist()[1] == [4, 5, 6, 7]
    read = rows(found, "train")
    assert [len(batch) for batch in read] == [2, 1]
    assert np.concatenate(read).tolist() == found.arrays("split", "train")["x"].tolist()
    assert found.by_rows("split", "train")["x"][1:2].tolist() == [[4, 5, 6, 7]]
    assert found.table("split", "labels").to_pydict() == {"label": [1, 2, 3]}
    assert found.facts("split") == {"classes": 3}
    assert found.path("split", "train") == path_of(store, record)
    assert found.skipped("split") is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda found: found.arrays("split", "test"),
        lambda found: list(rows(found, "test")),
        lambda found: found.by_rows("split", "test"),
        lambda found: found.table("split", "labels"),
        lambda found: found.content("split", "labels"),
        lambda found: found.path("split", "labels"),
        lambda found: found.facts("split"),
        lambda found: found.arrays("another", "train"),
    ],
    ids=["arrays", "rows", "by_rows", "table", "content", "path", "facts", "role"],
)
def test_undeclared_files_are_refused(store: Store, ask: Callable[[Inputs], Any]) -> None:
    found = inputs(store, committed(store))
    with pytest.raises(SealedError, match=r"train_1 asks for .* which its `reads` do not declare"):
        ask(found)


READERS: dict[str, Callable[[Inputs], Any]] = {
    "arrays": lambda found: found.arrays("split", "train"),
    "rows": lambda found: list(rows(found, "train")),
    "by_rows": lambda found: found.by_rows("split", "train"),
    "content": lambda found: found.content("split", "train"),
    "path": lambda found: found.path("split", "train"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_file_changed_since_the_lookup_is_refused(
    store: Store, read: Callable[[Inputs], Any]
) -> None:
    record = committed(store)
    flip_a_bit(path_of(store, record))
    with pytest.raises(StageError, match=r"train\.npz does not match its SHA-256"):
        read(inputs(store, record))
    path_of(store, record).unlink()
    with pytest.raises(StageError, match=r"train\.npz is missing"):
        read(inputs(store, record))


COUNT_THREADS = """
import os, sys
import pyarrow.parquet
from tasks.storage.store import Store
store = Store(sys.argv[1])
(record,) = store.records("subset")
before = len(os.listdir("/proc/self/task"))
rows = store.table(record, "labels").to_pylist()
print(len(rows), len(os.listdir("/proc/self/task")) - before)
"""


def test_tables_are_read_without_starting_a_thread(store: Store) -> None:
    """Arrow's threads abort a process that ends soon after, now and then on a busy machine."""
    committed(store)
    with python(COUNT_THREADS, str(store.root)) as process:
        printed, _ = process.communicate(timeout=60)
    assert printed == "3 0\n"


def test_a_skipped_input_says_so(store: Store) -> None:
    found = inputs(store, Skipped("load", "offline"))
    assert found.skipped("split") == "offline"
    with pytest.raises(StageError, match="input split of train_1 was skipped"):
        found.arrays("split", "train")


# Locks


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_path, "LOCK_POLL_S", 0.01)


def take(store: Store, key: str, events: list[str], waits: threading.Event) -> threading.Thread:
    """A thread that takes the lock once it can; `waits` is set if it can't at first."""

    def run() -> None:
        with store.lock(STAGE, key, waits.set):
            events.append("second")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.usefixtures("quick_polls")
def test_one_thread_at_a_time_holds_a_stage_s_lock(store: Store) -> None:
    events: list[str] = []
    waits = threading.Event()
    with store.lock(STAGE, "a" * 64, lambda: events.append("the first never waits")):
        second = take(store, "a" * 64, events, waits)
        assert waits.wait(10)
        time.sleep(0.05)
        events.append("first")
    second.join(10)
    assert events == ["first", "second"]


@pytest.mark.usefixtures("quick_polls")
def test_a_wait_is_announced_once_and_other_stages_do_not_wait(store: Store) -> None:
    with store.lock(STAGE, "a" * 64, lambda: None), store.lock(STAGE, "b" * 64, pytest.fail):
        announced: list[int] = []
        other = threading.Thread(
            target=lambda: store.lock(STAGE, "a" * 64, lambda: announced.append(1)).__enter__(),
            daemon=True,
        )
        other.start()
        time.sleep(0.1)
        assert announced == [1]
        assert other.is_alive()
    other.join(10)
    assert not other.is_alive()


@pytest.mark.usefixtures("quick_polls")
def test_an_exception_frees_the_lock(store: Store) -> None:
    with pytest.raises(KeyError), store.lock(STAGE, "a" * 64, lambda: None):
        raise KeyError
    with store.lock(STAGE, "a" * 64, pytest.fail):
        pass


HOLD = """
import sys, time
from tasks.core.records import Stage
from tasks.core.stage_specs import SubsetSpec
from tasks.storage.store import Store
with Store(sys.argv[1]).lock(Stage("subset", SubsetSpec.model_construct()), "a" * 64, lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.usefixtures("quick_polls")
def test_a_killed_process_holds_no_lock(store: Store) -> None:
    with python(HOLD, str(store.root)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        events: list[str] = []
        waits = threading.Event()
        second = take(store, "a" * 64, events, waits)
        assert waits.wait(10)
        time.sleep(0.05)
        assert events == []
        process.kill()
        killed = time.monotonic()
        second.join(10)
        assert events == ["second"]
        assert time.monotonic() - killed < 5


# Scorings


def test_scorings_are_those_of_the_same_test_data(store: Store) -> None:
    assert store.scorings("digest") == []
    for model, data in (("baseline", "digest"), ("final", "other"), ("final", "digest")):
        store.log_scoring({"model": model, "test_data": data})
    assert [entry["model"] for entry in store.scorings("digest")] == ["baseline", "final"]


# Addresses


@pytest.mark.parametrize("url", ["gs://x", "http://host/store", "s4://bucket"])
def test_a_url_of_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"expected a folder, or s3://bucket/prefix"):
        Store(url)


@pytest.mark.parametrize("there", [[], ["x"], ["x/notes.md", "locks/a.lock", "stage/load/x"]])
def test_a_folder_without_runs_is_not_a_store(tmp_path: Path, there: list[str]) -> None:
    for name in there:
        (tmp_path / name).mkdir(parents=True)
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"there is no store in .*; name it with --store"):
            Store(str(root)).check_exists()
    assert not (tmp_path / "none").exists()


def test_any_part_of_a_store_makes_a_folder_a_store(tmp_path: Path) -> None:
    stores = [Store(str(tmp_path / name)) for name in "abc"]
    committed(stores[0])
    RunLog(stores[1], "run-1").taken("load", "a" * 64)
    stores[2].log_scoring({"model": "final"})
    for store in stores:
        store.check_exists()


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder"):
        Store(str(tmp_path / "store"))


def test_paths_and_file_urls_name_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    roots = {str(Store(url).root) for url in ("x", "~/x", f"{tmp_path}/x", f"file://{tmp_path}/x")}
    assert roots == {f"{tmp_path}/x"}
    assert not (tmp_path / "x").exists(), "nothing is made before something is stored"


def test_the_record_on_disk_is_plain_signed_json(store: Store) -> None:
    record = committed(store)
    body = json.loads(record_path(store, record).read_text())
    assert body.pop("digest") == digest_of(body)
    assert set(body) == {"stage", "kind", "key", "files", "facts", "basis", "marks"}


def test_an_empty_name_is_not_taken_for_the_current_folder() -> None:
    """As a script gives it in which the variable in `--store "$STORE"` is not set."""
    for url in ("", "file://"):
        with pytest.raises(UserError, match="the store's name is empty; give a folder"):
            Store(url)


def test_a_store_below_a_folder_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    with pytest.raises(UserError, match="store artifacts: the current folder was removed; change"):
        Store("artifacts")


def test_a_store_whose_name_is_not_utf_8_is_refused_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"store '.*udcff': its name is not valid UTF-8; rename"):
        Store(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).check_usable()


def test_a_pipe_in_the_place_of_a_record_is_not_read_forever(store: Store) -> None:
    record = committed(store)
    path = on_disk(store.folder(STAGE.name, record.key)) / "record.json"
    path.unlink()
    os.mkfifo(path)
    found = store.lookup(STAGE, record.key)
    assert isinstance(found, Miss)
    assert found.reason == "its record can't be read: not a regular file"
