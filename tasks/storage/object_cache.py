"""What this machine keeps of buckets: fetched objects, logs, and which can hold a store.

`FASHION_FLOW_CACHE` names the folder, `FASHION_FLOW_CACHE_GB` limits its size.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.core.errors import StorageError, UserError
from tasks.core.messages import quoted
from tasks.storage.files import TEMPORARY, file_digest

CACHE_VARIABLE, LIMIT_VARIABLE = "FASHION_FLOW_CACHE", "FASHION_FLOW_CACHE_GB"
CACHE_GB = 20.0
ADVICE = f"name a folder of yours: export {CACHE_VARIABLE}=FOLDER"
# A file that was requested this recently may still be opened by its name.
IN_USE_S = 3600.0
# A temporary file this old belongs to a process that was killed.
ABANDONED_S = 86400.0
# The service behind an address may be replaced by another.
REMEMBERED_S = 86400.0


def cache_folder() -> Path:
    """The folder in which this machine keeps what it fetches.

    Raises:
        StorageError: none is named, and the user has no home folder.
    """
    given = os.environ.get(CACHE_VARIABLE)
    try:
        if given:
            return Path(given).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fashion-flow"
    except RuntimeError:
        raise StorageError(
            f"this user has no home folder for files of a bucket; {ADVICE}."
        ) from None


def log_file(bucket: str, key: str) -> Path:
    """The local file of a log, which is uploaded as a whole later.

    Raises:
        StorageError: the folder can't be created.
    """
    return _folder() / "logs" / bucket / key


def find(digest: str, suffix: str) -> Path | None:
    """The intact file with that SHA-256, marked as used; None if it is not kept here."""
    kept = _file(digest, suffix)
    with suppress(FileNotFoundError):
        if file_digest(kept)[0] == digest:
            os.utime(kept)
            return kept
    return None


def keep(path: Path, digest: str) -> Path:
    """Move a file of `temporary` to where `find` finds it; remove old files over the limit."""
    kept = _file(digest, path.suffix)
    path.chmod(0o644)
    path.replace(kept)
    _trim()
    return kept


@contextmanager
def temporary(suffix: str) -> Iterator[Path]:
    """An empty file, removed at the end unless it was moved."""
    handle, name = tempfile.mkstemp(dir=_folder(), prefix=TEMPORARY, suffix=suffix)
    os.close(handle)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def remember(digest: str) -> None:
    """Note that the bucket of that digest can hold a store."""
    place = _passed(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def remembers(digest: str) -> bool:
    """Whether `remember` was called for the bucket within `REMEMBERED_S`."""
    with suppress(OSError):
        return 0 <= time.time() - _passed(digest).stat().st_mtime < REMEMBERED_S
    return False


def _passed(digest: str) -> Path:
    return cache_folder() / "usable" / digest


def _folder() -> Path:
    folder = cache_folder()
    try:
        (folder / "objects").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"files of a bucket can't be kept in {folder} ({error.strerror}); {ADVICE}."
        ) from None
    return folder


def _file(digest: str, suffix: str) -> Path:
    # Libraries choose the format by the suffix.
    return _folder() / "objects" / f"{digest}{suffix}"


def _trim() -> None:
    """Remove abandoned temporary files, and the least recently used objects over the limit."""
    limit, now = _limit(), time.time()
    for path in _folder().glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
    kept = []
    for path in (_folder() / "objects").iterdir():
        with suppress(FileNotFoundError):
            found = path.stat()
            kept.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in kept)
    for used, size, path in sorted(kept):
        if total <= limit or now - used < IN_USE_S:
            return
        path.unlink(missing_ok=True)
        total -= size


def _limit() -> float:
    """The most bytes that the objects may take.

    Raises:
        UserError: the variable is not a number, or below 0.
    """
    given = os.environ.get(LIMIT_VARIABLE) or CACHE_GB
    with suppress(ValueError):
        limit = float(given)
        if limit >= 0:
            return limit * 1e9
    raise UserError(
        f"{LIMIT_VARIABLE} is {quoted(given)}; expected a number of gigabytes, 0 or more, e.g. 20."
    )
