"""`.npz` archives that are written and read in batches of rows, without pickles or dates."""

from __future__ import annotations

import math
import os
import struct
import weakref
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Arrays of at most so many bytes are read as a whole.
IN_MEMORY = 2**28
# Of a member's header in a zip file: its mark, and where the lengths of its last two parts are.
_MEMBER, _LENGTHS, _FIXED = b"PK\x03\x04", slice(26, 30), 30


@dataclass(frozen=True)
class Rows:
    """An array `(n, ...)` as an iterable of batches of its rows, in order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    batches: Iterable[np.ndarray]


class StoredRows:
    """An array `(n, ...)` in an archive, whose rows are read when they are asked for.

    They are read from the file and not mapped, since mapped pages would count as memory. The file
    stays open as long as this object lives. Threads may read at the same time.

    Attributes:
        shape: `(n, ...)`.
        dtype: the type of a number.
        row_bytes: bytes of a row.
    """

    def __init__(
        self, file: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        """`file` is a descriptor, which is duplicated; `offset` is where the numbers begin."""
        self._file = os.dup(file)
        weakref.finalize(self, os.close, self._file)
        self._offset = offset
        self.shape = shape
        self.dtype = dtype
        self.row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: slice | NDArray[np.int64], /) -> np.ndarray:
        """The rows of a slice or at some positions `(m,)`, as an array `(m, ...)`.

        Raises:
            IndexError: a position is not in [0, n).
            OSError: they can't be read.
        """
        import numpy as np

        if isinstance(chosen, slice):
            wanted = np.arange(*chosen.indices(len(self)))
        else:
            wanted = np.asarray(chosen, np.int64)
            if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
                raise IndexError(f"expected positions from 0 to {len(self) - 1}")
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        size = self.row_bytes
        # Neighbouring rows in the file are read together.
        cuts = (np.flatnonzero(np.diff(ordered) != 1) + 1).tolist()
        target = found.reshape(-1).view(np.uint8)
        for start, end in zip([0, *cuts], [*cuts, len(ordered)], strict=True):
            if start < end:
                place = self._offset + int(ordered[start]) * size
                _read(self._file, target[start * size : end * size], place)
        if (order[:-1] < order[1:]).all():
            return found
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return found[back]


def _read(file: int, target: np.ndarray, offset: int) -> None:
    """Fill `target` `(n,)` uint8 with a file's bytes from `offset` on."""
    while len(target):
        count = os.preadv(file, [target.data], offset)
        if not count:
            raise OSError(f"{len(target)} bytes are missing at the end of an archive")
        target, offset = target[count:], offset + count


def stored_arrays(handle: IO[bytes]) -> dict[str, np.ndarray | StoredRows]:
    """The arrays of an archive: those of at most `IN_MEMORY` bytes, and the others by rows.

    Raises:
        ValueError: a large array is compressed, stored by columns, or has Python objects.
    """
    import numpy as np

    found: dict[str, np.ndarray | StoredRows] = {}
    with np.load(handle, allow_pickle=False) as archive, zipfile.ZipFile(handle) as members:
        for name in archive.files:
            member = members.getinfo(f"{name}.npy")
            large = member.file_size > IN_MEMORY
            found[name] = _stored_rows(handle, members, member) if large else archive[name]
    return found


def _stored_rows(
    handle: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> StoredRows:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with archive.open(member) as content:
        shape, dtype = _header(content, member.filename)
        header = content.tell()
    handle.seek(member.header_offset)
    local = handle.read(_FIXED)
    begin = member.header_offset + _FIXED + sum(struct.unpack("<HH", local[_LENGTHS])) + header
    rows = StoredRows(handle.fileno(), begin, shape, dtype)
    if local[:4] != _MEMBER or member.file_size != header + len(rows) * rows.row_bytes:
        raise ValueError(f"{member.filename} is not an array of the announced size")
    return rows


def _header(content: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array that `write_npz` wrote."""
    import numpy as np

    np.lib.format.read_magic(content)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(content)
    if by_columns or dtype.hasobject:
        raise ValueError(f"{name} is stored by columns or has Python objects")
    return shape, dtype


def write_npz(handle: IO[bytes], arrays: Mapping[str, np.ndarray | Rows]) -> None:
    """Write the same bytes as `np.savez`, without ever holding all rows of a `Rows` in memory.

    Raises:
        ValueError: an array contains Python objects, or the batches do not have the announced
            number, shape or type of rows.
    """
    import numpy as np

    with zipfile.ZipFile(handle, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                if isinstance(array, Rows):
                    _write_rows(member, array, name)
                else:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _write_rows(member: IO[bytes], rows: Rows, name: str) -> None:
    import numpy as np

    header = {
        "descr": np.lib.format.dtype_to_descr(rows.dtype),
        "fortran_order": False,
        "shape": rows.shape,
    }
    np.lib.format.write_array_header_1_0(member, header)
    count = 0
    for batch in rows.batches:
        if batch.shape[1:] != rows.shape[1:] or batch.dtype != rows.dtype:
            raise ValueError(
                f"{name}: expected rows {rows.dtype} {rows.shape[1:]}, "
                f"found {batch.dtype} {batch.shape[1:]}"
            )
        member.write(np.ascontiguousarray(batch).data)
        count += len(batch)
    if count != rows.shape[0]:
        raise ValueError(f"{name}: expected {rows.shape[0]} rows, found {count}")
