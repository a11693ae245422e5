"""Arrays that are read by rows, so that they need not be in memory as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Int64

T = TypeVar("T")

# Bytes of a block of rows.
_BLOCK = 2**24


class RowReader(Protocol):
    """The part of an array `(n, ...)` that is needed to read some of its rows.

    NumPy's arrays have it, too. Positions are in [0, n) and may repeat, in any order.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, ...)`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a number."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice | Int64, /) -> NDArray[Any]:
        """The rows of a slice or at some positions `(m,)`, as an array `(m, ...)`."""


@dataclass(frozen=True)
class Joined:
    """Consecutive rows of one or more arrays, which differ in their number of rows only.

    Nothing is copied before rows are read.
    """

    parts: Sequence[RowReader]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, ...)`, where n is the sum over the parts."""
        return (len(self), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the parts' numbers."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, chosen: slice | Int64, /) -> NDArray[Any]:
        """The rows of a slice or at some positions, as an array."""
        wanted = np.arange(len(self))[chosen]
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        begin = 0
        for part in self.parts:
            here = (wanted >= begin) & (wanted < begin + len(part))
            if here.any():
                found[here] = part[wanted[here] - begin]
            begin += len(part)
        return found


@dataclass(frozen=True)
class Picked:
    """The rows of an array at `positions` `(m,)`, which are read when they are needed."""

    rows: RowReader
    positions: Int64

    @property
    def shape(self) -> tuple[int, ...]:
        """`(m, ...)`."""
        return (len(self), *self.rows.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a number."""
        return self.rows.dtype

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chosen: slice | Int64, /) -> NDArray[Any]:
        """The rows of a slice or at some positions, as an array."""
        return self.rows[self.positions[chosen]]


@dataclass(frozen=True)
class Reduced:
    """Images `(n, h, w, c)` uint8 with their sides divided by a whole number.

    Each pixel is the rounded mean of a square of `factor` x `factor` pixels. What is left over on
    the right and below is cut off.
    """

    images: RowReader
    factor: int

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, h / factor, w / factor, c)`, rounded down."""
        count, height, width, channels = self.images.shape
        return (count, height // self.factor, width // self.factor, channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a number, uint8."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: slice | Int64, /) -> NDArray[Any]:
        """The reduced images of a slice or at some positions."""
        found = self.images[chosen]
        side = self.factor
        height, width, channels = self.shape[1:]
        area = side**2
        # As few bits as hold the sums, added image by image, so that they stay in the cache.
        kind = np.uint16 if area * 256 <= 2**16 else np.uint32
        means = np.empty((len(found), height, width, channels), self.dtype)
        for image, mean in zip(found, means, strict=True):
            sums = np.full(mean.shape, area // 2, kind)
            cut = image[: height * side, : width * side]
            for down, right in product(range(side), repeat=2):
                sums += cut[down::side, right::side]
            mean[...] = sums // kind(area)
        return means


def blocks(rows: RowReader, size: int | None = None) -> Iterator[NDArray[Any]]:
    """All rows in order, `size` at a time; by default as many as take 16 MiB, but at least one.

    What is not in memory is read ahead.
    """
    row = math.prod(rows.shape[1:]) * rows.dtype.itemsize
    step = size or max(1, _BLOCK // max(1, row))
    found = (rows[start : start + step] for start in range(0, len(rows), step))
    return found if isinstance(rows, np.ndarray) else read_ahead(found)


def taken(rows: RowReader, positions: Int64) -> NDArray[Any]:
    """The rows at some positions, as an array; what makes each of them is held for few at once."""
    found = np.empty((len(positions), *rows.shape[1:]), rows.dtype)
    row = math.prod(rows.shape[1:]) * rows.dtype.itemsize
    step = max(1, _BLOCK // max(1, row))
    for start in range(0, len(positions), step):
        found[start : start + step] = rows[positions[start : start + step]]
    return found


def read_ahead(parts: Iterable[T]) -> Iterator[T]:
    """The same parts; a thread makes each while the one before is used."""
    remaining, end = iter(parts), object()
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, remaining, end)
        while (part := coming.result()) is not end:
            coming = reader.submit(next, remaining, end)
            yield cast("T", part)
