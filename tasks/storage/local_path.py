"""Paths of a store on this machine's disks."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path, PosixPath
from typing import BinaryIO

from tasks.storage.files import (
    TEMPORARY,
    file_digest,
    replacing,
    sync_folder,
    write_atomically,
)
from tasks.storage.locks import check_locks, hold_file, is_file_locked, wait_for_lock
from tasks.storage.store_path import Held

LOCK_POLL_S = 0.2


class LocalPath(PosixPath):
    """A path on this machine; the methods are described by `StorePath`."""

    def read_bytes(self) -> bytes:
        """The bytes of the file; a pipe, which nobody may ever write, is refused."""
        self._refuse_pipes()
        return super().read_bytes()

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The text of the file; a pipe, which nobody may ever write, is refused."""
        self._refuse_pipes()
        return super().read_text(encoding, errors)

    def _refuse_pipes(self) -> None:
        if self.is_fifo() or self.is_socket() or self.is_char_device():
            raise OSError(errno.EINVAL, "not a regular file", str(self))

    def write(self, content: bytes) -> None:
        """Replace the file, whole or not at all, and make its folder if necessary."""
        write_atomically(self, content)

    def replacing(self) -> AbstractContextManager[Path]:
        """A temporary file in the same folder that replaces the file when the context ends well."""
        return replacing(self)

    def version(self) -> None:
        """None: on a disk, the stage's lock is enough."""

    def write_if(self, content: bytes, version: str | None) -> None:  # noqa: ARG002
        """Write like `write`: on a disk, the stage's lock is enough."""
        self.write(content)

    def append(self, line: bytes) -> None:
        """Append a line, under a lock and flushed to disk; if that fails, nothing is appended."""
        self.parent.mkdir(parents=True, exist_ok=True)
        with self.open("a+b", buffering=0) as handle:
            wait_for_lock(handle.fileno(), self)
            end = handle.seek(0, os.SEEK_END)
            if end:
                handle.seek(-1, os.SEEK_END)
                line = line if handle.read(1) == b"\n" else b"\n" + line
            try:
                if handle.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
                os.fsync(handle.fileno())
            except OSError:
                handle.truncate(end)
                raise

    def remove_tree(self) -> None:
        """Remove the folder and everything in it; of a link, only the link."""
        if self.is_symlink():
            self.unlink()
        else:
            shutil.rmtree(self)

    def digest(self) -> tuple[str, int]:
        """SHA-256 (hexadecimal) and size of the file, read in pieces."""
        return file_digest(self)

    def stored_digest(self) -> str:
        """SHA-256 (hexadecimal) of the file."""
        return self.digest()[0]

    def local(self, digest: str | None = None) -> Path:  # noqa: ARG002
        """The path itself; its bytes are not compared."""
        return self

    def changed_at(self) -> float:
        """Time of the last change in the folder, in seconds since 1970."""
        return self.stat().st_mtime

    def hold(self) -> Held | None:
        """Take the lock of this file; None if another process or thread has it."""
        return hold_file(self)

    def is_locked(self) -> bool:
        """Whether the lock of this file is held; found without writing."""
        return is_file_locked(self)

    @property
    def poll_s(self) -> float:
        """Seconds between two attempts to take the lock."""
        return LOCK_POLL_S

    @property
    def lease_s(self) -> float:
        """0: a lock on a file ends with its process."""
        return 0.0

    def trials(self) -> Mapping[str, Callable[[], None]]:
        """Reading, writing and locking; a store that does not exist yet is not made."""
        return {"read": self._try_reading, "written": self._try_writing, "locked": self._try_locks}

    def known_usable(self) -> bool:
        """False: the trials take milliseconds."""
        return False

    def remember_usable(self) -> None:
        """Do nothing."""

    def _try_reading(self) -> None:
        for _ in self._nearest().iterdir():
            return

    def _try_writing(self) -> None:
        with self._tried_file() as (file, _):
            file.write(b"trial")
            file.flush()
            os.fsync(file.fileno())
            sync_folder(self._nearest())

    def _try_locks(self) -> None:
        with self._tried_file() as (first, second):
            check_locks(first.fileno(), second.fileno(), self._nearest())

    @contextmanager
    def _tried_file(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """A new empty file, opened twice, that was renamed.

        It has no name any more, so it ends with the process.
        """
        path = self._nearest() / f"{TEMPORARY}{secrets.token_hex(8)}"
        with path.open("xb") as first, ExitStack() as later:
            try:
                second = later.enter_context(path.open("rb+"))
                path = path.replace(f"{path}-renamed")
            finally:
                path.unlink(missing_ok=True)
            yield first, second

    def _nearest(self) -> Path:
        """The folder itself, or the nearest above it that exists: it is on the same disk."""
        for folder in (self, *self.parents):
            with suppress(FileNotFoundError):
                folder.lstat()
                return folder
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    def log_file(self) -> Path:
        """The path itself."""
        return self

    def publish_log(self) -> None:
        """Do nothing: the log was written to this path."""

    def disk(self) -> tuple[str, Path]:
        """The store's own folder."""
        return "the store", self
