"""Locks: taking them, waiting for them, and `flock` for those on this machine's disks."""

from __future__ import annotations

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
    """Lock the file at `path`, creating it if necessary; None if the lock is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
    # The holder of a lock may remove its file, so only a lock on the file now at `path` counts.
    if try_lock(descriptor) and _is_at(path, descriptor):
        return HeldFile(descriptor)
    os.close(descriptor)
    return None


def is_file_locked(path: Path) -> bool:
    """Whether a process or thread holds the lock of the file at `path`; found without writing."""
    try:
        with path.open("r") as handle:
            return not try_lock(handle.fileno(), shared=True)
    except FileNotFoundError:
        return False


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take a `flock` if it is free; a shared one only serves to find out whether it is."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
