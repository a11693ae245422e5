"""`verify` finds every fault and writes nothing; `clean` removes only what no kept run needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.records import Record, Skipped, Stage, digest_of
from tasks.core.training.progress import Progress
from tasks.storage import cleaning, inventory
from tasks.storage import run_log as runlog
from tasks.storage.checkpoints import checkpoints
from tasks.storage.cleaning import Cleaning, clean
from tasks.storage.exchange import Outputs
from tasks.storage.inventory import STRAY, UNNAMED
from tasks.storage.local_path import LocalPath
from tasks.storage.run_log import DONE, FAILED, INTERRUPTED, RunLog, now
from tasks.storage.store import RUN_INDEX, Store
from tasks.storage.store_path import StorePath
from tasks.storage.verification import Verification, verify
from tests.disks import read_only, small_disk
from tests.processes import Command
from tests.support import basis, on_disk, spec_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def released() -> None:
    """Give back the locks of the runs that a test began, as the end of the process would."""
    while runlog._held:
        runlog._held.popitem()[1].release()


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    released()


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


def key_of(name: str) -> str:
    """A key of its own for each name of a result, e.g. `load.1`."""
    return digest_of(name)


def left_in_root(store: Store, content: bytes) -> None:
    """What a process that was killed left in the store's root."""
    path = on_disk(store.root) / ".part-x"
    path.write_bytes(content)
    os.utime(path, (time.time() - inventory.TRIED_S - 1,) * 2)


def outputs_of(store: Store, name: str, snapshots: tuple[int, ...] = ()) -> Outputs:
    stage = Stage(name.partition(".")[0], spec_of("load"), snapshots=snapshots)
    return store.writer(stage, key_of(name), basis(code={}))


def committed(store: Store, name: str, size: int = 10) -> Record:
    """A result with two files, e.g. `load.1`: the stage's name, and what tells its keys apart."""
    outputs = outputs_of(store, name)
    outputs.blob("model", "bin", name.encode().ljust(size))
    outputs.blob("history", "bin", b"history")
    return store.commit(outputs, {})


def progress(epochs: int) -> Progress:
    import numpy as np

    rows = tuple({"epoch": float(epoch), "val_loss": 1.0} for epoch in range(1, epochs + 1))
    return Progress(rows, (np.full(7, epochs, np.float32),))


def stopped(store: Store, name: str, epochs: int = 2, snapshots: tuple[int, ...] = ()) -> LocalPath:
    """The folder of a training that was stopped after some epochs."""
    outputs = outputs_of(store, name, snapshots)
    for epoch in range(1, epochs + 1):
        outputs.checkpoints({}, 9).save(progress(epoch))
    return on_disk(outputs.folder)


def begun(store: Store, run_id: str, *used: str, only: tuple[str, ...] = ()) -> RunLog:
    """A run that is going on and has used these results."""
    run = RunLog(store, run_id)
    run.begin({}, {}, None, only)
    for name in used:
        run.taken(name.partition(".")[0], key_of(name))
    return run


def ended(store: Store, run_id: str, *used: str, status: str = DONE, only: str = "") -> RunLog:
    run = begun(store, run_id, *used, only=(only,) if only else ())
    # A run that is done has gone through some stage.
    run.stage(Skipped("vgg16_weights", "offline"), "skipped", now())
    run.end(status)
    return run


def tree(store: Store) -> dict[str, Any]:
    """Every path of a store with its time and content."""
    root = on_disk(store.root)
    return {
        str(path.relative_to(root)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted([root, *root.rglob("*")] if root.exists() else [])
    }


def bytes_in(store: Store) -> int:
    # To the index, `clean` adds a line for each run.
    files = [path for path in store.root.rglob("*") if path.is_file() and path.name != RUN_INDEX]
    return sum(path.stat().st_size for path in files)


def folder(store: Store, name: str) -> LocalPath:
    return on_disk(store.folder(name.partition(".")[0], key_of(name)))


def verified(store: Store) -> Verification:
    """What `verify` finds, having written nothing."""
    before = tree(store)
    found = verify(store)
    assert tree(store) == before
    return found


def findings(items: Any) -> dict[str, str]:
    found = {item.path: item.reason for item in items}
    assert len(found) == len(items)
    return found


# Looking


def test_an_empty_store_has_no_faults(store: Store) -> None:
    assert verify(store) == Verification(0, 0, 0, (), (), ())
    assert not store.root.exists()


def test_intact_results_are_counted(store: Store) -> None:
    records = [committed(store, name, size) for name, size in (("load.1", 10), ("load.2", 300))]
    committed(store, "subset.1", 77)
    ended(store, "run-1", "load.1")
    store.log_scoring({"model": "final"})
    found = verified(store)
    sizes = [file.size for record in records for file in record.files.values()]
    assert (found.records, found.files, found.size) == (3, 6, sum(sizes) + 77 + 7)
    assert (found.damaged, found.orphans, found.unfinished) == ((), (), ())


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def without_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("model.bin", flip_a_bit, "model has other content: stages/load/"),
        ("model.bin", Path.unlink, "model is missing: stages/load/"),
        ("history.bin", without_its_end, "history has 6 bytes instead of 7: stages/load/"),
        ("record.json", flip_a_bit, "its record can't be used: "),
        ("record.json", lambda path: path.write_bytes(b""), "its record can't be used: "),
        ("record.json", lambda path: path.write_bytes(b"\xff"), "its record can't be used: "),
    ],
)
def test_a_damaged_result_is_found(
    store: Store, file: str, damage: Callable[[Path], Any], said: str
) -> None:
    committed(store, "load.1")
    committed(store, "load.2")
    damage(folder(store, "load.1") / file)
    found = verified(store)
    (item,) = found.damaged
    assert item.path == str(folder(store, "load.1").relative_to(on_disk(store.root)))
    assert item.reason.startswith(said)
    assert item.size == sum(path.stat().st_size for path in folder(store, "load.1").iterdir())
    assert (found.records, found.files) == (1, 2)
    assert (found.orphans, found.unfinished) == ((), ())


def test_every_damaged_file_is_reported(store: Store) -> None:
    committed(store, "load.1")
    for name in ("model.bin", "history.bin"):
        flip_a_bit(folder(store, "load.1") / name)
    words = [item.reason.split(":")[0] for item in verified(store).damaged]
    assert sorted(words) == ["history has other content", "model has other content"]


def test_a_record_in_the_wrong_folder_is_found(store: Store) -> None:
    committed(store, "load.1")
    folder(store, "load.1").rename(folder(store, "load.1").with_name("f" * 16))
    found = verified(store)
    assert list(findings(found.damaged).values()) == ["its record belongs to another stage"]
    assert found.records == 0


def test_a_file_that_no_record_names_is_an_orphan(store: Store) -> None:
    committed(store, "load.1")
    (folder(store, "load.1") / "test.bin").write_bytes(b"12345")
    (folder(store, "load.1") / ".part-1.bin").write_bytes(b"123")
    outputs_of(store, "load.2").blob("model", "bin", b"never committed")
    found = verified(store)
    assert {Path(path).name: what for path, what in findings(found.orphans).items()} == {
        "test.bin": UNNAMED,
        ".part-1.bin": STRAY,
        "model.bin": UNNAMED,
    }
    assert sorted(item.size for item in found.orphans) == [3, 5, 15]
    assert (found.records, found.damaged, found.unfinished) == (1, (), ())


def test_temporary_files_outside_the_stages_are_orphans(store: Store) -> None:
    ended(store, "run-1")
    left_in_root(store, b"1")
    (on_disk(store.root) / "runs" / "run-1" / ".part-y.json").write_bytes(b"1")
    assert findings(verified(store).orphans) == {
        ".part-x": STRAY,
        "runs/run-1/.part-y.json": STRAY,
    }


def test_a_temporary_file_of_a_running_run_is_not_an_orphan(store: Store) -> None:
    run = begun(store, "run-1")
    (on_disk(run.folder) / ".part-y.json").write_bytes(b"1")
    assert verified(store).orphans == ()


def test_a_stopped_training_is_unfinished(store: Store) -> None:
    stopped(store, "baseline.1")
    found = verified(store)
    (item,) = found.unfinished
    assert item.reason == "a stopped training continues from it"
    assert Path(item.path).name.startswith("checkpoint-000002-")
    assert (found.records, found.damaged, found.orphans) == (0, (), ())


def test_a_snapshot_of_a_finished_training_is_neither_orphan_nor_unfinished(store: Store) -> None:
    stopped(store, "baseline.1", epochs=3, snapshots=(2,))
    assert len(verified(store).unfinished) == 2
    committed(store, "baseline.1")
    assert [path.name[:15] for path in checkpoints(folder(store, "baseline.1"))] == [
        "snapshot-000002"
    ]
    found = verified(store)
    assert (found.records, found.damaged, found.orphans, found.unfinished) == (1, (), (), ())


def test_a_checkpoint_beside_a_result_is_an_orphan(store: Store) -> None:
    committed(store, "baseline.1")
    stopped(store, "baseline.1")
    (item,) = verified(store).orphans
    assert Path(item.path).name.startswith("checkpoint-")


@pytest.mark.parametrize("snapshots", [(), (2,)])
@pytest.mark.parametrize("done", [True, False])
def test_a_damaged_checkpoint_is_found(
    store: Store, snapshots: tuple[int, ...], done: bool
) -> None:
    (path,) = map(on_disk, checkpoints(stopped(store, "baseline.1", snapshots=snapshots)))
    if done and snapshots:
        committed(store, "baseline.1")
    flip_a_bit(path)
    found = verified(store)
    assert findings(found.damaged) == {str(path.relative_to(on_disk(store.root))): "is damaged"}
    assert (found.orphans, found.unfinished) == ((), ())


LINES = "runs/run-1/stages.jsonl"


def test_damaged_lines_of_logs_are_found_by_number(store: Store) -> None:
    for number in range(3):
        store.log_scoring({"model": number})
    ended(store, "run-1", "load.1", "load.2")
    changed = {"test_scorings.jsonl": ('"model": 1', '"model": 7'), LINES: ("load", "laod")}
    for path, (old, new) in changed.items():
        text = (store.root / path).read_text()
        (on_disk(store.root) / path).write_text(text.replace(old, new, 1))
    assert findings(verified(store).damaged) == {
        "test_scorings.jsonl": "line 2 is damaged",
        "runs/run-1": "stages.jsonl is damaged (line 1)",
    }


def test_all_damaged_lines_of_a_run_are_reported(store: Store) -> None:
    run = ended(store, "run-1", "load.1", "load.2")
    path = on_disk(store.root) / LINES
    path.write_text(path.read_text().replace("load", "laod"))
    (item,) = verified(store).damaged
    assert item.reason == run.fault() == "stages.jsonl is damaged (line 1, 2)"
    assert item.size == sum(path.stat().st_size for path in run.folder.iterdir())


def test_a_finished_run_without_its_stages_is_damaged(store: Store) -> None:
    for number, status in enumerate([DONE, FAILED, INTERRUPTED]):
        (ended(store, f"run-{number}", "load.1", status=status).folder / "stages.jsonl").unlink()
    assert findings(verified(store).damaged) == {"runs/run-0": "stages.jsonl is missing"}


def test_a_record_that_is_nested_too_deeply_is_found(store: Store) -> None:
    committed(store, "load.1")
    (folder(store, "load.1") / "record.json").write_text("[" * 100_000)
    ended(store, "run-1", "load.1")
    (item,) = verified(store).damaged
    assert item.reason.startswith("its record can't be used: ")
    assert cleaned(store, 1).removed == ()


def test_a_damaged_run_is_found(store: Store) -> None:
    flip_a_bit(on_disk(ended(store, "run-1").folder) / "run.json")
    (store.root / "runs" / "starting").mkdir()
    assert findings(verified(store).damaged) == {"runs/run-1": "run.json is missing or damaged"}


def test_a_stage_that_is_being_computed_is_not_verified(store: Store) -> None:
    committed(store, "load.1")
    flip_a_bit(folder(store, "load.1") / "model.bin")
    (folder(store, "load.1") / "other.bin").write_bytes(b"1")
    with store.lock(Stage("load", spec_of("load")), key_of("load.1"), pytest.fail):
        found = verified(store)
        assert list(findings(found.unfinished).values()) == ["is being computed"]
        assert (found.records, found.damaged, found.orphans) == (0, (), ())
    assert len(verified(store).damaged) == 1


def test_a_store_on_a_read_only_disk_can_be_verified() -> None:
    with small_disk(512) as disk:
        store = Store(str(disk / "store"))
        committed(store, "load.1")
        stopped(store, "baseline.1")
        ended(store, "run-1")
        with store.lock(Stage("load", spec_of("load")), key_of("load.1"), pytest.fail):
            pass
        with read_only(disk):
            assert (verify(store).records, len(verify(store).unfinished)) == (1, 1)
            assert clean(store, 0, dry_run=True).locked == ()


# Clearing away


def kept_results(store: Store) -> set[str]:
    """Names of what is still there, e.g. `load.1`."""
    names = [f"{stage}.{n}" for stage in ("load", "baseline", "subset") for n in range(1, 8)]
    return {name for name in names if folder(store, name).exists()}


def kept_runs(store: Store) -> set[str]:
    return {path.name for path in (store.root / "runs").iterdir()}


def cleaned(store: Store, keep: int) -> Cleaning:
    """What `clean` removes, which is what it said before that it would."""
    before = tree(store)
    foretold = clean(store, keep, dry_run=True)
    assert tree(store) == before, "only saying removes nothing"
    size = bytes_in(store)
    done = clean(store, keep, dry_run=False)
    assert done == foretold
    assert size - bytes_in(store) == done.freed
    return done


def five_runs(store: Store) -> None:
    """Five runs, each with a result of its own, and one that all of them used."""
    committed(store, "subset.1")
    for number in range(1, 6):
        committed(store, f"load.{number}")
        ended(store, f"run-{number}", f"load.{number}", "subset.1")


@pytest.mark.parametrize("keep", [0, 1, 2, 4, 5, 9])
def test_the_last_runs_and_their_results_stay(store: Store, keep: int) -> None:
    five_runs(store)
    committed(store, "baseline.7")
    removed = cleaned(store, keep)
    # The latest that is done stays in any case.
    numbers = range(6 - max(1, min(keep, 5)), 6)
    assert kept_runs(store) == {f"run-{number}" for number in numbers}
    assert kept_results(store) == {f"load.{number}" for number in numbers} | {"subset.1"}
    assert removed.locked == ()
    found = verified(store)
    assert found.records == len(kept_results(store))
    assert (found.damaged, found.orphans, found.unfinished) == ((), (), ())
    assert cleaned(store, keep) == Cleaning((), ()), "there is nothing left to do"


def test_each_removal_is_reported_with_its_reason(store: Store) -> None:
    five_runs(store)
    committed(store, "baseline.7", size=1000)
    items = {item.path: item for item in cleaned(store, 4).removed}
    gone = folder(store, "baseline.7")
    assert items[str(gone.relative_to(on_disk(store.root)))].reason == "no kept run uses it"
    assert items[str(gone.relative_to(on_disk(store.root)))].size > 1000
    assert items["runs/run-1"].reason == "an older run"
    assert len(items) == 3
    assert not gone.exists()


def test_there_is_nothing_to_remove(store: Store) -> None:
    assert clean(store, 0, dry_run=True) == clean(store, 0, dry_run=False) == Cleaning((), ())
    assert not store.root.exists()


def test_without_runs_all_results_are_removed(store: Store) -> None:
    committed(store, "load.1")
    cleaned(store, 5)
    assert kept_results(store) == set()


def test_the_latest_complete_run_stays_even_if_later_runs_failed(store: Store) -> None:
    for number, status in enumerate([DONE, DONE, FAILED, INTERRUPTED], start=1):
        committed(store, f"load.{number}")
        ended(store, f"run-{number}", f"load.{number}", status=status)
    cleaned(store, 1)
    assert kept_runs(store) == {"run-2", "run-4"}
    assert kept_results(store) == {"load.2", "load.4"}


def test_a_run_of_some_stages_does_not_count_as_complete(store: Store) -> None:
    for number, only in enumerate(["", "", "load"], start=1):
        committed(store, f"load.{number}")
        ended(store, f"run-{number}", f"load.{number}", only=only)
    cleaned(store, 0)
    assert kept_runs(store) == {"run-2"}
    assert kept_results(store) == {"load.2"}


def test_results_of_a_running_run_stay(store: Store) -> None:
    for number in (1, 2):
        committed(store, f"load.{number}")
    begun(store, "run-0", "load.1")
    living = list(runlog._held)
    run = RunLog(store, "run-1")
    run.begin({}, {}, None)
    run.taken("load", key_of("load.2"))
    run.end(DONE)
    assert list(runlog._held) == living
    cleaned(store, 0)
    assert kept_runs(store) == {"run-0", "run-1"}
    assert kept_results(store) == {"load.1", "load.2"}
    released()
    # Now it was killed.
    cleaned(store, 0)
    assert kept_runs(store) == {"run-1"}
    assert kept_results(store) == {"load.2"}


def test_a_running_run_with_a_damaged_log_stays(store: Store) -> None:
    committed(store, "load.1")
    committed(store, "load.2")
    run = begun(store, "run-0", "load.1")
    flip_a_bit(on_disk(run.folder) / "run.json")
    done = cleaned(store, 0)
    assert kept_runs(store) == {"run-0"}
    assert kept_results(store) == {"load.1", "load.2"}
    assert done == Cleaning((), (), (f"{run.folder}: run.json is missing or damaged",))


def test_a_run_in_another_process_counts_as_running(store: Store) -> None:
    committed(store, "load.1")
    code = (
        "import sys\nfrom tasks.storage.run_log import RunLog\n"
        "from tasks.storage.store import Store\n"
        "run = RunLog(Store(sys.argv[1]), 'run-0'); run.begin({}, {}, None)\n"
        "run.taken('load', sys.argv[2]); print('begun', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(store.root), key_of("load.1")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        cleaned(store, 0)
        assert kept_results(store) == {"load.1"}
        process.kill()
    cleaned(store, 0)
    assert kept_results(store) == set()


def test_a_locked_stage_stays_and_is_reported(store: Store) -> None:
    committed(store, "load.1")
    committed(store, "load.2")
    (folder(store, "load.1") / "other.bin").write_bytes(b"1")
    with store.lock(Stage("load", spec_of("load")), key_of("load.1"), pytest.fail):
        done = cleaned(store, 0)
        assert done.locked == (str(folder(store, "load.1").relative_to(on_disk(store.root))),)
        assert kept_results(store) == {"load.1"}
        assert (folder(store, "load.1") / "other.bin").exists()
        assert store.lock_path(folder(store, "load.1")).exists()
    cleaned(store, 0)
    assert kept_results(store) == set()


def test_the_log_of_scorings_stays(store: Store) -> None:
    store.log_scoring({"model": "final", "test_data": "d"})
    committed(store, "load.1")
    cleaned(store, 0)
    assert store.scorings("d") == [{"model": "final", "test_data": "d"}]


def test_the_lock_of_a_removed_stage_is_removed(store: Store) -> None:
    for name in ("load.1", "load.2"):
        committed(store, name)
        with store.lock(Stage("load", spec_of("load")), key_of(name), pytest.fail):
            pass
    ended(store, "run-1", "load.2")
    cleaned(store, 1)
    assert list((store.root / "locks").iterdir()) == [store.lock_path(folder(store, "load.2"))]


@pytest.mark.parametrize("used", [True, False])
def test_a_stopped_training_of_a_kept_run_can_be_resumed(store: Store, used: bool) -> None:
    stopped(store, "baseline.1")
    ended(store, "run-1", *(["baseline.1"] if used else []), status=INTERRUPTED)
    cleaned(store, 1)
    assert kept_results(store) == ({"baseline.1"} if used else set())
    state = outputs_of(store, "baseline.1").checkpoints({}, 9).latest()
    assert (state is not None and state.epoch) == (2 if used else False)


def test_snapshots_of_a_kept_result_stay_and_orphans_are_removed(store: Store) -> None:
    stopped(store, "baseline.1", epochs=3, snapshots=(2,))
    committed(store, "baseline.1")
    for name in ("other.bin", ".part-1"):
        (folder(store, "baseline.1") / name).write_bytes(b"1")
    outputs_of(store, "load.1").blob("model", "bin", b"half of a stage")
    ended(store, "run-1", "baseline.1", "load.1", status=FAILED)
    done = cleaned(store, 1)
    assert {Path(path).name: what for path, what in findings(done.removed).items()} == {
        "other.bin": UNNAMED,
        ".part-1": STRAY,
        "model.bin": UNNAMED,
    }
    assert verified(store).records == 1
    assert len(checkpoints(folder(store, "baseline.1"))) == 1


def test_checkpoints_of_a_finished_training_are_removed(store: Store) -> None:
    committed(store, "baseline.1")
    stopped(store, "baseline.1", epochs=3, snapshots=(2,))
    ended(store, "run-1", "baseline.1")
    (item,) = cleaned(store, 1).removed
    assert Path(item.path).name.startswith("checkpoint-000003-")
    assert item.reason == UNNAMED
    (path,) = checkpoints(folder(store, "baseline.1"))
    assert path.name.startswith("snapshot-000002-")


def test_the_intact_files_of_a_damaged_result_stay_if_it_is_used(store: Store) -> None:
    for name, file in (("load.1", "record.json"), ("load.2", "model.bin")):
        committed(store, name)
        flip_a_bit(folder(store, name) / file)
    ended(store, "run-1", "load.1", "load.2")
    assert cleaned(store, 1) == Cleaning((), ())
    assert len(verified(store).damaged) == 2


def aged(path: Path) -> None:
    """Have a run's folder look as if nothing happened in it for an hour."""
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)


def test_runs_with_a_damaged_log_stay_and_so_do_all_results(store: Store) -> None:
    five_runs(store)
    committed(store, "baseline.7")
    (folder(store, "load.1") / "other.bin").write_bytes(b"1")
    (folder(store, "baseline.7") / ".part-1").write_bytes(b"1")
    left_in_root(store, b"1")
    flip_a_bit(on_disk(store.root) / "runs/run-5/run.json")
    (store.root / "runs/run-4/run.json").unlink()
    aged(on_disk(store.root) / "runs/run-4")
    results = kept_results(store)
    done = cleaned(store, 2)
    # Those that are kept are the latest two that can be read, and those that can't be.
    assert kept_runs(store) == {"run-2", "run-3", "run-4", "run-5"}
    assert kept_results(store) == results
    assert done.doubts == tuple(
        f"{store.root}/runs/{run}: run.json is missing or damaged" for run in ("run-4", "run-5")
    )
    assert {Path(path).name: what for path, what in findings(done.removed).items()} == {
        "run-1": "an older run",
        "other.bin": UNNAMED,
        ".part-1": STRAY,
        ".part-x": STRAY,
    }
    # Once they are forgotten, the results are as well.
    for run in ("run-4", "run-5"):
        shutil.rmtree(on_disk(store.root) / "runs" / run)
    assert cleaned(store, 2).doubts == ()
    assert kept_results(store) == {"load.2", "load.3", "subset.1"}


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("run.json", flip_a_bit, "run.json is missing or damaged"),
        ("run.json", Path.unlink, "run.json is missing or damaged"),
        ("stages.jsonl", flip_a_bit, "stages.jsonl is damaged (line 1)"),
        ("stages.jsonl", without_its_end, None),
        ("stages.jsonl", lambda path: os.truncate(path, 9), "stages.jsonl is damaged (line 1)"),
        ("stages.jsonl", Path.unlink, "stages.jsonl is missing"),
    ],
)
@pytest.mark.parametrize("keep", [0, 1, 9])
def test_any_damage_to_the_log_of_a_run_keeps_all_results(
    store: Store, file: str, damage: Callable[[Path], Any], said: str | None, keep: int
) -> None:
    committed(store, "load.1")
    committed(store, "baseline.1")
    run = RunLog(store, "run-1")
    run.begin({}, {}, None)
    run.taken("load", key_of("load.1"))
    run.end(DONE)
    damage(on_disk(run.folder) / file)
    done = cleaned(store, keep)
    assert kept_runs(store) == {"run-1"}
    assert len(done.doubts) == (said is not None)
    if said:
        assert done.doubts[0].startswith(f"{run.folder}: {said}")
        assert done.removed == ()
    # The end of the last line holds nothing.
    assert kept_results(store) == ({"load.1", "baseline.1"} if said else {"load.1"})


def test_an_older_run_whose_log_is_damaged_stays(store: Store) -> None:
    five_runs(store)
    flip_a_bit(on_disk(store.root) / "runs/run-2/stages.jsonl")
    done = cleaned(store, 1)
    assert kept_runs(store) == {"run-2", "run-5"}
    assert len(done.doubts) == 1
    assert kept_results(store) == {*(f"load.{number}" for number in range(1, 6)), "subset.1"}


def test_a_run_that_is_about_to_begin_does_not_count_as_damaged(store: Store) -> None:
    """It has used nothing yet, and notes what it uses before it looks whether that is there."""
    committed(store, "load.1")
    path = on_disk(store.root) / "runs" / "run-1"
    path.mkdir(parents=True)
    (path / "run.log").write_text("starting")
    assert cleaned(store, 0).doubts == ()
    assert kept_runs(store) == {"run-1"}
    assert kept_results(store) == set()


def test_a_run_that_is_about_to_begin_stays_for_a_while(store: Store) -> None:
    path = on_disk(store.root) / "runs" / "run-1"
    path.mkdir(parents=True)
    (path / "run.log").write_text("starting")
    done = cleaned(store, 0)
    assert (done.removed, done.locked) == ((), ())
    assert kept_runs(store) == {"run-1"}
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    cleaned(store, 0)
    assert kept_runs(store) == set()


THEIRS = (
    "runs/train1/weights.pt",
    "runs/train1/run.log",
    "runs/notes.md",
    "stages/dvc/one/x",
    "stages/notes.md",
    "stages/load/notes.md",
    "stages/load/0123456789abcdeg/x",
    "stages/load/0123456789ABCDEF/x",
    "stages/load/0123456789abcde/x",
    "stages/load/0123456789abcdef0/x",
    "data/part-1",
    "notes.md",
)


def test_files_of_other_origin_stay(store: Store) -> None:
    five_runs(store)
    for name in THEIRS:
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (on_disk(store.root) / name).write_bytes(b"somebody else's")
    for run in ("train1", "run-1"):
        aged(on_disk(store.root) / "runs" / run)
    done = cleaned(store, 1)
    assert all((store.root / name).read_bytes() == b"somebody else's" for name in THEIRS)
    assert done.doubts == ()
    assert kept_results(store) == {"load.5", "subset.1"}
    found = verified(store)
    assert (found.damaged, found.orphans, found.unfinished) == ((), (), ())


def test_a_folder_of_files_of_other_origin_is_left_alone(store: Store) -> None:
    for name in THEIRS:
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (on_disk(store.root) / name).write_bytes(b"somebody else's")
    aged(on_disk(store.root) / "runs/train1")
    before = tree(store)
    assert cleaned(store, 0) == Cleaning((), ())
    assert tree(store) == before


def test_an_old_run_whose_folder_contains_another_file_stays(store: Store) -> None:
    five_runs(store)
    theirs = on_disk(store.root) / "runs/run-1/weights.pt"
    theirs.write_bytes(b"somebody else's")
    assert cleaned(store, 1).doubts == ()
    assert kept_runs(store) == {"run-1", "run-5"}
    assert theirs.exists()
    assert kept_results(store) == {"load.1", "load.5", "subset.1"}


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("status", [DONE, FAILED, None])
@pytest.mark.parametrize("moment", ["stages", "first lock", "runs"])
def test_a_run_that_begins_during_a_cleaning_stays_with_its_results(
    store: Store, monkeypatch: pytest.MonkeyPatch, keep: int, status: str | None, moment: str
) -> None:
    five_runs(store)
    committed(store, "baseline.7")

    def another_run() -> None:
        monkeypatch.undo()
        monkeypatch.setattr("os.fsync", lambda _descriptor: None)
        # `load.1` is only an older run's, `baseline.6` is new.
        with store.lock(Stage("load", spec_of("load")), key_of("load.1"), pytest.fail):
            run = begun(store, "run-0", "load.1")
        with store.lock(Stage("baseline", spec_of("load")), key_of("baseline.6"), pytest.fail):
            run.taken("baseline", key_of("baseline.6"))
            committed(store, "baseline.6")
        if status:
            run.end(status)

    meanwhile(monkeypatch, moment, another_run)
    done = clean(store, keep, dry_run=False)
    assert "run-0" in kept_runs(store)
    results = {"load.5", "subset.1", "baseline.6"} | ({"load.1"} if moment != "runs" else set())
    assert kept_results(store) == results
    assert verify(store).damaged == ()
    assert done.doubts == ()


def meanwhile(monkeypatch: pytest.MonkeyPatch, moment: str, work: Callable[[], None]) -> None:
    """Have something done once: after the old runs, before the first lock, before runs go."""
    if moment == "stages":
        listed = inventory.stage_folders

        def listing(store: Store) -> Any:
            work()
            return listed(store)

        monkeypatch.setattr(cleaning, "stage_folders", listing)
    elif moment == "first lock":
        free = cleaning._free

        def freed(lock: StorePath, *, dry_run: bool) -> AbstractContextManager[Any]:
            work()
            return free(lock, dry_run=dry_run)

        monkeypatch.setattr(cleaning, "_free", freed)
    else:
        removing = shutil.rmtree

        def removed(path: Path) -> None:
            if path.parent.name == "runs":
                work()
            removing(path)

        monkeypatch.setattr(shutil, "rmtree", removed)


def test_a_run_that_begins_and_ends_between_two_stages_keeps_what_it_used(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of a run that goes on is read again for every stage."""
    for number in (1, 2, 3):
        committed(store, f"load.{number}")
    living = begun(store, "run-0")
    free = cleaning._free
    order = sorted(folder(store, f"load.{number}").name for number in (1, 2, 3))
    keys = {key_of(f"load.{number}")[:16]: key_of(f"load.{number}") for number in (1, 2, 3)}

    def freed(lock: StorePath, *, dry_run: bool) -> AbstractContextManager[Any]:
        if order[1] in lock.name:
            living.taken("load", keys[order[1]])
            run = begun(store, "run-1")
            run.taken("load", keys[order[2]])
            run.end(DONE)
        return free(lock, dry_run=dry_run)

    monkeypatch.setattr(cleaning, "_free", freed)
    (gone,) = clean(store, 0, dry_run=False).removed
    assert gone.path == f"stages/load/{order[0]}"
    assert kept_runs(store) == {"run-0", "run-1"}


@pytest.mark.parametrize("status", [DONE, None])
def test_an_old_run_that_begins_again_during_a_cleaning_stays_with_its_results(
    store: Store, monkeypatch: pytest.MonkeyPatch, status: str | None
) -> None:
    five_runs(store)

    def again() -> None:
        monkeypatch.undo()
        run = begun(store, "run-1", "load.1")
        if status:
            run.end(status)

    meanwhile(monkeypatch, "stages", again)
    done = clean(store, 1, dry_run=False)
    assert kept_runs(store) == {"run-1", "run-5"}
    assert kept_results(store) == {"load.1", "load.5", "subset.1"}
    assert not {"runs/run-1", "runs/run-5"} & {item.path for item in done.removed}


def test_runs_are_looked_through_once_and_not_for_each_stage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    has_begun = inventory.has_begun

    def counted(run: RunLog) -> bool:
        calls.append(run.run_id)
        return has_begun(run)

    for number in range(1, 6):
        ended(store, f"run-{number}", *(f"load.{n}" for n in range(1, 6)))
    counts = []
    for module in (inventory, cleaning):
        monkeypatch.setattr(module, "has_begun", counted)
    for number in range(1, 6):
        committed(store, f"load.{number}")
        calls.clear()
        clean(store, 9, dry_run=False)
        counts.append(len(calls))
    assert counts[0] == counts[-1]


def test_cleaning_reads_no_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    five_runs(store)
    stopped(store, "baseline.1")
    begun(store, "run-6", "baseline.1")

    def refuse(*_arguments: Any) -> Any:
        pytest.fail("the content is of no interest")

    for module in ("local_path", "exchange", "files"):
        monkeypatch.setattr(f"tasks.storage.{module}.file_digest", refuse)
    for module in ("checkpoints", "verification"):
        monkeypatch.setattr(f"tasks.storage.{module}.content_fault", refuse)
    clean(store, 1, dry_run=True)
    clean(store, 1, dry_run=False)
    assert kept_results(store) == {"load.5", "subset.1", "baseline.1"}


def test_a_folder_without_a_store_is_neither_verified_nor_cleaned(
    fashion_flow: Command, tmp_path: Path
) -> None:
    (tmp_path / "notes.md").write_text("somebody else's")
    for command in ("verify", "clean"):
        for place in (tmp_path, tmp_path / "none"):
            done = fashion_flow(command, "--store", place)
            assert done.status == 2
            assert "there is no store in" in done.err.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]


def test_a_final_model_that_differs_from_its_card_is_damaged(store: Store) -> None:
    run = begun(store, "run-1")
    record = committed(store, "final.1")
    run.stage(record, "completed", now())
    run.model_folder.mkdir()
    copy = on_disk(run.model_folder) / Path(record.files["model"].path).name
    copy.write_bytes(store.content(record, "model"))
    run.end(DONE)
    assert verify(store).damaged == ()
    copy.write_bytes(b"another model")
    (finding,) = verify(store).damaged
    assert finding.path == "runs/run-1/model/model.bin"


def test_temporary_files_outside_the_stages_are_removed(store: Store) -> None:
    run = ended(store, "run-1")
    left_in_root(store, b"12")
    (on_disk(run.folder) / ".part-y").write_bytes(b"123")
    run.model_folder.mkdir()
    (on_disk(run.model_folder) / ".part-z").write_bytes(b"1")
    assert findings(cleaned(store, 1).removed) == dict.fromkeys(
        (".part-x", "runs/run-1/.part-y", "runs/run-1/model/.part-z"), STRAY
    )


def test_a_skipped_stage_of_a_kept_run_uses_nothing(store: Store) -> None:
    committed(store, "load.1")
    run = ended(store, "run-1")
    run.stage(Skipped("load", "offline"), "skipped", now())
    cleaned(store, 1)
    assert kept_results(store) == set()


def test_a_record_is_removed_before_its_files(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = committed(store, "load.1")

    def refuse(_path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(OSError, match="Input/output"):
        clean(store, 0, dry_run=False)
    names = {path.name for path in folder(store, "load.1").iterdir()}
    assert names == {"model.bin", "history.bin"}
    assert store.lookup(Stage("load", spec_of("load")), record.key) != record


# Each run: how it ended, whether it was of some stages only, which of the results it used.
runs = st.lists(
    st.tuples(
        st.sampled_from([DONE, FAILED, INTERRUPTED]),
        st.booleans(),
        st.sets(st.sampled_from(["load.1", "load.2", "baseline.1", "baseline.2", "subset.1"])),
    ),
    max_size=5,
)


def filled(store: Store, results: dict[str, str]) -> None:
    for name, how in results.items():
        if how == "stopped":
            stopped(store, name)
        else:
            committed(store, name)
        if how == "untidy":
            (folder(store, name) / "other.bin").write_bytes(b"12345")


@settings(max_examples=40, deadline=None)
@given(
    runs,
    st.dictionaries(
        st.sampled_from(["load.1", "load.2", "baseline.1", "baseline.2", "subset.1"]),
        st.sampled_from(["done", "stopped", "untidy"]),
    ),
    st.integers(0, 6),
)
def test_only_results_of_kept_runs_stay_and_a_dry_run_predicts_the_bytes(
    done: list[tuple[str, bool, set[str]]], results: dict[str, str], keep: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = Store(f"{place}/store")
        filled(store, results)
        for number, (status, partial, used) in enumerate(done):
            ended(store, f"run-{number}", *used, status=status, only="load" if partial else "")
        cleaned(store, keep)
        complete = [n for n, run in enumerate(done) if run[:2] == (DONE, False)]
        kept = {*range(len(done))[max(0, len(done) - keep) :], *complete[-1:]}
        used_by_kept = {name for number in kept for name in done[number][2]}
        assert kept_results(store) == used_by_kept & set(results)
        assert {run.run_id for run in runlog.all_runs(store)} == {f"run-{n}" for n in kept}
        assert verified(store).orphans == ()


def test_a_folder_that_no_record_names_is_an_orphan_and_removed(store: Store) -> None:
    committed(store, "load.1")
    (folder(store, "load.1") / "copies").mkdir()
    (folder(store, "load.1") / "copies" / "model.bin").write_bytes(b"12345")
    ended(store, "run-1", "load.1")
    assert [(item.reason, item.size) for item in verified(store).orphans] == [(UNNAMED, 5)]
    cleaned(store, 1)
    assert verified(store) == replace(verified(store), records=1, orphans=())


@pytest.mark.parametrize("damaged", [False, True])
def test_links_are_not_followed_into_other_results(store: Store, damaged: bool) -> None:
    record = committed(store, "load.1")
    ended(store, "run-1", "load.1")
    broken = on_disk(ended(store, "run-2", "load.1").folder) / "stages.jsonl"
    if damaged:
        broken.write_bytes(b"damaged")
    stages = on_disk(store.root) / "stages"
    (stages / "loop").symlink_to("../stages")
    (stages / "load" / ("a" * 16)).symlink_to("../../stages")
    (stages / "load" / ("b" * 16)).symlink_to("b" * 16)
    (on_disk(store.root) / "runs" / "self").symlink_to(".")
    found = verify(store)
    assert (found.records, found.orphans) == (1, ())
    done = clean(store, 0 if damaged else 1, dry_run=False)
    assert not [item.path for item in done.removed if item.path.startswith("stages")]
    assert store.read(store.folder("load", record.key)) == record
    assert (stages / "load" / ("a" * 16)).is_symlink()


def test_a_store_that_is_being_tried_is_left_alone(store: Store) -> None:
    ended(store, "run-1")
    path = on_disk(store.root) / ".part-new"
    path.touch()
    assert verified(store).orphans == ()
    assert cleaned(store, 1).removed == ()
    assert path.exists()
