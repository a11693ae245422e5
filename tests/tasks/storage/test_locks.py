"""A lock has one holder, ends with its process, and can be looked at without writing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tasks.storage import local_path
from tasks.storage.local_path import LocalPath
from tasks.storage.locks import is_file_locked, locked, locked_if_free, try_lock
from tasks.storage.store_path import Held
from tests.disks import read_only, small_disk
from tests.processes import python


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_path, "LOCK_POLL_S", 0.002)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.usefixtures("quick_polls")
def test_a_lock_can_be_taken_after_its_release(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "locks" / "a.lock")
    events: list[str] = []
    waits = threading.Event()

    def second() -> None:
        with locked(path, waits.set):
            events.append("second")

    with locked(path, pytest.fail):
        thread = in_thread(second)
        assert waits.wait(10)
        time.sleep(0.05)
        events.append("first")
    thread.join(10)
    assert events == ["first", "second"]


def test_a_lock_that_is_not_free_is_not_waited_for(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "locks" / "a.lock")
    with locked_if_free(path) as first, locked_if_free(path) as second:
        assert (first is not None, second) == (True, None)
        with locked_if_free(LocalPath(tmp_path / "locks" / "b.lock")) as other:
            assert other
    with locked_if_free(path) as again:
        assert again


def test_the_lock_of_a_removed_file_does_not_count(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "a.lock")
    with path.open("a") as stale:
        path.unlink()
        assert try_lock(stale.fileno(), path)
        assert not is_file_locked(path)
        with locked_if_free(path) as held:
            assert held


@pytest.mark.usefixtures("quick_polls")
def test_a_waiter_for_a_removed_lock_file_takes_the_new_one(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "a.lock")
    waits, inside = threading.Event(), threading.Event()

    def waiting() -> None:
        with locked(path, waits.set):
            inside.set()

    with locked(path, pytest.fail):
        thread = in_thread(waiting)
        assert waits.wait(10)
        path.unlink()
        # Somebody else comes before the one who waits has seen it.
        newcomer: AbstractContextManager[Held | None] = locked_if_free(path)
        assert newcomer.__enter__()
    assert not inside.wait(0.1), "the removed file's lock is free, but not the lock"
    newcomer.__exit__(None, None, None)
    assert inside.wait(10)
    thread.join(10)


TAKE_TURNS = """
import sys, time
from tasks.storage import local_path
from tasks.storage.locks import locked, locked_if_free
local_path.LOCK_POLL_S = 0.0005
lock, inside, start = map(local_path.LocalPath, sys.argv[1:])
taken = 0
print("ready", flush=True)
while not start.exists():
    time.sleep(0.001)
def work():
    global taken
    inside.touch(exist_ok=False)
    taken += 1
    inside.unlink()
    lock.unlink()
for number in range(200):
    with locked(lock, lambda: None):
        work()
    with locked_if_free(lock) as held:
        if held:
            work()
print(taken)
"""


def test_processes_that_remove_the_lock_s_file_never_hold_it_at_once(tmp_path: Path) -> None:
    start = tmp_path / "start"
    arguments = [str(tmp_path / "a.lock"), str(tmp_path / "inside"), str(start)]
    processes = [python(TAKE_TURNS, *arguments) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start.touch()
    done = [(process.communicate(timeout=60)[0], process.returncode) for process in processes]
    assert [status for _, status in done] == [0, 0, 0], "two were inside"
    assert all(200 <= int(printed) <= 400 for printed, _ in done)
    assert list(tmp_path.iterdir()) == [start]


@pytest.mark.usefixtures("quick_polls")
def test_threads_that_remove_the_lock_s_file_never_hold_it_at_once(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "a.lock")
    inside: list[int] = []
    crowds: list[int] = []

    def work() -> None:
        for _ in range(50):
            with locked(path, lambda: None):
                inside.append(1)
                time.sleep(0)
                crowds.append(len(inside))
                inside.pop()
                path.unlink()

    for thread in [in_thread(work) for _ in range(4)]:
        thread.join(60)
    assert crowds == [1] * 200


HOLD = """
import sys, time
from tasks.storage.local_path import LocalPath
from tasks.storage.locks import locked
with locked(LocalPath(sys.argv[1]), lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "a.lock")
    with python(HOLD, str(path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_file_locked(path)
        assert is_file_locked(path), "looking must not take the lock away"
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert not is_file_locked(path)


def seen(path: Path) -> tuple[Any, ...]:
    status = path.stat()
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, sorted(os.listdir(path.parent)))


def test_finding_out_whether_a_lock_is_held_writes_nothing(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "a.lock")
    assert not is_file_locked(path)
    assert not is_file_locked(tmp_path / "no folder" / "a.lock")
    assert list(tmp_path.iterdir()) == []
    with locked(path, pytest.fail):
        before = seen(path)
        assert is_file_locked(path)
        assert seen(path) == before
    assert not is_file_locked(path)
    assert seen(path) == before


def test_a_lock_on_a_read_only_disk_can_be_looked_at() -> None:
    with small_disk(64) as disk:
        (disk / "a.lock").touch()
        with read_only(disk):
            assert not is_file_locked(disk / "a.lock")
            assert not is_file_locked(disk / "b.lock")


def test_several_may_look_at_a_lock_at_the_same_time(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "a.lock")
    with path.open("a") as looking:
        assert try_lock(looking.fileno(), path, shared=True)
        assert not is_file_locked(path)
