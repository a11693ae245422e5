"""The IDX format, in which MNIST and Fashion-MNIST are published.

A file consists of two zero bytes, a type code (0x08: unsigned byte), the number of dimensions,
each dimension as four bytes (big-endian), and the values in C order.
Source: "The IDX file format" in http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.messages import first_line

UNSIGNED_BYTE = 0x08
_OTHER_TYPES = {
    0x09: "signed byte",
    0x0B: "short (2 bytes)",
    0x0C: "int (4 bytes)",
    0x0D: "float (4 bytes)",
    0x0E: "double (8 bytes)",
}
_MAX_DIMENSIONS = 64  # NumPy's limit; the format allows 255.


def parse_idx(data: bytes, origin: str) -> NDArray[np.uint8]:
    """Read the bytes of an uncompressed IDX file of unsigned bytes.

    Returns a read-only uint8 view of `data` with the shape given in the header.

    Raises:
        UserError: no IDX header, values that are not unsigned bytes, or too few or too many bytes.
            The message begins with `origin`.
    """
    shape = _parse_header(data, origin)
    start = 4 + 4 * len(shape)
    expected = start + math.prod(shape)
    if len(data) != expected:
        fault = "it is truncated" if len(data) < expected else "bytes follow the last value"
        raise UserError(
            f"{origin}: expected {expected} bytes for an IDX array of shape {shape}, found "
            f"{len(data)}: {fault}. Fetch or write the file again."
        )
    try:
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    except (
        ValueError
    ) as error:  # NumPy refuses e.g. (0, 2**32 - 1, 2**32 - 1), although it is empty
        raise UserError(
            f"{origin}: no array can have the IDX shape {shape} ({first_line(error)}). Fetch or "
            "write the file again."
        ) from error


def _parse_header(data: bytes, origin: str) -> tuple[int, ...]:
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
    if type_code != UNSIGNED_BYTE:
        raise UserError(
            f"{origin}: expected IDX type code 0x08 (unsigned byte), found 0x{type_code:02x} "
            f"({_OTHER_TYPES.get(type_code, 'unknown')}). Convert the values to 0..255 first."
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
    return struct.unpack_from(f">{dimensions}I", data, 4)
