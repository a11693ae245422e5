"""The IDX format, in which MNIST and Fashion-MNIST are published.

A file consists of two zero bytes, a type code (see `TYPES`), the number of dimensions, each
dimension as four bytes (big-endian), and the values in C order.
Source: "The IDX file format" in http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.messages import first_line

# The types of values by their code in the header.
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 64  # NumPy's limit; the format allows 255.
LONGEST_HEADER = 4 + 4 * _MAX_DIMENSIONS


@dataclass(frozen=True)
class Header:
    """What an IDX file says of itself: the shape and type of its array, where its values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int

    @property
    def size(self) -> int:
        """The number of bytes of the file."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def parse_idx(data: bytes, origin: str) -> NDArray[Any]:
    """Read the bytes of an uncompressed IDX file.

    Returns a read-only view of `data` with the shape and type given in the header.

    Raises:
        UserError: no IDX header, or too few or too many bytes. The message begins with `origin`.
    """
    header = parse_header(data, origin)
    check_size(header, len(data), origin)
    try:
        return np.frombuffer(data, header.dtype, offset=header.start).reshape(header.shape)
    except (
        ValueError
    ) as error:  # NumPy refuses e.g. (0, 2**32 - 1, 2**32 - 1), although it is empty
        raise UserError(
            f"{origin}: no array can have the IDX shape {header.shape} ({first_line(error)}). "
            "Fetch or write the file again."
        ) from error


def check_size(header: Header, found: int, origin: str) -> None:
    """Compare the size of a file with what its header announces.

    Raises:
        UserError: they differ.
    """
    if found != header.size:
        fault = "it is truncated" if found < header.size else "bytes follow the last value"
        raise UserError(
            f"{origin}: expected {header.size} bytes for an IDX array of shape {header.shape} and "
            f"type {header.dtype.name}, found {found}: {fault}. Fetch or write the file again."
        )


def parse_header(data: bytes, origin: str) -> Header:
    """Read the first bytes of an uncompressed IDX file, `LONGEST_HEADER` or all if it is shorter.

    Raises:
        UserError: they are no IDX header. The message begins with `origin`.
    """
    if len(data) < 4:
        raise UserError(
            f"{origin}: expected an IDX header of at least 4 bytes, found {len(data)}: it is "
            "truncated. Fetch or write the file again."
        )
    if data[:2] != b"\0\0":
        hint = "; it is compressed, gunzip it first" if data[:2] == b"\x1f\x8b" else ""
        raise UserError(
            f"{origin}: not an IDX file: expected the magic bytes 00 00, found "
            f"{data[:2].hex(' ')}{hint}."
        )
    type_code, dimensions = data[2], data[3]
    if type_code not in TYPES:
        raise UserError(
            f"{origin}: expected an IDX type code 0x08 to 0x0e, best 0x08 (unsigned byte), found "
            f"0x{type_code:02x}. The file is probably damaged; fetch or write it again."
        )
    if dimensions > _MAX_DIMENSIONS:
        raise UserError(
            f"{origin}: the IDX header says {dimensions} dimensions; expected at most "
            f"{_MAX_DIMENSIONS}. The file is probably damaged."
        )
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise UserError(
            f"{origin}: expected an IDX header of {header} bytes for {dimensions} dimensions, "
            f"found {len(data)}: it is truncated. Fetch or write the file again."
        )
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    return Header(shape, np.dtype(TYPES[type_code]), header)
