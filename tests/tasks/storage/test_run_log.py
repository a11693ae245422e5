"""The log tells how a run ended, even if its process could not record it."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import StageError, UserError
from tasks.core.records import Record, Skipped, Stage
from tasks.storage import run_log as runlog
from tasks.storage.locks import try_lock
from tasks.storage.run_log import (
    DONE,
    FAILED,
    INTERRUPTED,
    KILLED,
    RUNNING,
    RunLog,
    all_runs,
    checked_run_id,
    computed,
    damaged_runs,
    find_run,
    new_run_id,
    no_run,
    now,
)
from tasks.storage.store import Store
from tests.support import basis, meaning, on_disk, spec_of

ROOT = Path(__file__).resolve().parents[3]
STAGE = Stage("load", spec_of("load"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    """Give back the locks of the runs that a test began, as the end of the process would."""
    yield
    while runlog._held:
        runlog._held.popitem()[1].release()


def begun(store: Store, run_id: str = "20260101-000000-001") -> RunLog:
    run = RunLog(store, run_id)
    run.begin({"dataset": "synthetic"}, {"threads": 2}, "flow-run-id")
    return run


def committed(store: Store, key: str = "a" * 64) -> Record:
    outputs = store.writer(STAGE, key, basis())
    outputs.blob("train", "bin", b"x")
    return store.commit(outputs, {})


def test_a_running_run(store: Store) -> None:
    run = begun(store)
    assert run.status() == RUNNING
    entry = run.read()
    assert entry["settings"] == {"dataset": "synthetic"}
    assert entry["profile"] == {"threads": 2}
    assert entry["flow_run"] == "flow-run-id"
    assert (entry["ended"], entry["error"]) == (None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["started"])


@pytest.mark.parametrize("status", [DONE, FAILED, INTERRUPTED])
def test_a_run_that_ended(store: Store, status: str) -> None:
    run = begun(store)
    run.end(status, "what went wrong")
    assert run.status() == status
    entry = run.read()
    assert entry["error"] == "what went wrong"
    assert entry["started"] <= entry["ended"] <= now()


def test_the_first_ending_counts(store: Store) -> None:
    run = begun(store)
    run.end(INTERRUPTED, "stopped by the user")
    before = run.read()
    run.end(FAILED, "a consequence")
    run.end(DONE)
    assert run.read() == before
    assert run.status() == INTERRUPTED


def test_a_run_that_begins_again_runs_again(store: Store) -> None:
    begun(store).end(FAILED, "no disk")
    run = begun(store)
    assert run.status() == RUNNING
    run.end(DONE)
    assert run.status() == DONE


BEGIN = """
import sys, time
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store
run = RunLog(Store(sys.argv[1]), "killed-run")
run.begin({}, {}, None)
print("begun", flush=True)
time.sleep(60)
"""


def test_a_killed_run_is_distinguished_from_a_running_one(store: Store) -> None:
    command = [sys.executable, "-c", BEGIN, str(store.root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        run = find_run(store, "killed-run")
        assert run.status() == RUNNING
        assert run.status() == RUNNING, "looking must not take the lock away"
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert run.status() == KILLED
    assert run.read()["status"] == RUNNING


def test_a_run_whose_lock_is_gone_was_killed(store: Store) -> None:
    run = begun(store)
    (run.folder / "alive.lock").unlink()
    assert run.status() == KILLED


def test_stages_are_listed_in_the_order_in_which_they_ended(store: Store) -> None:
    run = begun(store)
    record = committed(store)
    run.stage(record, "completed", now(), 1.23456)
    run.stage(Skipped("vgg16_weights", "offline"), "skipped", now(), 0.0)
    first, second = run.stages()
    assert (first["stage"], first["state"], first["key"]) == ("load", "completed", record.key)
    assert (first["seconds"], first["reason"]) == (1.235, None)
    assert (second["stage"], second["key"], second["reason"]) == ("vgg16_weights", None, "offline")


def test_a_stage_s_record_is_that_of_the_run(store: Store) -> None:
    run = begun(store)
    assert run.record("load") is None
    run.stage(Skipped("load", "offline"), "skipped", now(), 0.0)
    assert run.record("load") is None
    first, second = committed(store, "a" * 64), committed(store, "b" * 64)
    run.stage(first, "completed", now(), 0.0)
    assert run.record("load") == first
    run.stage(second, "completed", now(), 0.0)
    assert run.record("load") == second
    run.stage(replace(first, key="c" * 64), "completed", now(), 0.0)
    with pytest.raises(StageError, match="run the flow again"):
        run.record("load")


# Stages that a run is about to use


def test_a_taken_result_belongs_to_the_run_but_is_not_a_finished_stage(store: Store) -> None:
    run = begun(store)
    run.taken("load", "a" * 64)
    assert run.stages() == []
    assert run.record("load") is None
    assert run.results() == {("load", "a" * 64)}
    record = committed(store)
    run.stage(record, "completed", now(), 1.0)
    run.taken("subset", "b" * 64)
    run.stage(Skipped("vgg16_weights", "offline"), "skipped", now())
    assert [line["stage"] for line in run.stages()] == ["load", "vgg16_weights"]
    assert run.results() == {("load", record.key), ("subset", "b" * 64)}


def test_a_taken_result_can_be_recorded_before_the_run(store: Store) -> None:
    run = RunLog(store, "20260101-000000-001")
    run.taken("load", "a" * 64)
    assert run.results() == {("load", "a" * 64)}
    assert all_runs(store) == []
    begun(store)
    assert run.results() == {("load", "a" * 64)}


def test_a_damaged_line_is_not_a_stage_of_the_run(store: Store) -> None:
    run = begun(store)
    run.taken("load", "a" * 64)
    run.stage(committed(store), "completed", now(), 1.0)
    path = on_disk(run.folder) / "stages.jsonl"
    path.write_text(path.read_text().replace("completed", "cached   "))
    assert run.stages() == []
    assert run.results() == {("load", "a" * 64)}


def test_the_epochs_from_a_checkpoint_are_recorded(store: Store) -> None:
    run = begun(store)
    run.stage(committed(store), "completed", now(), 1.0, resumed_after=7)
    run.stage(committed(store), "cached", now())
    assert [(line["resumed_after"], line["seconds"]) for line in run.stages()] == [(7, 1), (0, 0)]


def test_computed_tells_of_the_last_computation_of_a_result(store: Store) -> None:
    first, second = committed(store, "a" * 64), committed(store, "b" * 64)
    earlier, later = begun(store, "20260101-000000-001"), begun(store, "20260101-000001-001")
    earlier.taken("load", first.key)
    later.stage(first, "completed", now(), 3.0)
    later.stage(first, "cached", now())
    earlier.stage(first, "completed", now(), 2.0)
    earlier.stage(second, "completed", now(), 5.0)
    later.stage(Skipped("vgg16_weights", "offline"), "skipped", now())
    found = computed(store)
    assert {key: line["seconds"] for key, line in found.items()} == {first.key: 3, second.key: 5}


def test_taken_and_cached_results_were_not_computed(store: Store) -> None:
    run = begun(store)
    run.taken("load", "a" * 64)
    run.stage(committed(store), "cached", now())
    assert computed(store) == {}


# Damaged logs


def flip_a_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped bit": lambda path: flip_a_bit(path, 40),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "emptied": lambda path: path.write_bytes(b""),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "no object": lambda path: path.write_text("[]"),
    "unsigned": lambda path: path.write_text('{"status": "done", "started": "2026", "only": []}'),
    "another status": lambda path: path.write_text(
        path.read_text().replace('"status": "failed"', '"status": "done"')
    ),
    "missing": Path.unlink,
    "a folder": to_folder,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_does_not_affect_other_runs(
    store: Store, damage: Callable[[Path], Any]
) -> None:
    good, bad = begun(store, "20260101-000000-001"), begun(store, "20260101-000001-001")
    good.end(DONE)
    bad.end(FAILED, "no disk")
    damage(on_disk(bad.folder) / "run.json")
    assert [run.run_id for run in all_runs(store)] == [good.run_id]
    assert find_run(store, None).run_id == good.run_id
    with pytest.raises(UserError, match="no run '20260101-000001-001'"):
        find_run(store, bad.run_id)
    with pytest.raises(StageError, match=r"run\.json (is damaged|can't be read)"):
        bad.read()
    missing = not (bad.folder / "run.json").exists()
    assert damaged_runs(store) == ([] if missing else [bad.run_id])


def test_if_all_runs_are_damaged_none_is_found(store: Store) -> None:
    run = begun(store)
    (on_disk(run.folder) / "run.json").write_bytes(b"")
    said = rf"no run in .* yet except those whose log is damaged \({run.run_id}\); start one with"
    for run_id in (None, run.run_id):
        with pytest.raises(UserError, match=said):
            find_run(store, run_id)
    assert damaged_runs(store) == [run.run_id]
    assert re.fullmatch(rf"no run in .* \({run.run_id}\)", no_run(store))


def test_without_any_run_no_damaged_one_is_named(store: Store) -> None:
    assert no_run(store) == f"no run in {store.root} yet"


def test_the_error_about_a_damaged_run_says_what_to_do(store: Store) -> None:
    run = begun(store)
    run.end(DONE)
    flip_a_bit(on_disk(run.folder) / "run.json", 40)
    with pytest.raises(StageError, match="delete its folder to remove the run"):
        run.read()


def test_an_intact_log_has_no_fault(store: Store) -> None:
    run = begun(store)
    assert run.fault() is None, "it may not have come to its first stage yet"
    run.taken("load", "a" * 64)
    assert run.fault() is None
    run.end(DONE)
    assert run.fault() is None


@pytest.mark.parametrize("status", [FAILED, INTERRUPTED])
def test_a_run_that_ended_early_may_have_no_stages(store: Store, status: str) -> None:
    run = begun(store)
    run.end(status)
    assert run.fault() is None


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_has_a_fault(store: Store, damage: Callable[[Path], Any]) -> None:
    run = begun(store)
    run.taken("load", "a" * 64)
    run.end(FAILED)
    damage(on_disk(run.folder) / "run.json")
    assert run.fault() == "run.json is missing or damaged"


def test_damaged_stages_are_a_fault(store: Store) -> None:
    run = begun(store)
    for letter in "abc":
        run.taken("load", letter * 64)
    run.end(DONE)
    path = on_disk(run.folder) / "stages.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1].replace("b", "c"), lines[2]]))
    assert run.fault() == "stages.jsonl is damaged (line 2)"
    path.write_text("".join([lines[0][:-9] + "\n", lines[1], lines[2][:-5]]))
    assert run.fault() == "stages.jsonl is damaged (line 1, 3)"
    path.unlink()
    assert run.fault() == "stages.jsonl is missing"
    path.mkdir()
    assert run.fault() == "stages.jsonl is missing"


@settings(max_examples=80)
@given(st.data())
def test_any_changed_character_is_a_fault(shared_store: Store, data: st.DataObject) -> None:
    run = RunLog(shared_store, "20260101-000000-001")
    path = on_disk(run.folder) / "run.json"
    text = path.read_text()
    entry = run.read()
    place = data.draw(st.integers(0, len(text) - 1), label="place")
    character = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[place]))
    changed = text[:place] + character + text[place + 1 :]
    path.write_text(changed)
    try:
        read = [found.read() for found in all_runs(shared_store)]
    finally:
        path.write_text(text)
    # Another white space between two values says the same.
    assert read == ([entry] if meaning(changed) == meaning(text) else [])


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("store")))
    begun(store).end(DONE)
    return store


# A run is one process's


def is_alive(run: RunLog) -> bool:
    return (run.folder / "alive.lock").is_locked()


def test_the_lock_of_a_run_ends_with_the_run(store: Store) -> None:
    run, other = begun(store), begun(store, "20260101-000001-001")
    assert set(runlog._held) == {run.folder / "alive.lock", other.folder / "alive.lock"}
    assert is_alive(run)
    run.end(DONE)
    assert set(runlog._held) == {other.folder / "alive.lock"}
    assert (is_alive(run), is_alive(other)) == (False, True)
    run.end(FAILED)
    assert (run.status(), other.status()) == (DONE, RUNNING)


def test_the_lock_of_a_run_is_released_even_if_its_end_cannot_be_recorded(store: Store) -> None:
    run = begun(store)
    flip_a_bit(on_disk(run.folder) / "run.json", 40)
    with pytest.raises(StageError, match="is damaged"):
        run.end(DONE)
    assert not is_alive(run)
    assert runlog._held == {}


def test_a_run_that_is_running_in_another_process_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runlog, "LOOKING_S", 0.05)
    command = [sys.executable, "-c", BEGIN, str(store.root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        run = RunLog(store, "killed-run")
        noted = (run.folder / "run.json").read_bytes()
        for _ in range(2):
            with pytest.raises(
                UserError, match="'killed-run' is still running in another process; choose another"
            ):
                run.begin({"another": 1}, {}, None)
        assert runlog._held == {}
        assert (run.folder / "run.json").read_bytes() == noted
        assert run.status() == RUNNING
        process.kill()
        process.wait(30)
    run.begin({"another": 1}, {}, None)
    assert run.status() == RUNNING
    assert run.read()["settings"] == {"another": 1}


# Finding a run


def test_a_partial_run_is_not_the_latest_finished_run(store: Store) -> None:
    begun(store, "20260101-000000-001").end(DONE)
    partial = RunLog(store, "20260101-000001-001")
    partial.begin({}, {}, None, ["load", "subset"])
    partial.end(DONE)
    assert partial.read()["only"] == ["load", "subset"]
    assert find_run(store, None).run_id == "20260101-000000-001"
    assert find_run(store, partial.run_id) == partial
    assert [run.run_id for run in all_runs(store)][-1] == partial.run_id


def test_partial_runs_alone_do_not_count_as_finished(store: Store) -> None:
    partial = RunLog(store, "20260101-000001-001")
    partial.begin({}, {}, None, ["load"])
    partial.end(DONE)
    with pytest.raises(UserError, match=r"has finished \(the latest: 20260101-000001-001, done"):
        find_run(store, None)


def test_a_run_can_begin_while_its_lock_is_looked_at(store: Store) -> None:
    """Looking takes a shared lock for a moment; the run must not go without its own for that."""
    run = RunLog(store, "20260101-000000-001")
    run.folder.mkdir(parents=True)
    path = on_disk(run.folder) / "alive.lock"
    with path.open("a") as looking:
        assert try_lock(looking.fileno(), path, shared=True)
        looked = threading.Timer(0.1, fcntl.flock, (looking.fileno(), fcntl.LOCK_UN))
        looked.start()
        begun(store)
        looked.join()
    assert run.status() == RUNNING


def test_no_run_yet(store: Store) -> None:
    assert all_runs(store) == []
    for run_id in (None, "20260101-000000-001"):
        with pytest.raises(UserError, match=r"no run in .* yet; start one with `fashion-flow run`"):
            find_run(store, run_id)


def test_the_latest_finished_run_is_found(store: Store) -> None:
    for second, status in enumerate([DONE, DONE, FAILED, INTERRUPTED]):
        begun(store, f"20260101-00000{second}-500").end(status)
    begun(store, "20260101-000009-500")
    assert find_run(store, None).run_id == "20260101-000001-500"
    assert find_run(store, "20260101-000002-500").status() == FAILED
    assert len(all_runs(store)) == 5


def test_no_such_run(store: Store) -> None:
    begun(store).end(DONE)
    with pytest.raises(UserError, match=r"no run 'x' in .*; see `fashion-flow runs`"):
        find_run(store, "x")


def test_no_run_has_finished(store: Store) -> None:
    begun(store, "20260101-000000-001").end(FAILED)
    begun(store, "20260101-000001-001").end(INTERRUPTED)
    said = r"has finished \(the latest: 20260101-000001-001, interrupted\).*continue it"
    with pytest.raises(UserError, match=said):
        find_run(store, None)


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(20)]
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run_id) for run_id in ids)
    assert len(set(ids)) > 10
    moments = [run_id.rpartition("-")[0] for run_id in ids]
    assert moments == sorted(moments)


@pytest.mark.parametrize("run_id", ["../escape", "", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_run_id_that_cannot_name_a_folder_is_refused(run_id: str) -> None:
    with pytest.raises(UserError, match="run id"):
        checked_run_id(run_id)


def test_new_ids_are_valid_ids() -> None:
    run_id = new_run_id()
    assert checked_run_id(run_id) == run_id
