"""Atomically written files, logs whose lines carry digests, and advice on disk errors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.core.errors import StorageError
from tasks.core.records import digest_of
from tasks.storage.store_path import ConflictError, StorePath

TEMPORARY = ".part-"
CHECK = "check"

# Errors that last until the user does something about them, and what to do.
LASTING = {
    errno.ENOSPC: "no space is left on its disk; free some (`fashion-flow clean --dry-run` shows "
    "what it would free)",
    errno.EDQUOT: "the disk quota is used up; free some space (`fashion-flow clean --dry-run` "
    "shows what it would free)",
    errno.EROFS: "it is on a read-only file system; make it writable or name another with --store",
    errno.EACCES: "permission is denied; change its permissions or name another with --store",
    errno.EPERM: "the operation is not permitted; change its permissions or name another with "
    "--store",
    errno.EFBIG: "a file would be larger than this process or its disk allows; raise the limit "
    "(`ulimit -f unlimited`) or name another with --store",
    errno.ENOTDIR: "a file is where one of its folders should be; move it away, or name another "
    "with --store",
    errno.EEXIST: "something is where one of its folders should be; move it away, or name another "
    "with --store",
    errno.EISDIR: "a folder is where one of its files should be; move it away, or name another "
    "with --store",
}


# Errors of a full disk.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# Errors that may pass, and what to do if they do not.
PASSING = {
    errno.EIO: "check the disk (`dmesg`); `fashion-flow verify` finds damaged files",
    errno.ESTALE: "a network file system has replaced or lost it; mount it again",
}


@contextmanager
def explaining(root: StorePath) -> Iterator[None]:
    """Add advice to errors of the disk to which the store at `root` writes.

    Raises:
        StorageError: for the errors in `LASTING` and `PASSING`; others are raised unchanged.
    """
    try:
        yield
    except OSError as error:
        lasting = error.errno in LASTING
        where = Path(str(error.filename)) if error.filename is not None else None
        _, folder = root.disk()
        elsewhere = where is not None and folder not in (where, *where.parents)
        if elsewhere or not (lasting or error.errno in PASSING):
            raise
        if lasting:
            raise unusable(root, error) from error
        said = f"{error.filename or folder}: {advised(error)}"
        raise StorageError(said, transient=True) from error


def advised(error: OSError) -> str:
    """The text of an error, with advice if there is any."""
    advice = PASSING.get(error.errno or 0)
    text = str(error.strerror or error)
    return f"{text}; {advice}, or name another store with --store." if advice else text


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Add the name of a file to errors while it is read, from which Python leaves it out."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def unusable(root: StorePath, error: OSError, use: str = "written") -> StorageError:
    """The error that the store at `root` can't be used, with advice; transient if it may pass.

    Args:
        root: the store.
        error: the error of its disk.
        use: what failed, as a participle, e.g. `read`.
    """
    name, folder = root.disk()
    passes = error.errno in PASSING
    lasting = LASTING.get(error.errno or 0, f"{error.strerror or error}; name another with --store")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR) and error.filename:
        lasting = f"{lasting} ({error.filename})"
    advice = advised(error) if passes else f"{lasting}."
    return StorageError(f"{name} {folder} can't be {use}: {advice}", transient=passes)


# Files of this machine


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by a file with `content`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary file that is flushed to disk and replaces `target` if the context ends well.

    A folder at `target` is removed first; of a link, only the link is replaced.
    """
    # Libraries choose the format by the suffix, so the temporary file has it too.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as opened:
            os.fsync(opened.fileno())
        temporary.chmod(0o644)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush renames and removals in a folder to disk, so that they survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> tuple[str, int]:
    """SHA-256 (hexadecimal) and size of a file, read in pieces."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return digest, handle.tell()


def content_digest(content: bytes) -> str:
    """SHA-256 of some bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


# Files and folders of a store


def write_over(path: StorePath, content: bytes, version: str | None) -> None:
    """Replace `path`, whole or not at all, if it still has that version.

    Raises:
        StorageError: another process has written in the meantime.
    """
    try:
        path.write_if(content, version)
    except ConflictError:
        raise StorageError(
            f"another process wrote {path} in the meantime, so this result is not kept; run again.",
            transient=True,
        ) from None


def relative(path: StorePath, root: StorePath) -> str:
    """The path below `root`, with slashes."""
    parts = str(path).removeprefix(str(root))
    assert parts != str(path) or not str(root), "path must be below root"
    return parts.strip("/")


def entries(folder: StorePath) -> list[StorePath]:
    """The files and folders in a folder, sorted by name; empty if there is no such folder."""
    found: list[StorePath] = []
    # A folder that this user may not read belongs to another program.
    with suppress(PermissionError):
        found = [*folder.iterdir()] if folder.is_dir() else []
    return sorted(found, key=str)


# Logs of JSON lines, each with a digest of itself


def append_line(path: StorePath, entry: Mapping[str, Any]) -> None:
    """Append one JSON line with its digest; lines of several processes do not mix.

    If a crash cut the last line short, a newline is added first, so that this line stays intact.
    """
    line = json.dumps({**entry, CHECK: digest_of(entry)[:16]}, sort_keys=True) + "\n"
    path.append(line.encode())


def read_lines(path: StorePath) -> list[dict[str, Any]]:
    """The JSON lines of a log, without those that are damaged."""
    return [entry for _, entry in _lines(path) if entry is not None]


def damaged_lines(path: StorePath) -> list[int]:
    """The numbers, from 1, of the lines that `read_lines` leaves out."""
    return [number for number, entry in _lines(path) if entry is None]


def _lines(path: StorePath) -> list[tuple[int, dict[str, Any] | None]]:
    if not path.is_file():
        return []
    with naming(path):
        text = path.read_bytes().decode("utf-8", errors="replace")
    return [
        (number, checked(line)) for number, line in enumerate(text.split("\n"), start=1) if line
    ]


def checked(text: str) -> dict[str, Any] | None:
    """The JSON object in `text` without its digest; None if the digest is wrong."""
    with suppress(ValueError, RecursionError):
        entry = json.loads(text)
        if isinstance(entry, dict) and entry.pop(CHECK, None) == digest_of(entry)[:16]:
            return entry
    return None
