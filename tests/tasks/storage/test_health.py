"""A store that can't be trusted is refused before anything is computed, and nothing remains."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import StorageError
from tasks.core.records import Record, Stage
from tasks.storage import s3_client
from tasks.storage.cleaning import clean
from tasks.storage.health import check_usable, examine
from tasks.storage.local_path import LocalPath
from tasks.storage.locks import LockingError
from tasks.storage.run_log import DONE, RUNNING, RunLog, all_runs, find_run, run_ids
from tasks.storage.s3 import S3Path
from tasks.storage.s3_trials import try_conditions, try_reading, try_writing
from tasks.storage.store import Store
from tasks.storage.verification import verify
from tests.disks import fill, read_only, small_disk
from tests.lookalikes import (
    FAILS_NONE_MATCH,
    IGNORES_MATCH,
    IGNORES_NONE_MATCH,
    IS_NO_S3,
    IS_SILENT,
    IS_SLOW,
    LISTS_NOTHING,
    REFUSES_CHECKSUMS,
    REFUSES_MATCH,
    REFUSES_NONE_MATCH,
    SHOWS_NOTHING_NEW,
    lookalike,
)
from tests.processes import Command, python, s3_server
from tests.support import basis, on_disk, spec_of

KEY = "0123456789abcdef" * 4
STAGE = Stage("subset", spec_of("subset"))
NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO]


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Each test tries its store anew."""
    check_usable.cache_clear()
    yield
    check_usable.cache_clear()
    s3_client.client.cache_clear()


def flock_that(result: int | None) -> Any:
    """A `flock` that fails with an error, or (None) succeeds without locking anything."""

    def flock(_file: Any, _operation: int) -> None:
        if result is not None:
            raise OSError(result, os.strerror(result))

    return flock


def committed(store: Store) -> Record:
    outputs = store.writer(STAGE, KEY, basis(why="test"))
    outputs.blob("note", "txt", b"a note")
    return store.commit(outputs, {})


def finished_run(store: Store, run_id: str, record: Record) -> RunLog:
    run = RunLog(store, run_id)
    run.begin({}, {}, None)
    run.taken(record.stage, record.key)
    run.stage(record, "completed", "2026")
    run.end(DONE)
    return run


# Folders


def test_a_folder_is_tried_without_leaving_anything(tmp_path: Path) -> None:
    check_usable(LocalPath(tmp_path / "store"))
    assert list(tmp_path.iterdir()) == []
    found = examine(str(tmp_path / "store"))
    assert found.can == {"read": True, "written": True, "locked": True}
    assert (found.problem, found.place) == (None, str(tmp_path / "store"))
    assert found.free
    assert found.free > 0
    assert list(tmp_path.iterdir()) == []


TRY = """
import sys
from tasks.storage.health import check_usable
from tasks.storage.urls import path_of
for _ in range(int(sys.argv[2])):
    check_usable.cache_clear()
    check_usable(path_of(sys.argv[1]))
"""


def test_processes_that_try_a_folder_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    processes = [python(TRY, str(tmp_path), "40") for _ in range(3)]
    # `clean` takes what it finds for the rest of an interrupted write.
    while any(process.poll() is None for process in processes):
        clean(Store(str(tmp_path)), 0, dry_run=False)
    for process in processes:
        with process:
            assert process.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [*NO_LOCKS, None], ids=str)
def test_a_file_system_without_working_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock_that(number))
    with pytest.raises(LockingError, match="has no working locks") as refused:
        check_usable(LocalPath(tmp_path / "store"))
    said = str(refused.value)
    assert (os.strerror(number) if number else "two processes can have the same lock") in said
    assert "--store" in said
    assert len(said) <= 400
    found = examine(str(tmp_path / "store"))
    assert found.can == {"read": True, "written": True, "locked": False}
    assert found.problem == said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", NO_LOCKS)
def test_each_use_of_a_lock_says_that_locks_do_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = LocalPath(tmp_path / "file")
    path.touch()
    monkeypatch.setattr(fcntl, "flock", flock_that(number))
    before = len(os.listdir("/proc/self/fd"))
    for use in (path.hold, path.is_locked, lambda: path.append(b"line\n")):
        with pytest.raises(LockingError, match="has no working locks") as refused:
            use()
        # A lock server may come back.
        assert refused.value.transient == (number in (errno.ENOLCK, errno.EIO))
    assert len(os.listdir("/proc/self/fd")) == before
    assert path.read_bytes() == b""


def test_a_store_on_a_file_system_without_locks_can_be_read_but_not_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "store"))
    record = committed(store)
    done = finished_run(store, "run-1", record)
    running = RunLog(store, "run-2")
    running.begin({}, {}, None)
    monkeypatch.setattr(fcntl, "flock", flock_that(errno.ENOLCK))
    assert store.lookup(STAGE, KEY) == record
    assert find_run(store, None) == done
    assert running.status() == RUNNING
    found = verify(store)
    assert (found.records, found.damaged, found.orphans) == (1, (), ())
    for dry_run in (True, False):
        with pytest.raises(LockingError):
            clean(store, 0, dry_run=dry_run)
    assert store.lookup(STAGE, KEY) == record


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("fault", ["error=ENOLCK", "retval=0"])
def test_a_run_on_a_file_system_without_locks_is_refused_in_one_message(
    fault: str, environment: dict[str, str], tmp_path: Path
) -> None:
    trace = str(tmp_path / "trace")
    inject = ["strace", "-f", "-qq", "-o", trace, "-e", f"inject=flock:{fault}"]
    command = [sys.executable, "-m", "flows", "run", "--preset", "smoke"]
    done = subprocess.run(
        [*inject, *command, "--store", str(tmp_path / "store")],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "PTRACE" in done.stderr:
        pytest.skip(f"strace can't trace here: {done.stderr}")
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stderr.split())
    assert said.startswith("error: the file system of")
    assert "has no working locks" in said
    assert "Traceback" not in said
    assert not (tmp_path / "store").exists()


def test_a_read_only_folder_is_refused_with_advice() -> None:
    with small_disk(64) as disk, read_only(disk):
        with pytest.raises(StorageError, match="read-only file system; make it writable"):
            check_usable(LocalPath(disk / "new" / "store"))
        found = examine(str(disk))
        assert found.can == {"read": True, "written": False, "locked": None}
        assert "read-only" in str(found.problem)


def test_what_is_wrong_with_a_store_is_said_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    assert "is a file" in str(examine(str(tmp_path / "file")).problem)
    assert "a file is where one" in str(examine(str(tmp_path / "file/store")).problem)
    assert "symbolic links" in str(examine(str(tmp_path / "circle/store")).problem)
    assert "too long" in str(examine(str(tmp_path / ("x" * 300))).problem)
    assert "expected a folder" in str(examine("gs://bucket/x").problem)


def test_a_trial_that_is_killed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever something may take long, no file has a name."""
    seen = []

    def watched(work: Any) -> Any:
        def call(*arguments: Any) -> Any:
            seen.append(os.listdir(tmp_path))
            return work(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", watched(os.fsync))
    monkeypatch.setattr(fcntl, "flock", watched(fcntl.flock))
    check_usable(LocalPath(tmp_path / "new" / "store"))
    assert len(seen) >= 5
    assert not any(seen)


def test_a_file_system_that_says_permission_denied_of_a_taken_lock_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        try:
            work(file, operation)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None

    monkeypatch.setattr(fcntl, "flock", flock)
    root = LocalPath(tmp_path)
    check_usable(root)
    held = (root / "lock").hold()
    assert held is not None
    assert (root / "lock").hold() is None
    assert (root / "lock").is_locked()
    held.release()
    assert not (root / "lock").is_locked()


def test_locks_that_are_always_denied_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock_that(errno.EACCES))
    with pytest.raises(LockingError, match="the lock of a new file can't be taken"):
        check_usable(LocalPath(tmp_path))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_an_error_that_may_pass_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match=r"can't be written: .*name another store") as raised:
            check_usable(LocalPath(tmp_path))
    assert raised.value.transient
    check_usable(LocalPath(tmp_path))


def test_a_folder_that_cannot_be_read_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def iterdir(_path: Path) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(LocalPath, "iterdir", iterdir)
    with pytest.raises(StorageError, match="can't be read: permission is denied") as raised:
        check_usable(LocalPath(tmp_path))
    assert not raised.value.transient


def test_cleaning_needs_no_space_but_runs_do(fashion_flow: Command) -> None:
    with small_disk(256) as disk:
        store = Store(str(disk / "store"))
        finished_run(store, "run-1", committed(store))
        (on_disk(store.root) / "runs/run-1/run.log").write_bytes(b"0" * 50_000)
        finished_run(store, "run-2", committed(store))
        fill(disk)
        with pytest.raises(StorageError, match="no space is left"):
            check_usable(store.root)
        done = fashion_flow("clean", "--keep", "1", "--store", store.root)
        assert done.status == 0, done.err
        assert shutil.disk_usage(disk).free >= 49_152
        assert [run.run_id for run in all_runs(store)] == ["run-2"]
        check_usable.cache_clear()
        check_usable(store.root)


# Buckets


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("cache")) as environment:
        yield environment


@pytest.fixture
def at(server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let this process talk to an address, with an empty cache."""

    def go(address: str) -> dict[str, str]:
        there = server | {
            "AWS_ENDPOINT_URL": address,
            "FASHION_FLOW_CACHE": str(tmp_path / "cache"),
        }
        for name, value in there.items():
            monkeypatch.setenv(name, value)
        s3_client.client.cache_clear()
        return there

    return go


def objects(server: dict[str, str]) -> list[str]:
    """The keys in the bucket, seen without a proxy."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=server["AWS_ENDPOINT_URL"],
        aws_access_key_id=server["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server["AWS_SECRET_ACCESS_KEY"],
        region_name=server["AWS_DEFAULT_REGION"],
    )
    return [item["Key"] for item in client.list_objects_v2(Bucket="bucket").get("Contents", ())]


REFUSED = {
    IGNORES_NONE_MATCH: "ignores If-None-Match",
    IGNORES_MATCH: "ignores If-Match",
    REFUSES_NONE_MATCH: "refuses conditional writes",
    REFUSES_MATCH: "refuses conditional writes",
    FAILS_NONE_MATCH: "refuses If-None-Match for a new object",
}


@pytest.mark.parametrize("lack", REFUSED)
def test_a_service_without_conditional_writes_is_refused(
    server: dict[str, str], at: Any, lack: str
) -> None:
    with lookalike(server["AWS_ENDPOINT_URL"], lack) as address:
        at(address)
        with pytest.raises(StorageError, match=REFUSED[lack]) as refused:
            check_usable(S3Path("bucket", "refused"))
        said = str(refused.value)
        assert address in said
        assert "--store" in said
        assert len(said) <= 400
        assert not refused.value.transient
        found = examine("s3://bucket/refused")
        assert found.can == {"read": True, "written": True, "locked": False}
        assert found.problem == said
    assert objects(server) == []


def test_a_service_that_does_not_show_what_was_written_is_refused(
    server: dict[str, str], at: Any
) -> None:
    with lookalike(server["AWS_ENDPOINT_URL"], SHOWS_NOTHING_NEW) as address:
        at(address)
        found = examine("s3://bucket/late")
        assert found.can == {"read": True, "written": False, "locked": None}
        assert "shows old content after a write" in str(found.problem)
        with pytest.raises(StorageError, match="shows old content after a write"):
            try_conditions(S3Path("bucket", "late"))
    at(server["AWS_ENDPOINT_URL"])
    S3Path("bucket", "late").remove_tree()


def test_a_web_server_is_no_store(server: dict[str, str], at: Any) -> None:
    with lookalike(server["AWS_ENDPOINT_URL"], IS_NO_S3) as address:
        at(address)
        for tried in (try_reading, try_writing):
            with pytest.raises(StorageError, match=r"no S3 service \(404\); check AWS") as refused:
                tried(S3Path("bucket", "web"))
            assert address in str(refused.value)
        assert "AWS_ENDPOINT_URL" in str(examine("s3://bucket/web").problem)


def test_a_slow_network_makes_no_service_wrong(
    server: dict[str, str], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As little as the whole seconds of HTTP's dates allow, so that the test is quick.
    monkeypatch.setattr("tasks.storage.s3_trials.LEASE_S", 3.0)
    with lookalike(server["AWS_ENDPOINT_URL"], IS_SLOW) as address:
        at(address)
        try_conditions(S3Path("bucket", "slow"))


def test_a_silent_service_is_noticed_within_half_a_minute(
    server: dict[str, str], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = s3_client.HASTY
    assert (hasty.connect_s + hasty.read_s) * hasty.attempts <= 30
    monkeypatch.setattr(s3_client, "HASTY", replace(hasty, read_s=0.5))
    with lookalike(server["AWS_ENDPOINT_URL"], IS_SILENT) as address:
        at(address)
        begun = time.monotonic()
        with pytest.raises(StorageError, match="can't be reached"):
            check_usable(S3Path("bucket", "silent"))
        assert time.monotonic() - begun < 20


def test_what_is_wrong_with_a_bucket_is_said_and_not_raised(
    server: dict[str, str], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(server["AWS_ENDPOINT_URL"])

    def homeless() -> Path:
        raise StorageError("this user has no home folder")

    with monkeypatch.context() as patch:
        patch.setattr("tasks.storage.object_cache.cache_folder", homeless)
        assert examine("s3://bucket/x").problem == "this user has no home folder"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    s3_client.client.cache_clear()
    assert "nobody" in str(examine("s3://bucket/x").problem)
    with pytest.raises(StorageError, match="nobody"):
        check_usable(S3Path("bucket", "x"))


def test_a_removed_run_is_not_looked_for(server: dict[str, str], at: Any) -> None:
    at(server["AWS_ENDPOINT_URL"])
    store = Store("s3://bucket/removed")
    record = committed(store)
    for number in range(3):
        finished_run(store, f"run-{number}", record)
    clean(store, 1, dry_run=False)
    assert run_ids(store) == ([], ["run-2"])
    # One that begins again is there again.
    finished_run(store, "run-0", record)
    assert run_ids(store) == ([], ["run-2", "run-0"])
    store.root.remove_tree()
    assert objects(server) == []


def test_a_run_in_such_a_bucket_is_refused_in_one_message(
    server: dict[str, str], at: Any, fashion_flow: Command
) -> None:
    with lookalike(server["AWS_ENDPOINT_URL"], IGNORES_NONE_MATCH) as address:
        done = fashion_flow("run", "--preset", "smoke", "--store", "s3://bucket/x", **at(address))
    assert done.status == 1, done.err
    assert done.err.startswith("error: the store s3://bucket: the service at http://127.0.0.1")
    assert "ignores If-None-Match" in done.err
    assert "Traceback" not in done.err
    assert objects(server) == []


def test_a_service_without_checksums_and_chunked_signatures_is_used(
    server: dict[str, str], at: Any
) -> None:
    with lookalike(server["AWS_ENDPOINT_URL"], REFUSES_CHECKSUMS) as address:
        at(address)
        store = Store("s3://bucket/plain")
        store.check_usable()
        record = committed(store)
        assert store.lookup(STAGE, KEY) == record
        RunLog(store, "run-1").begin({}, {}, None)
        RunLog(store, "run-1").end(DONE)
        store.root.remove_tree()
    assert objects(server) == []


def test_a_bucket_that_passed_is_not_tried_again_for_a_day(
    server: dict[str, str], at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(server["AWS_ENDPOINT_URL"])
    root = S3Path("bucket", "tried")
    check_usable(root)
    assert objects(server) == []
    (note,) = (tmp_path / "cache" / "usable").iterdir()

    def pass_on(_root: object) -> None:
        pytest.fail("it is tried again")

    monkeypatch.setattr("tasks.storage.s3.try_writing", pass_on)
    check_usable.cache_clear()
    check_usable(root)
    # Not in another bucket, after a day, or if the clock was set back.
    monkeypatch.setattr("tasks.storage.s3.try_writing", lambda _root: 1 / 0)
    others = ((S3Path("other", "tried"), 0.0), (S3Path("bucket", "x"), 0.0))
    for other, age in (*others, (root, 90000.0), (root, -90000.0)):
        os.utime(note, (time.time() - age,) * 2)
        check_usable.cache_clear()
        with pytest.raises((ZeroDivisionError, StorageError)):
            check_usable(other)
    # Nor for another user.
    os.utime(note)
    assert root.known_usable()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    assert not root.known_usable()


def test_processes_that_try_a_bucket_at_once_do_not_disturb_each_other(
    server: dict[str, str], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(server["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("FASHION_FLOW_CACHE", "/proc/nothing/can/be/kept/here")
    processes = [python(TRY, "s3://bucket/together", "3") for _ in range(2)]
    while any(process.poll() is None for process in processes):
        clean(Store("s3://bucket/together"), 0, dry_run=False)
    for process in processes:
        with process:
            assert process.wait(60) == 0
    assert objects(server) == []


def test_nothing_is_lost_if_a_listing_shows_nothing(server: dict[str, str], at: Any) -> None:
    with lookalike(server["AWS_ENDPOINT_URL"], LISTS_NOTHING) as address:
        at(address)
        store = Store("s3://bucket/lagging")
        store.check_usable()
        record = committed(store)
        first = finished_run(store, "run-1", record)
        second = finished_run(store, "run-2", record)
        assert store.lookup(STAGE, KEY) == record
        assert all_runs(store) == [first, second]
        assert find_run(store, None) == second
        assert find_run(store, "run-1") == first
        store.check_exists()
    at(server["AWS_ENDPOINT_URL"])
    # The stages are listed by now, but not yet the run that uses this one.
    running = RunLog(store, "run-3")
    running.begin({}, {}, None)
    running.taken(record.stage, record.key)
    unlisted = S3Path.iterdir

    def lagging(self: S3Path) -> Iterator[S3Path]:
        return (path for path in unlisted(self) if path.name != "run-3")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Path, "iterdir", lagging)
        done = clean(store, 0, dry_run=False)
    assert [item.path for item in done.removed] == ["runs/run-1"]
    assert store.lookup(STAGE, KEY) == record
    running.end(DONE)


def test_what_a_listing_still_shows_although_it_was_removed_is_no_damage(
    server: dict[str, str], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(server["AWS_ENDPOINT_URL"])
    store = Store("s3://bucket/stale")
    record = committed(store)
    folder = store.folder(record.stage, record.key)
    gone = folder / f"checkpoint-000001-{'0' * 64}.npz"
    gone.write(b"removed")
    stale = list(folder.iterdir())
    gone.unlink()
    listing = S3Path.iterdir
    monkeypatch.setattr(
        S3Path, "iterdir", lambda self: iter(stale) if self == folder else listing(self)
    )
    found = verify(store)
    assert (found.records, found.damaged, found.unfinished) == (1, (), ())


def test_a_run_that_began_last_is_the_latest_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    record = committed(store)
    for run_id, now in (("a", "2026-03-02"), ("c", "2026-03-03"), ("b", "2026-03-01")):
        monkeypatch.setattr("tasks.storage.run_log.now", lambda now=now: f"{now}T00:00:00+00:00")
        finished_run(store, run_id, record)
    assert [run.run_id for run in all_runs(store)] == ["a", "c", "b"]
    assert find_run(store, None).run_id == "b"
    # Runs of versions without an index are sorted by date.
    (on_disk(store.root) / "runs.jsonl").unlink()
    assert [run.run_id for run in all_runs(store)] == ["b", "a", "c"]
