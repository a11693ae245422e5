"""A store in a bucket: objects are whole, hits are intact, a lease has one holder."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import StageError, StorageError, UserError
from tasks.core.records import Record, Stage
from tasks.storage import files, lease, object_cache, s3, s3_client
from tasks.storage.cleaning import clean
from tasks.storage.files import append_line, read_lines, write_over
from tasks.storage.lease import Lease
from tasks.storage.locks import locked
from tasks.storage.run_log import DONE, KILLED, RunLog
from tasks.storage.s3 import S3Path
from tasks.storage.store import Miss, Store
from tasks.storage.store_path import ConflictError
from tasks.storage.verification import verify
from tests.processes import Command, python, s3_server, wait_for
from tests.support import basis, spec_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[3]
KEY = "0123456789abcdef" * 4
STAGE = Stage("subset", spec_of("subset"))
# The test server's clock has a resolution of one second.
SHORT_LEASE_S = 3.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("cache")) as environment:
        yield environment


@pytest.fixture(scope="module", autouse=True)
def _here(server: dict[str, str]) -> Iterator[None]:
    """This process talks to the server, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.items():
            patch.setenv(name, value)
        s3_client.client.cache_clear()
        yield
    s3_client.client.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is fetched."""
    monkeypatch.setenv("FASHION_FLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(request: pytest.FixtureRequest, cache: Path) -> S3Path:
    """A prefix of the test's own, and nothing of it on this machine."""
    assert not cache.exists()
    return S3Path("bucket", hashlib.sha256(request.node.name.encode()).hexdigest()[:12])


@pytest.fixture
def store(root: S3Path) -> Store:
    return Store(str(root))


@pytest.fixture
def client() -> S3Client:
    return s3_client.client()


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", SHORT_LEASE_S)
    monkeypatch.setattr(s3, "LEASE_POLL_S", 0.1)


def committed(store: Store, name: str = "subset", key: str = KEY) -> Record:
    outputs = store.writer(Stage(name, spec_of(name)), key, basis(why="test"))
    outputs.arrays("train", x=np.arange(300, dtype=np.int32))
    outputs.blob("note", "txt", b"a note")
    return store.commit(outputs, {"classes": 3})


def place_of(store: Store, record: Record, name: str = "train") -> S3Path:
    found = store.root / record.files[name].path
    assert isinstance(found, S3Path)
    return found


def reason(store: Store, record: Record) -> str:
    found = store.lookup(STAGE, record.key)
    assert isinstance(found, Miss)
    return found.reason


# Names


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///x", "s3://A/x", "s3://key:hunter2@bucket/x", "s3://bucket:9000/x"]
)
def test_an_invalid_bucket_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match=r"expected s3://bucket/prefix") as refused:
        Store(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["s3://bucket/a/b", "s3://bucket/a/b/", "s3://bucket//a//b"])
def test_equivalent_urls_give_one_path(url: str) -> None:
    assert str(Store(url).root) == "s3://bucket/a/b"


def test_a_whole_bucket_can_be_a_store() -> None:
    root = Store("s3://bucket").root
    assert str(root) == str(Store("s3://bucket/").root) == "s3://bucket"
    assert str(root / "runs") == "s3://bucket/runs"


NAMES = st.sampled_from(["a", "b", "run.json", "model", ".part-x"])


@settings(max_examples=25)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=6), st.data())
def test_objects_are_found_as_files_in_a_folder_are(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], data: st.DataObject
) -> None:
    # On a disk, what is a folder is no file.
    kept = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    folder = tmp_path_factory.mktemp("folder")
    root = S3Path("bucket", f"names/{folder.name}")
    for name in kept:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
        (root / name).write(name.encode())
    for pattern in ("*", "*/run.json", ".part-*", "model/.part-*", "a/b"):
        expected = {str(path.relative_to(folder)) for path in folder.glob(pattern)}
        assert {files.relative(path, root) for path in root.glob(pattern)} == expected
    below = {path for path in folder.rglob("*") if path.is_file()}
    assert {files.relative(path, root) for path in root.rglob("*")} == {
        str(path.relative_to(folder)) for path in below
    }
    name = data.draw(NAMES)
    assert (root / name).exists() == (folder / name).exists()
    assert (root / name).is_dir() == (folder / name).is_dir()
    assert (root / name).is_file() == (folder / name).is_file()
    for path in root.rglob("*"):
        assert path.stat().st_size == len(path.read_bytes()) == path.digest()[1]
    root.remove_tree()
    assert not root.exists()


# Results


def test_a_hit_is_found_without_fetching_anything(store: Store, cache: Path) -> None:
    record = committed(store)
    for kept in (cache / "objects").iterdir():
        kept.unlink()
    assert store.lookup(STAGE, KEY) == record
    assert list((cache / "objects").iterdir()) == []


def test_a_fetched_object_is_kept_by_its_digest(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = committed(store)
    monkeypatch.setenv("FASHION_FLOW_CACHE", str(tmp_path / "another machine"))
    assert store.content(record, "note") == b"a note"
    (kept,) = (tmp_path / "another machine" / "objects").iterdir()
    assert kept.name == f"{record.files['note'].sha256}.txt"
    place_of(store, record, "note").unlink()
    assert store.content(record, "note") == b"a note", "it is not fetched twice"


def test_a_damaged_local_copy_is_fetched_again(store: Store, cache: Path) -> None:
    record = committed(store)
    (kept,) = (cache / "objects").glob("*.npz")
    kept.chmod(0o644)
    kept.write_bytes(b"damaged")
    assert len(store.content(record, "train")) == record.files["train"].size
    assert kept.stat().st_size == record.files["train"].size


@pytest.mark.parametrize(
    ("content", "metadata", "said"),
    [
        (None, {}, "train is missing"),
        (b"short", {}, "train has 5 bytes instead of"),
        ("same size", {}, "train has other content"),
        ("same size", {"sha256": "0" * 64}, "train has other content"),
    ],
    ids=["removed", "cut", "replaced", "replaced by a program like this"],
)
def test_a_damaged_object_is_a_miss_and_is_restored(
    store: Store, client: S3Client, content: Any, metadata: dict[str, str], said: str
) -> None:
    record = committed(store)
    place = place_of(store, record)
    if content is None:
        place.unlink()
    else:
        body = content if isinstance(content, bytes) else b"x" * record.files["train"].size
        client.put_object(Bucket="bucket", Key=place.key, Body=body, Metadata=metadata)
    assert reason(store, record).startswith(said)
    assert committed(store) == record
    assert store.lookup(STAGE, KEY) == record


def test_bytes_that_contradict_their_metadata_are_noticed_when_read_and_restored(
    store: Store, client: S3Client, cache: Path
) -> None:
    record = committed(store)
    place = place_of(store, record)
    lie = {"sha256": record.files["train"].sha256}
    body = b"x" * record.files["train"].size
    client.put_object(Bucket="bucket", Key=place.key, Body=body, Metadata=lie)
    for kept in (cache / "objects").iterdir():
        kept.unlink()
    assert store.lookup(STAGE, KEY) == record, "nothing is fetched for a look"
    (damaged,) = verify(store).damaged
    assert "train has other content" in damaged.reason
    with pytest.raises(StageError, match="does not match its SHA-256; run again to restore it"):
        store.content(record, "train")
    assert reason(store, record).startswith("train has 0 bytes instead of")
    assert committed(store) == record
    assert len(store.content(record, "train")) == record.files["train"].size


def test_an_object_that_was_rewritten_in_the_meantime_is_left_alone(
    store: Store, cache: Path
) -> None:
    record = committed(store)
    for kept in (cache / "objects").iterdir():
        kept.unlink()
    place = place_of(store, record, "note")
    place.write(b"made anew, with its digest")
    with pytest.raises(StageError, match="does not match its SHA-256"):
        store.content(record, "note")
    assert place.read_bytes() == b"made anew, with its digest"


def test_an_object_without_a_stored_digest_is_hashed(store: Store, client: S3Client) -> None:
    record = committed(store)
    place = place_of(store, record)
    client.put_object(Bucket="bucket", Key=place.key, Body=place.read_bytes())
    assert place.stat().st_size == record.files["train"].size
    assert store.lookup(STAGE, KEY) == record


def test_a_record_that_another_process_wrote_in_the_meantime_stays(store: Store) -> None:
    late = store.writer(STAGE, KEY, basis(why="test"))
    late.blob("note", "txt", b"another note")
    record = committed(store)
    with pytest.raises(StorageError, match="another process wrote") as refused:
        store.commit(late, {"classes": 4})
    assert refused.value.transient, "tried again, it finds the other's result"
    assert store.record("subset", KEY) == record


def test_a_write_that_fails_leaves_nothing(store: Store, cache: Path) -> None:
    outputs = store.writer(STAGE, KEY, basis(why="test"))

    def broken(path: Path) -> None:
        path.write_bytes(b"half of")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        outputs.file("model", "keras", broken)
    assert not store.root.exists()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_the_least_recently_used_files_are_removed_first(
    root: S3Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_cache, "IN_USE_S", 100.0)
    monkeypatch.setenv("FASHION_FLOW_CACHE_GB", "0.0000025")
    names = ["old", "older", "in use"]
    for name, age in zip(names, (200, 300, 0), strict=True):
        (root / name).write(name.encode() * 250)
        kept = (root / name).local()
        os.utime(kept, (time.time() - age,) * 2)
    (root / "new").write(b"n" * 1000)
    (root / "new").local()
    left = {path.read_bytes()[:3] for path in (cache / "objects").iterdir()}
    assert left == {b"in ", b"nnn"}
    assert not list(cache.glob(".part-*"))


@pytest.mark.parametrize("limit", ["20GB", "nan", "-1"])
def test_a_wrong_limit_is_refused_and_removes_nothing(
    root: S3Path, cache: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(object_cache, "IN_USE_S", -1.0)
    (root / "first").write(b"1")
    kept = (root / "first").local()
    monkeypatch.setenv("FASHION_FLOW_CACHE_GB", limit)
    (root / "second").write(b"2")
    with pytest.raises(UserError, match=rf"FASHION_FLOW_CACHE_GB is '{limit}'; expected a number"):
        (root / "second").local()
    assert kept.is_relative_to(cache)
    assert kept.exists()


@pytest.mark.parametrize("variable", ["FASHION_FLOW_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_a_cache_that_can_not_be_created_is_named_with_a_way_out(
    variable: str, root: S3Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "first").write(b"1")
    for name in ("FASHION_FLOW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/proc/1/nope")
    said = r"can't be kept in /proc/1/nope.*export FASHION_FLOW_CACHE=FOLDER"
    with pytest.raises(StorageError, match=said):
        (root / "first").local()
    with pytest.raises(StorageError, match=said):
        (root / "run.log").log_file()


def test_a_full_disk_of_this_machine_is_explained(root: S3Path, cache: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(cache / "objects" / "x"))
    said = r"FASHION_FLOW_CACHE.*no space is left"
    with pytest.raises(StorageError, match=said), files.explaining(root):
        raise full
    other = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/images.npz")
    with pytest.raises(PermissionError), files.explaining(root):
        raise other


# Logs

APPEND = """
import sys
from tasks.storage.files import append_line
from tasks.storage.urls import path_of
for number in range(12):
    append_line(path_of(sys.argv[1]), {"writer": sys.argv[2], "line": number})
"""


def test_no_line_of_several_writers_is_lost(root: S3Path) -> None:
    path = root / "log.jsonl"
    writers = [python(APPEND, str(path), str(number)) for number in range(3)]
    for writer in writers:
        with writer:
            assert writer.wait(120) == 0
    entries = read_lines(path)
    assert len(entries) == 36
    for number in range(3):
        assert [e["line"] for e in entries if e["writer"] == str(number)] == list(range(12))


def test_a_conditional_write_over_another_version_is_refused(root: S3Path) -> None:
    path = root / "run.json"
    first = path.write_if(b"one", None)
    assert path.version() == first
    with pytest.raises(ConflictError):
        path.write_if(b"two", None)
    path.write(b"three")
    with pytest.raises(ConflictError):
        path.write_if(b"two", first)
    with pytest.raises(StorageError, match="another process wrote"):
        write_over(path, b"two", first)
    assert path.read_bytes() == b"three"
    # As when the answer to the same write was lost on its way.
    assert path.write_if(b"three", first) == path.version()
    path.unlink()
    with pytest.raises(ConflictError):
        path.write_if(b"two", first)


# Leases

HOLD = """
import sys, time
from tasks.storage import lease as module
module.LEASE_S = float(sys.argv[2])
from tasks.storage.locks import locked
from tasks.storage.urls import path_of
with locked(path_of(sys.argv[1]), lambda: None) as lease:
    print("held", flush=True)
    sys.stdin = open(0)
    while True:
        print(lease.held, flush=True)
        time.sleep(0.2)
"""


@pytest.mark.usefixtures("short_leases")
def test_a_lease_has_one_holder_at_a_time(root: S3Path) -> None:
    path = root / "locks" / "a.lock"
    assert not path.is_locked()
    with locked(path, pytest.fail) as held:
        assert path.is_locked()
        assert Lease.take(path) is None
        assert isinstance(held, Lease)
        time.sleep(2 * SHORT_LEASE_S)
        assert held.held, "it is renewed"
        assert path.is_locked()
        assert Lease.take(path) is None
    assert not path.is_locked()
    with locked(path, pytest.fail):
        assert path.is_locked()


@pytest.mark.usefixtures("short_leases")
def test_the_lease_of_a_killed_process_is_taken_over(root: S3Path) -> None:
    path = root / "locks" / "a.lock"
    waits: list[str] = []
    with python(HOLD, str(path), str(SHORT_LEASE_S)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert path.is_locked()
        process.kill()
        with locked(path, lambda: waits.append("waits")):
            assert path.is_locked()
    assert waits == ["waits"]


@pytest.mark.usefixtures("short_leases")
def test_a_process_that_was_suspended_too_long_notices_that_its_lease_is_lost(root: S3Path) -> None:
    path = root / "locks" / "a.lock"
    with python(HOLD, str(path), str(SHORT_LEASE_S)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        with locked(path, lambda: None) as held:
            process.send_signal(signal.SIGCONT)
            wait_for(lambda: process.stdout.readline() == "False\n", 60, "the loss to be known")  # type: ignore[union-attr]
            time.sleep(SHORT_LEASE_S)
            assert isinstance(held, Lease)
            assert held.held, "the other has not taken it back"
        process.kill()


@pytest.mark.usefixtures("short_leases")
def test_a_result_is_not_kept_if_the_lease_was_lost(store: Store) -> None:
    with store.lock(STAGE, KEY, lambda: None) as held:
        outputs = store.writer(STAGE, KEY, basis(why="test"), held=held)
        outputs.blob("note", "txt", b"a note")
        # Somebody took it over, as after a long sleep.
        path = store.lock_path(store.folder("subset", KEY))
        assert isinstance(path, S3Path)
        path.write(lease._packed("somebody else", 0))
        assert isinstance(held, Lease)
        wait_for(lambda: not held.held, 30, "the loss to be known")
        with pytest.raises(StorageError, match="did not renew its lock") as lost:
            store.commit(outputs, {})
        assert lost.value.transient
        with pytest.raises(StorageError, match="did not renew its lock"):
            outputs.checkpoints({}, 9).check()
        with pytest.raises(StorageError, match="did not renew its lock"):
            outputs.blob("note", "txt", b"written over another's")
        assert (outputs.folder / "note.txt").read_bytes() == b"a note"
    assert path.is_locked(), "what is another's is not given back"
    assert isinstance(store.lookup(STAGE, KEY), Miss)


# Runs


@pytest.mark.usefixtures("short_leases")
def test_a_run_whose_lease_expired_was_killed(store: Store, monkeypatch: Any) -> None:
    run = RunLog(store, "run-1")
    run.begin({}, {}, None)
    assert run.status() == "running"
    monkeypatch.setattr("tasks.storage.run_log.LOOKING_S", 0.2)
    monkeypatch.setattr("tasks.storage.run_log._held", {})
    with pytest.raises(UserError, match="is still running in another process"):
        run.begin({}, {}, None)
    # Its lease is another process's, which is no more.
    path = run.folder / "alive.lock"
    assert isinstance(path, S3Path)
    path.write(lease._packed("killed", 0))
    wait_for(lambda: run.status() == KILLED, 30, "the run to be known as killed")


def test_results_that_no_kept_run_uses_are_removed(store: Store) -> None:
    old, new = committed(store, key="a" * 64), committed(store, key="b" * 64)
    for run_id, record in (("run-1", old), ("run-2", new)):
        run = RunLog(store, run_id)
        run.begin({}, {}, None)
        run.taken("subset", record.key)
        run.stage(record, "completed", "2026")
        run.end(DONE)
    assert verify(store).records == 2
    dry = clean(store, 1, dry_run=True)
    assert len(list(store.records("subset"))) == 2
    done = clean(store, 1, dry_run=False)
    assert [item.path for item in done.removed] == [f"stages/subset/{'a' * 16}", "runs/run-1"]
    assert dry.removed == done.removed
    assert [record.key for record in store.records("subset")] == [new.key]
    found = verify(store)
    assert (found.records, found.damaged, found.orphans) == (1, (), ())


def test_a_run_that_never_began_is_removed(store: Store, monkeypatch: Any) -> None:
    (store.root / "runs/run-1/run.log").write(b"no such plan")
    assert clean(store, 1, dry_run=True).removed == ()
    monkeypatch.setattr("tasks.storage.cleaning.STARTING_S", -1.0)
    assert [item.path for item in clean(store, 1, dry_run=False).removed] == ["runs/run-1"]


def test_an_object_that_cannot_be_removed_is_reported(
    root: S3Path, client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a/b").write(b"locked")
    from botocore.exceptions import ClientError

    def refuse(**_: Any) -> None:
        answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "DeleteObject")  # type: ignore[arg-type]

    monkeypatch.setattr(client, "delete_object", refuse)
    with pytest.raises(StorageError, match=r"refuses DeleteObject \(AccessDenied\)"):
        (root / "a").remove_tree()


def test_a_line_is_appended_once_even_if_the_answer_was_lost(
    root: S3Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "log"
    path.write(b"first\n")
    write, calls = S3Path.write_if, []

    def lossy(self: S3Path, content: bytes, version: str | None) -> str:
        calls.append(version)
        found = write(self, content, version)
        if len(calls) == 1:
            self.write(content + b"another's\n")
            raise ConflictError("the answer was lost, and the request repeated")
        return found

    monkeypatch.setattr(S3Path, "write_if", lossy)
    path.append(b"mine\n")
    assert path.read_bytes() == b"first\nmine\nanother's\n"


def test_an_append_to_an_empty_log_begins_it(root: S3Path) -> None:
    append_line(root / "log", {"a": 1})
    append_line(root / "log", {"b": 2})
    assert read_lines(root / "log") == [{"a": 1}, {"b": 2}]


def test_settings_of_requests_are_the_programs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_RETRY_MODE": "legacy",
        "AWS_MAX_ATTEMPTS": "99",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported",
    }.items():
        monkeypatch.setenv(name, value)
    config: Any = s3_client.client.__wrapped__().meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert config.request_checksum_calculation == "when_required"
    assert config.response_checksum_validation == "when_required"


# What goes wrong


@pytest.mark.parametrize(
    ("store", "changes", "said", "status"),
    [
        ("s3://no-such-bucket/x", {}, "there is no bucket s3://no-such-bucket", 1),
        ("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "can't be reached", 1),
        (
            "s3://bucket/x",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "needs credentials: set AWS_ACCESS_KEY_ID",
            1,
        ),
        ("s3://bucket/nothing", {}, "there is no store in s3://bucket/nothing", 2),
        ("s3://Bucket:1/x", {}, "expected s3://bucket/prefix", 2),
        ("S3://id:a-secret-of-the-tests@bucket/x", {}, "expected a folder, or s3://bucket", 2),
        ("s3://bucket/x", {"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL: expected", 2),
        (
            "s3://bucket/x",
            {"AWS_DEFAULT_REGION": "a b"},
            "settings of the AWS SDK (Provided region_name 'a b' doesn't match",
            1,
        ),
        (
            "s3://bucket/x",
            {"AWS_CONFIG_FILE": __file__},
            "correct its file, by default ~/.aws/config",
            1,
        ),
        (
            "s3://bucket/x",
            {"AWS_STS_REGIONAL_ENDPOINTS": "no"},
            "(STS regional endpoints option no is invalid.",
            1,
        ),
        ("s3://bucket/x", {"AWS_PROFILE": "nobody"}, "profile (nobody) could not be found", 1),
        (
            "s3://bucket/x",
            {"AWS_ENDPOINT_URL": "http://id:a-secret-of-the-tests@127.0.0.1:9"},
            "can't be reached",
            1,
        ),
    ],
)
def test_errors_are_explained(
    fashion_flow: Command,
    server: dict[str, str],
    store: str,
    changes: dict[str, str],
    said: str,
    status: int,
) -> None:
    none = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    settings = changes.keys() - {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    command = "runs" if settings else "verify"
    done = fashion_flow(command, "--store", store, **(server | none | changes))
    assert done.status == status, done.err
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert server["AWS_SECRET_ACCESS_KEY"] not in done.err + done.out
