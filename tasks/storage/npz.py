"""`.npz` archives that are written and read in batches of rows, without pickles or dates."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Rows:
    """An array `(n, ...)` as an iterable of batches of its rows, in order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    batches: Iterable[np.ndarray]


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


@contextmanager
def read_rows(handle: IO[bytes], name: str, size: int) -> Iterator[Rows]:
    """An array of an archive in batches of `size` rows, to be iterated once within the context.

    Raises:
        ValueError: the array is stored by columns, so its rows can't be read one after another.
    """
    with zipfile.ZipFile(handle) as archive, archive.open(f"{name}.npy") as member:
        yield rows_of(member, name, size)


def rows_of(stream: IO[bytes], name: str, size: int) -> Rows:
    """An array in the `.npy` format in batches of `size` rows, to be iterated once.

    Raises:
        ValueError: it is not in this format, or stored by columns.
    """
    shape, by_columns, dtype = read_header(stream)
    if by_columns:
        raise ValueError(f"{name} is stored by columns")
    return Rows(shape, dtype, batches_of(stream, shape, dtype, size))


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of an array in the `.npy` format, whether it is stored by columns, and its type.

    Raises:
        ValueError: it is not in this format.
    """
    import numpy as np

    if np.lib.format.read_magic(stream) == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def batches_of(
    member: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], size: int
) -> Iterator[np.ndarray]:
    """The bytes of an array's rows in batches of `size` rows.

    Raises:
        ValueError: there are too few.
    """
    import numpy as np

    row = dtype.itemsize
    for length in shape[1:]:
        row *= length
    for start in range(0, shape[0], size):
        count = min(size, shape[0] - start)
        yield np.frombuffer(member.read(count * row), dtype).reshape(count, *shape[1:])
