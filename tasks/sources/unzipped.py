"""The content of a file, with gzip undone if it is compressed, whatever its name says."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import IO, Any

from tasks.core.errors import UserError
from tasks.sources import bounded_files
from tasks.sources.mistaken_files import begin_of

GZIP = b"\x1f\x8b"
_CHUNK_BYTES = 2**16


class _Gunzipped(io.RawIOBase):
    """A gzip file, uncompressed as it is read.

    Unlike `gzip.open`, it does not care what follows the data: their end and checksum say that
    they are complete.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._unzip = zlib.decompressobj(wbits=31)
        self._rest = b""
        self._ended = False
        self._size = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as possible.

        Raises:
            EOFError: the file is cut off.
            zlib.error: it is damaged.
            UserError: it unpacks to more than any data set has.
        """
        view = memoryview(buffer).cast("B")
        while len(view) and not self._ended:
            if self._unzip.eof and not self._another():
                break
            self._rest = self._rest or self._file.read(_CHUNK_BYTES)
            if not self._rest:
                raise EOFError("the compressed file ended too early")
            found = self._unzip.decompress(self._rest, len(view))
            self._rest = self._unzip.unconsumed_tail
            if found:
                self._count(len(found))
                view[: len(found)] = found
                return len(found)
        return 0

    def _another(self) -> bool:
        """Begin the next of several compressed files, if another follows."""
        self._rest = self._unzip.unused_data
        if len(self._rest) < len(GZIP):
            # The last read ended where the file did.
            self._rest += self._file.read(_CHUNK_BYTES)
        self._ended = not self._rest.startswith(GZIP)
        self._unzip = zlib.decompressobj(wbits=31)
        return not self._ended

    def _count(self, size: int) -> None:
        self._size += size
        limit = bounded_files.MAX_UNCOMPRESSED_BYTES
        if self._size > limit:
            raise UserError(
                f"{self._path}: unpacks to more than {limit} bytes, so it may be a file made to "
                "fill disks; unpack it yourself, and leave out what is not needed."
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed.

    Raises:
        UserError: it can't be read, or is obviously no file of data.
    """
    return begin_of(path).startswith(GZIP)


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading, uncompressed.

    Raises:
        UserError: it can't be read, or is obviously no file of data; while it is read, that it
            unpacks to more than any data set has.
    """
    return io.BufferedReader(_Gunzipped(path)) if is_gzip(path) else path.open("rb")
