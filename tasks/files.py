"""Files that appear whole or not at all, logs of checked lines, and locks that die with a process.

The primitives below the store; what is stored where is the store's business.
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
from pathlib import Path
from typing import Any

from tasks.core.errors import StorageError
from tasks.core.records import digest_of

TEMPORARY = ".part-"
LOCK_POLL_S = 0.2
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


@contextmanager
def explaining(root: Path) -> Iterator[None]:
    """Say what to do about an error of the disk on which the store `root` lies.

    Raises:
        StorageError: the error is one that waiting does not mend; others pass as they are.
    """
    try:
        yield
    except OSError as error:
        advice = LASTING.get(error.errno or 0)
        elsewhere = error.filename is not None and root not in Path(str(error.filename)).parents
        if advice is None or (elsewhere and Path(str(error.filename)) != root):
            raise
        raise StorageError(f"the store {root} can't be written: {advice}.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by a file with `content`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place, flushed to disk, if all went well."""
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


def file_digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, read in pieces."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return digest, handle.tell()


def content_digest(content: bytes) -> str:
    """SHA-256 of some bytes, as hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one JSON line under a lock, so that lines of several processes do not mix.

    The line carries a digest of itself. A line that a crash cut short is ended first, so that it
    does not spoil this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({**entry, CHECK: digest_of(entry)[:16]}, sort_keys=True) + "\n"
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


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log; those that are cut short or changed are passed over."""
    return [entry for _, entry in _lines(path) if entry is not None]


def damaged_lines(path: Path) -> list[int]:
    """The numbers, from 1, of the lines that `read_lines` passes over."""
    return [number for number, entry in _lines(path) if entry is None]


def _lines(path: Path) -> list[tuple[int, dict[str, Any] | None]]:
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


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take a `flock` if it is free; a shared one only to see whether somebody holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock that the file `path` stands for; it ends with the process, however that ends.

    Who holds a lock may remove its file, so what counts is a lock on the file
    that is at `path` once it is held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    waited = False
    while True:
        with path.open("a") as handle:
            if try_lock(handle.fileno()):
                if _is_at(path, handle.fileno()):
                    yield
                    return
                continue
        if not waited:
            on_wait()
            waited = True
        time.sleep(LOCK_POLL_S)


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock unless somebody has it: yields whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        yield try_lock(handle.fileno()) and _is_at(path, handle.fileno())


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock, found without writing anything."""
    try:
        with path.open("r") as handle:
            return not try_lock(handle.fileno(), shared=True)
    except FileNotFoundError:
        return False


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
