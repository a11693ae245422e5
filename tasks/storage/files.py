"""Files that appear whole or not at all, logs of checked lines, and locks that die with a process.

The primitives below the store; what is stored where is the store's business. A place is a path of
this machine or of an S3 bucket: only here and in `tasks/storage/s3.py` is there a difference.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from tasks.core.errors import StorageError, UserError
from tasks.core.records import digest_of
from tasks.storage.s3 import (
    SCHEME,
    ConflictError,
    Lease,
    S3Path,
    cache_folder,
    is_leased,
    kept_locally,
)

Place = Path | S3Path

TEMPORARY = ".part-"
LOCK_POLL_S = 0.2
# Each look at a lease is a request.
LEASE_POLL_S = 1.0
CHECK = "check"

# What waiting does not mend, and what to say of it.
LASTING = {
    errno.ENOSPC: "no space is left on its disk; free some (`fashion-flow clean --dry-run` shows "
    "what it would free)",
    errno.EDQUOT: "the disk quota is used up; free some space (`fashion-flow clean --dry-run` "
    "shows what it would free)",
    errno.EROFS: "it is on a read-only file system; make it writable or name another with --store",
    errno.EACCES: "permission is denied; mend its permissions or name another with --store",
    errno.EPERM: "the operation is not permitted; mend its permissions or name another with "
    "--store",
}


def place(url: str) -> Place:
    """The folder that a URL or a path names.

    Raises:
        UserError: it names no bucket, or anything else than a folder or a bucket.
    """
    if url.startswith(SCHEME):
        return S3Path.parse(url)
    if "://" in url and not url.startswith("file://"):
        # The rest is not repeated: it may hold a password.
        scheme = url.partition("://")[0]
        raise UserError(f"store {scheme}://...: expected a folder, or s3://bucket/prefix.")
    return Path(url.removeprefix("file://")).expanduser().absolute()


@contextmanager
def explaining(root: Place) -> Iterator[None]:
    """Say what to do about an error of the disk on which the store `root` lies.

    Raises:
        StorageError: the error is one that waiting does not mend; others pass as they are.
    """
    try:
        yield
    except OSError as error:
        advice = LASTING.get(error.errno or 0)
        where = Path(str(error.filename)) if error.filename is not None else None
        # A bucket explains its errors by itself; what fails here is the disk of what is fetched.
        folder = cache_folder() if isinstance(root, S3Path) else root
        elsewhere = where is not None and folder not in (where, *where.parents)
        if advice is None or elsewhere:
            raise
        what = "the store" if folder is root else "the folder of FASHION_FLOW_CACHE,"
        raise StorageError(f"{what} {folder} can't be written: {advice}.") from error


def write_atomically(path: Place, content: bytes) -> None:
    """Replace `path` by a file with `content`, whole or not at all."""
    if isinstance(path, S3Path):
        path.write(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def version_of(path: Place) -> str | None:
    """What a write of `path` would change; None on this machine, where a lock is enough."""
    return path.version() if isinstance(path, S3Path) else None


def write_over(path: Place, content: bytes, version: str | None) -> None:
    """Replace `path` as `write_atomically` does, unless it has another version than that.

    Raises:
        StorageError: it has; somebody else has written meanwhile.
    """
    if not isinstance(path, S3Path):
        write_atomically(path, content)
        return
    try:
        path.write_if(content, version)
    except ConflictError:
        raise StorageError(
            f"{path} was written by somebody else meanwhile, so the result is not kept.",
            may_pass=True,
        ) from None


@contextmanager
def replacing(target: Place) -> Iterator[Path]:
    """A path of this machine whose file, flushed to disk, replaces `target` if all went well."""
    if isinstance(target, S3Path):
        with target.replacing() as path:
            yield path
        return
    # The suffix stays, since libraries choose the format by it.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as opened:
            os.fsync(opened.fileno())
        temporary.chmod(0o644)
        if target.is_dir():
            shutil.rmtree(target)
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have renames and removals in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Place) -> tuple[str, int]:
    """SHA-256 and size of a file, read in pieces."""
    if isinstance(path, S3Path):
        return path.digest()
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return digest, handle.tell()


def stored_digest(path: Place) -> str:
    """SHA-256 of a file; of an object in a bucket, what was stored with it, nothing being fetched.

    Raises:
        OSError: it is not there, or can't be read.
    """
    return path.stored_digest() if isinstance(path, S3Path) else file_digest(path)[0]


def local_file(path: Place, sha256: str | None = None) -> Path:
    """A file of this machine with the bytes of `path`, for libraries that open files themselves.

    Raises:
        FileNotFoundError: `path` is in a bucket and not there.
        StorageError: it is in a bucket and has other bytes than those of the digest.
    """
    return path.local(sha256) if isinstance(path, S3Path) else path


@contextmanager
def local_log(path: Place) -> Iterator[TextIO]:
    """A text file for adding lines; if `path` is in a bucket, it is put there at the end."""
    local = log_place(path)
    local.parent.mkdir(parents=True, exist_ok=True)
    with local.open("a", encoding="utf-8", buffering=1) as file:
        try:
            yield file
        finally:
            publish_log(path)


def log_place(path: Place) -> Path:
    """Where on this machine a log is written that goes to `path`."""
    return kept_locally(path) if isinstance(path, S3Path) else path


def publish_log(path: Place) -> None:
    """Put a log into the bucket as far as it is written; it is no reason to fail if that fails."""
    if isinstance(path, S3Path):
        with suppress(OSError, StorageError):
            path.write(log_place(path).read_bytes())


def relative(path: Place, root: Place) -> str:
    """The path from `root` on, with slashes."""
    parts = str(path).removeprefix(str(root))
    assert parts != str(path) or not str(root), "only what is below it is asked for"
    return parts.strip("/")


def entries(folder: Place) -> list[Place]:
    """What is in a folder, by name; nothing where there is no folder."""
    found: list[Place] = []
    # What may not be looked at is somebody else's.
    with suppress(PermissionError):
        found = [*folder.iterdir()] if folder.is_dir() else []
    return sorted(found, key=str)


def changed_at(folder: Place) -> float:
    """When something in a folder was changed last, in seconds since 1970; now where it is empty."""
    if isinstance(folder, S3Path):
        return max((path.stat().st_mtime for path in folder.rglob("*")), default=time.time())
    return folder.stat().st_mtime


def remove_tree(path: Place) -> None:
    """Remove a folder and all that is in it."""
    if isinstance(path, S3Path):
        path.remove_tree()
    else:
        shutil.rmtree(path)


def content_digest(content: bytes) -> str:
    """SHA-256 of some bytes, as hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def append_line(path: Place, entry: Mapping[str, Any]) -> None:
    """Append one JSON line so that lines of several processes do not mix.

    The line carries a digest of itself. A line that a crash cut short is ended first, so that it
    does not spoil this one.
    """
    line = json.dumps({**entry, CHECK: digest_of(entry)[:16]}, sort_keys=True) + "\n"
    if isinstance(path, S3Path):
        path.append(line.encode())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        end = handle.seek(0, os.SEEK_END)
        if end:
            handle.seek(-1, os.SEEK_END)
            line = line if handle.read(1) == b"\n" else "\n" + line
        try:
            written = handle.write(line.encode())
            if written != len(line.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(handle.fileno())
        except OSError:
            handle.truncate(end)
            raise


def read_lines(path: Place) -> list[dict[str, Any]]:
    """The JSON lines of a log; those that are cut short or changed are passed over."""
    return [entry for _, entry in _lines(path) if entry is not None]


def damaged_lines(path: Place) -> list[int]:
    """The numbers, from 1, of the lines that `read_lines` passes over."""
    return [number for number, entry in _lines(path) if entry is None]


def _lines(path: Place) -> list[tuple[int, dict[str, Any] | None]]:
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    return [
        (number, checked(line)) for number, line in enumerate(text.split("\n"), start=1) if line
    ]


def checked(text: str) -> dict[str, Any] | None:
    """The JSON object in `text` without the digest that it carries; None if that is not its own."""
    with suppress(ValueError, RecursionError):
        entry = json.loads(text)
        if isinstance(entry, dict) and entry.pop(CHECK, None) == digest_of(entry)[:16]:
            return entry
    return None


class Held(Protocol):
    """A lock that this process holds."""

    def release(self) -> None:
        """Give it back."""


@dataclass(frozen=True)
class HeldFile:
    """A `flock`, which ends with its open file, so with the process at the latest."""

    descriptor: int

    def release(self) -> None:
        """Give it back."""
        os.close(self.descriptor)


def hold(path: Place) -> Held | None:
    """Take the lock that `path` stands for; None if somebody has it."""
    if isinstance(path, S3Path):
        return Lease.take(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
    # Who holds a lock may remove its file, so what counts is a lock on the file that is at `path`.
    if try_lock(descriptor) and _is_at(path, descriptor):
        return HeldFile(descriptor)
    os.close(descriptor)
    return None


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take a `flock` if it is free; a shared one only to see whether somebody holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Place, on_wait: Callable[[], None]) -> Iterator[Held]:
    """Hold the lock that `path` stands for; it ends with the process, however that ends."""
    waited = False
    while (held := hold(path)) is None:
        if not waited and is_locked(path):
            on_wait()
            waited = True
        time.sleep(LEASE_POLL_S if isinstance(path, S3Path) else LOCK_POLL_S)
    try:
        yield held
    finally:
        held.release()


@contextmanager
def locked_if_free(path: Place) -> Iterator[Held | None]:
    """Hold a lock unless somebody has it: yields None then."""
    held = hold(path)
    try:
        yield held
    finally:
        if held:
            held.release()


def is_locked(path: Place) -> bool:
    """Whether somebody holds the lock, found without writing anything."""
    if isinstance(path, S3Path):
        return is_leased(path)
    try:
        with path.open("r") as handle:
            return not try_lock(handle.fileno(), shared=True)
    except FileNotFoundError:
        return False


def check_held(held: Held) -> None:
    """Refuse to go on with a lock that was lost.

    Raises:
        StorageError: this process was not heard of for so long that others may have taken it.
    """
    if isinstance(held, Lease) and not held.confirm():
        raise StorageError(
            "the store did not hear of this process for too long, so that others may have begun "
            "the same stage; what it made is not kept.",
            may_pass=True,
        )


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
