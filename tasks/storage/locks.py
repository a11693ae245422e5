"""Locks: taking them, waiting for them, and `flock` for those on this machine's disks."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import StorageError
from tasks.storage.store_path import Held, StorePath


@contextmanager
def locked(path: StorePath, on_wait: Callable[[], None]) -> Iterator[Held]:
    """Wait for the lock at `path` and hold it.

    If the process is killed, a lock on a disk ends with it, and one in a bucket expires.

    Args:
        path: the lock.
        on_wait: called once if another process or thread has the lock.
    """
    waited = False
    while (held := path.hold()) is None:
        if not waited and path.is_locked():
            on_wait()
            waited = True
        time.sleep(path.poll_s)
    try:
        yield held
    finally:
        held.release()


@contextmanager
def locked_if_free(path: StorePath) -> Iterator[Held | None]:
    """Hold a lock, or yield None without waiting if it is taken."""
    held = path.hold()
    try:
        yield held
    finally:
        if held:
            held.release()


def seems_locked(path: StorePath, *, otherwise: bool) -> bool:
    """Whether the lock at `path` is held; `otherwise` if its file system can't tell.

    For commands that only read. Whoever writes must know.
    """
    try:
        return path.is_locked()
    except LockingError:
        return otherwise


def check_held(held: Held) -> None:
    """Refuse to continue with a lock that was lost.

    Raises:
        StorageError: the lock was not renewed in time, so others may have taken it.
    """
    if not held.confirm():
        raise StorageError(
            "this process did not renew its lock on the stage in time, so another may have started "
            "the same stage; this result is not kept. Run again to get it.",
            transient=True,
        )


# Locks on this machine

# File systems that have no locks at all say so; other errors of a lock may pass.
NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class LockingError(StorageError):
    """A lock can be neither taken nor looked at, because of its file system."""

    def __init__(self, place: Path, why: str, *, transient: bool = False) -> None:
        super().__init__(
            f"the file system of {place} has no working locks ({why}), so runs could overwrite "
            "each other's results. Name a folder on another disk with --store, or a bucket "
            "(s3://bucket/prefix); or set its locks up: mount Lustre with the option flock; for "
            "NFS, start the lock service (rpc.statd) or mount version 4.",
            transient=transient,
        )


@dataclass(frozen=True)
class HeldFile:
    """A `flock`, which ends with its open file, so with the process at the latest."""

    descriptor: int

    def confirm(self) -> bool:
        """Whether it is still held: always, as long as this process lives."""
        return True

    def release(self) -> None:
        """Give it back."""
        os.close(self.descriptor)


def hold_file(path: Path) -> HeldFile | None:
    """Lock the file at `path`, creating it if necessary; None if the lock is taken.

    Raises:
        LockingError: the file system has no working locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
    held = False
    try:
        # The holder of a lock may remove its file, so only a lock on the file now at `path` counts.
        held = try_lock(descriptor, path) and _is_at(path, descriptor)
    finally:
        if not held:
            os.close(descriptor)
    return HeldFile(descriptor) if held else None


def is_file_locked(path: Path) -> bool:
    """Whether a process or thread holds the lock of the file at `path`; found without writing.

    Raises:
        LockingError: the file system can't tell.
    """
    try:
        with path.open("r") as handle:
            return not try_lock(handle.fileno(), path, shared=True)
    except FileNotFoundError:
        return False


def try_lock(descriptor: int, path: Path, *, shared: bool = False) -> bool:
    """Take a `flock` if it is free; a shared one only serves to find out whether it is.

    Args:
        descriptor: the open file.
        path: its path, for messages.
        shared: whether others may have a shared lock at the same time.

    Raises:
        LockingError: the file system has no working locks.
    """
    return _flock(descriptor, path, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def wait_for_lock(descriptor: int, path: Path) -> None:
    """Wait for the `flock` of an open file, which ends when the file is closed.

    Raises:
        LockingError: the file system has no working locks.
    """
    _flock(descriptor, path, fcntl.LOCK_EX)


def _flock(descriptor: int, path: Path, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some file systems (SMB) say so of a lock that is taken.
        if error.errno == errno.EACCES and operation & fcntl.LOCK_NB:
            return False
        why, passes = error.strerror or str(error), error.errno not in NO_LOCKS
        raise LockingError(path.parent, why, transient=passes) from None
    return True


def check_locks(first: int, second: int, folder: Path) -> None:
    """Refuse a file system on which a lock fails, or excludes nobody.

    Args:
        first: a new file.
        second: the same, opened again: like two processes, they exclude each other.
        folder: its folder, for messages.

    Raises:
        LockingError: the file system has no working locks.
    """
    path = folder / "trial"
    if not try_lock(first, path):
        raise LockingError(folder, "the lock of a new file can't be taken")
    for shared in (False, True):
        if try_lock(second, path, shared=shared):
            raise LockingError(folder, "two processes can have the same lock")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
