"""Arrays in `.npy` files and `.npz` archives, read in blocks of rows."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources import bounded_files
from tasks.sources.mistaken_files import begin_of
from tasks.sources.npy import read_header, rows_of

# What is read at a time.
BLOCK_BYTES = 2**24
# What zipfile and NumPy raise for damaged archives, wrong headers and pickled objects.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class StoredArray:
    """An array that was not read yet.

    Attributes:
        path: its file.
        name: its name in an archive, or the file's name.
        member: whether it is in an archive.
        shape: its shape.
        dtype: its type; never read if it has Python objects.
        by_columns: whether it is stored by columns.
    """

    path: Path
    name: str
    member: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool

    @property
    def origin(self) -> str:
        """How messages call it."""
        return f"{self.path}: {self.name}" if self.member else str(self.path)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Blocks of its rows, in order.

        Raises:
            UserError: it is damaged, or has Python objects.
        """
        self._check()
        size = rows_per_block(self.shape, self.dtype)
        if self.by_columns:
            whole = self.whole()
            for start in range(0, len(whole), size):
                yield whole[start : start + size]
            return
        with _opened(self.path, self.name, self.member) as stream:
            yield from rows_of(stream, self.name, size).batches

    def whole(self) -> NDArray[Any]:
        """All of it.

        Raises:
            UserError: it is damaged, or has Python objects.
        """
        self._check()
        with _opened(self.path, self.name, self.member) as stream:
            found: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return found

    def _check(self) -> None:
        if self.dtype.hasobject:
            raise UserError(
                f"{self.origin} has Python objects, which are never loaded; write it as numbers, "
                "or as strings with np.array(..., dtype=str)."
            )


def rows_per_block(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """How many rows are read at a time."""
    return max(1, BLOCK_BYTES // max(1, dtype.itemsize * math.prod(shape[1:])))


def in_npy(path: Path) -> StoredArray:
    """The array in a `.npy` file.

    Raises:
        UserError: the file can't be read or is not in this format.
    """
    begin_of(path)
    with _opened(path, path.name, member=False) as stream:
        shape, by_columns, dtype = read_header(stream)
        start = stream.tell()
    found = StoredArray(path, path.name, False, shape, dtype, by_columns)
    _check_size(found, path.stat().st_size - start)
    return found


def in_npz(path: Path) -> list[StoredArray]:
    """The arrays in a `.npz` archive, in its order.

    Raises:
        UserError: the file can't be read or is not in this format.
    """
    begin_of(path)
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: expected a zip archive as written by np.savez; it is another kind of file, "
            "or truncated. Get it again."
        )
    with _translated(str(path)), zipfile.ZipFile(path) as archive:
        members = [item for item in archive.infolist() if item.filename.endswith(".npy")]
    unpacked = sum(item.file_size for item in members)
    limit = bounded_files.MAX_UNCOMPRESSED_BYTES
    if unpacked > limit:
        raise UserError(f"{path}: unpacks to {unpacked} bytes; expected at most {limit} bytes.")
    found = []
    for item in members:
        name = item.filename.removesuffix(".npy")
        with _opened(path, name, member=True) as stream:
            shape, by_columns, dtype = read_header(stream)
            start = stream.tell()
        array = StoredArray(path, name, True, shape, dtype, by_columns)
        _check_size(array, item.file_size - start)
        found.append(array)
    return found


def _check_size(array: StoredArray, size: int) -> None:
    """Refuse an array that announces more than there is, before anything is made of its size."""
    expected = math.prod(array.shape) * array.dtype.itemsize
    if not array.dtype.hasobject and size < expected:
        raise UserError(
            f"{array.origin} is cut off: {size} of {expected} bytes are there; get the file again."
        )


@contextmanager
def _opened(path: Path, name: str, member: bool) -> Iterator[IO[bytes]]:
    with _translated(f"{path}: {name}" if member else str(path)):
        if not member:
            with path.open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            yield stream


@contextmanager
def _translated(origin: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        raise UserError(
            f"{origin} can't be read ({first_line(error)}); expected a complete array as np.save "
            "and np.savez write it. Get the file again or write it again."
        ) from error
