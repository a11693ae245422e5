"""The content of a file, with gzip undone if it is compressed, whatever its name says."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import IO, Any

from tasks.sources.mistaken_files import begin_of

GZIP = b"\x1f\x8b"
_CHUNK_BYTES = 2**16


class _Gunzipped(io.RawIOBase):
    """A gzip file, uncompressed as it is read.

    Unlike `gzip.open`, it does not care what follows the data: their end and checksum say that
    they are complete.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._unzip = zlib.decompressobj(wbits=31)
        self._rest = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as possible.

        Raises:
            EOFError: the file is cut off.
            zlib.error: it is damaged.
        """
        view = memoryview(buffer).cast("B")
        while len(view):
            if self._unzip.eof:
                # Several compressed files may follow one another.
                self._rest = self._unzip.unused_data or self._rest
                if not self._rest.startswith(GZIP):
                    return 0
                self._unzip = zlib.decompressobj(wbits=31)
            self._rest = self._rest or self._file.read(_CHUNK_BYTES)
            if not self._rest:
                raise EOFError("the compressed file ended too early")
            found = self._unzip.decompress(self._rest, len(view))
            self._rest = self._unzip.unconsumed_tail
            if found:
                view[: len(found)] = found
                return len(found)
        return 0

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
        UserError: it can't be read, or is obviously no file of data.
    """
    return io.BufferedReader(_Gunzipped(path)) if is_gzip(path) else path.open("rb")
