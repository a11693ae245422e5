"""Arrays in the `.npy` format, read in batches of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from tasks.storage.npz import Rows


def rows_of(stream: IO[bytes], name: str, size: int) -> Rows:
    """An array in the `.npy` format in batches of `size` rows, to be iterated once.

    Raises:
        ValueError: it is not in this format, is stored by columns, or has Python objects.
    """
    shape, dtype = _header_of(stream, name)
    return Rows(shape, dtype, batches_of(stream, shape, dtype, size))


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of an array in the `.npy` format, whether it is stored by columns, and its type.

    Raises:
        ValueError: it is not in this format.
    """
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
    row = math.prod(shape[1:]) * dtype.itemsize
    for start in range(0, shape[0], size):
        count = min(size, shape[0] - start)
        yield np.frombuffer(member.read(count * row), dtype).reshape(count, *shape[1:])


def _header_of(content: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, whose rows follow one after another.

    Raises:
        ValueError: it is not in this format, is stored by columns, or has Python objects.
    """
    shape, by_columns, dtype = read_header(content)
    if by_columns or dtype.hasobject:
        raise ValueError(f"{name} is stored by columns or has Python objects")
    return shape, dtype
