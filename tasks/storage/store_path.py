"""The interface of paths in a store, which `LocalPath` and `S3Path` implement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self


class ConflictError(Exception):
    """A conditional write failed: the file is no longer the version to be replaced."""


class Held(Protocol):
    """A lock that this process holds."""

    def confirm(self) -> bool:
        """Whether the lock is certainly still held; may send a request."""

    def release(self) -> None:
        """Give the lock back."""


class Status(Protocol):
    """The part of `os.stat_result` that the store uses."""

    @property
    def st_size(self) -> int:
        """Size in bytes."""

    @property
    def st_mtime(self) -> float:
        """Time of the last change, in seconds since 1970."""


class StorePath(Protocol):
    """A file or folder in a store, on a disk or in a bucket.

    The first group of methods behaves as in `pathlib.Path`.
    """

    @property
    def name(self) -> str:
        """The last part of the path."""

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on."""

    @property
    def parent(self) -> Self:
        """The folder that contains it."""

    def __truediv__(self, name: str, /) -> Self: ...

    def __hash__(self) -> int: ...

    def exists(self) -> bool:
        """Whether there is a file or a folder of that name."""

    def is_file(self) -> bool:
        """Whether there is a file of that name."""

    def is_dir(self) -> bool:
        """Whether there is a folder of that name."""

    def is_symlink(self) -> bool:
        """Whether it is a link to another file or folder."""

    def stat(self) -> Status:
        """Size and time of the last change; raises `FileNotFoundError`."""

    def read_bytes(self) -> bytes:
        """The bytes of the file; raises `FileNotFoundError`."""

    def read_text(self, encoding: str = ..., errors: str = ...) -> str:
        """The text of the file; raises `FileNotFoundError`."""

    def iterdir(self) -> Iterator[Self]:
        """The files and folders directly below it."""

    def glob(self, pattern: str) -> Iterator[Self]:
        """The files and folders below it that match."""

    def rglob(self, pattern: str) -> Iterator[Self]:
        """The files at any depth below it whose names match; on a disk, the folders too."""

    def mkdir(self, *, parents: bool = ..., exist_ok: bool = ...) -> None:
        """Make the folder, if the storage has folders."""

    def unlink(self, missing_ok: bool = ...) -> None:
        """Remove the file."""

    # Files as a whole

    def write(self, content: bytes) -> None:
        """Replace the file, whole or not at all, and make its folder if necessary."""

    def replacing(self) -> AbstractContextManager[Path]:
        """A temporary file of this machine that replaces the file when the context ends well."""

    def version(self) -> str | None:
        """A text that changes with each write; None if there is no file, or a lock is enough."""

    def write_if(self, content: bytes, version: str | None) -> str | None:
        """Write like `write`, but only over that version; return the new version.

        Raises:
            ConflictError: another process has written in the meantime.
        """

    def append(self, line: bytes) -> None:
        """Append a line, which ends in a newline, without mixing with other writers' lines."""

    def remove_tree(self) -> None:
        """Remove the folder and everything in it."""

    def digest(self) -> tuple[str, int]:
        """SHA-256 (hexadecimal) and size, computed from the bytes; raises `OSError`."""

    def stored_digest(self) -> str:
        """SHA-256 (hexadecimal); a bucket answers with the one stored beside the object.

        Raises:
            OSError: the file is missing or unreadable.
        """

    def local(self, digest: str | None = None) -> Path:
        """A file of this machine with the same bytes, for libraries that open files themselves.

        Args:
            digest: the SHA-256 that fetched bytes must have; by default the stored one.

        Raises:
            FileNotFoundError: the file is in a bucket and missing.
            StorageError: the file is in a bucket and has other bytes.
        """

    def changed_at(self) -> float:
        """Time of the last change in the folder, in seconds since 1970."""

    # Locks

    def hold(self) -> Held | None:
        """Take the lock at this path; None if another process or thread has it."""

    def is_locked(self) -> bool:
        """Whether the lock is held; found without writing."""

    @property
    def poll_s(self) -> float:
        """Seconds between two attempts to take the lock."""

    @property
    def lease_s(self) -> float:
        """Seconds that the lock may outlive its holder; 0 if it ends with the process."""

    # Trials

    def trials(self) -> Mapping[str, Callable[[], None]]:
        """What the store must be able to do: for each, a function that tries it.

        It leaves nothing behind, and raises `StorageError` or `OSError` if the store is not able.
        """

    def known_usable(self) -> bool:
        """Whether this machine remembers that all trials passed lately."""

    def remember_usable(self) -> None:
        """Remember that all trials passed, where they take long."""

    # Logs and messages

    def log_file(self) -> Path:
        """The file of this machine to which a log that belongs at this path is written."""

    def publish_log(self) -> None:
        """Copy what `log_file` contains so far to this path; a failure is ignored."""

    def disk(self) -> tuple[str, Path]:
        """The local folder that receives writes: its name in messages, and its path."""
