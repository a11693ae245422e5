"""How a run ended is known, also where nothing could be noted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks import runlog
from tasks.core.errors import StageError, UserError
from tasks.core.records import Record, Skipped, Stage
from tasks.runlog import (
    DONE,
    FAILED,
    INTERRUPTED,
    KILLED,
    RUNNING,
    RunLog,
    all_runs,
    checked_run_id,
    find_run,
    new_run_id,
    now,
)
from tasks.store import Store
from tests.support import basis

ROOT = Path(__file__).resolve().parent.parent
STAGE = Stage("load", "load")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    """Give back the locks of the runs that a test began, as the end of the process would."""
    yield
    while runlog._held:
        os.close(runlog._held.pop())


def begun(store: Store, run_id: str = "20260101-000000-001") -> RunLog:
    run = RunLog(store, run_id)
    run.begin({"dataset": "synthetic"}, {"threads": 2}, "flow-run-id")
    return run


def committed(store: Store, key: str = "a" * 64) -> Record:
    outputs = store.writer(STAGE, key, basis())
    outputs.blob("train", "bin", b"x")
    return store.commit(outputs, {})


def test_a_run_that_is_going_on(store: Store) -> None:
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
from tasks.runlog import RunLog
from tasks.store import Store
run = RunLog(Store(sys.argv[1]), "killed-run")
run.begin({}, {}, None)
print("begun", flush=True)
time.sleep(60)
"""


def test_a_killed_run_is_told_from_a_running_one(store: Store) -> None:
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


def test_stages_stand_in_the_order_in_which_they_ended(store: Store) -> None:
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


def test_no_run_yet(store: Store) -> None:
    assert all_runs(store) == []
    for run_id in (None, "20260101-000000-001"):
        with pytest.raises(UserError, match=r"no run in .* yet; start one with `fashion-flow run`"):
            find_run(store, run_id)


def test_the_latest_run_that_is_done(store: Store) -> None:
    for second, status in enumerate([DONE, DONE, FAILED, INTERRUPTED]):
        begun(store, f"20260101-00000{second}-500").end(status)
    begun(store, "20260101-000009-500")
    assert find_run(store, None).run_id == "20260101-000001-500"
    assert find_run(store, "20260101-000002-500").status() == FAILED
    assert len(all_runs(store)) == 5


def test_no_such_run(store: Store) -> None:
    begun(store).end(DONE)
    with pytest.raises(UserError, match=r"no run 'x' in .*; `fashion-flow runs` lists them"):
        find_run(store, "x")


def test_no_run_is_done(store: Store) -> None:
    begun(store, "20260101-000000-001").end(FAILED)
    begun(store, "20260101-000001-001").end(INTERRUPTED)
    said = r"come to its end \(the latest: 20260101-000001-001, interrupted\).*go on"
    with pytest.raises(UserError, match=said):
        find_run(store, None)


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(20)]
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run_id) for run_id in ids)
    assert len(set(ids)) > 10
    moments = [run_id.rpartition("-")[0] for run_id in ids]
    assert moments == sorted(moments)


@pytest.mark.parametrize("run_id", ["../escape", "", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_run_id_that_is_no_folder_name_is_refused(run_id: str) -> None:
    with pytest.raises(UserError, match="run id"):
        checked_run_id(run_id)


def test_new_ids_are_valid_ids() -> None:
    run_id = new_run_id()
    assert checked_run_id(run_id) == run_id
