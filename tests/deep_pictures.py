"""Files of 16 bits per channel, written byte by byte, since Pillow can't write those of colours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint16]

# The colour types of PNG by channels.
_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# Row and column of the first pixel of each of Adam7's passes, and the steps to the next.
_PASSES = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
)  # fmt: skip


def png(numbers: Numbers, *, adam7: bool = False, **chunks: bytes) -> bytes:
    """A PNG of `(h, w, 1 to 4)`, with the five filters in turn, and further chunks."""
    height, width, channels = numbers.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _TYPES[channels], 0, 0, adam7)
    passes = [numbers[a::b, c::d] for a, c, b, d in _PASSES] if adam7 else [numbers]
    content = b"".join(row for some in passes if some.size for row in _filtered(some))
    parts = [(b"IHDR", header)]
    parts += [(name.encode(), data) for name, data in chunks.items()]
    parts += [(b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _filtered(numbers: Numbers) -> Iterator[bytes]:
    """The rows of a PNG, https://www.w3.org/TR/png-3/#9Filters."""
    step = 2 * numbers.shape[2]
    rows = np.frombuffer(numbers.astype(">u2").tobytes(), np.uint8).reshape(len(numbers), -1)
    padded = np.pad(rows.astype(int), ((1, 0), (step, 0)))
    for at in range(1, len(padded)):
        here, left = padded[at, step:], padded[at, :-step]
        up, corner = padded[at - 1, step:], padded[at - 1, :-step]
        distances = np.abs([up - corner, left - corner, left + up - 2 * corner])
        paeth = np.choose(distances.argmin(axis=0), [left, up, corner])
        expected = (0 * here, left, up, (left + up) // 2, paeth)[at % 5]
        yield bytes([at % 5]) + ((here - expected) % 256).astype(np.uint8).tobytes()


def tiff(
    numbers: Numbers,
    *,
    order: str = "<",
    deflated: bool = False,
    extra: int | None = None,
    planar: bool = False,
    orientation: int = 1,
) -> bytes:
    """A TIFF of `(h, w, 1, 3 or 4)`; `extra` says what the fourth channel is."""
    height, width, channels = numbers.shape
    content = np.moveaxis(numbers, 2, 0) if planar else numbers
    planes = [plane.astype(f"{order}u2").tobytes() for plane in (content if planar else [content])]
    strips = [zlib.compress(plane) if deflated else plane for plane in planes]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [16] * channels),
        259: ("H", [8 if deflated else 1]),
        262: ("H", [2 if channels > 1 else 1]),
        273: ("I", [0] * len(strips)),
        274: ("H", [orientation]),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if planar else 1]),
    }
    if extra is not None:
        tags[338] = ("H", [extra])
    begin = 8 + 2 + 12 * len(tags) + 4
    outside = b""
    tags[273][1][:] = [10_000 + sum(map(len, strips[:at])) for at in range(len(strips))]
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(data) > 4:
            place = struct.pack(f"{order}I", begin + len(outside))
            outside, data = outside + data, place
        code = {"H": 3, "I": 4}[kind]
        entries += struct.pack(f"{order}HHI", tag, code, len(values)) + data.ljust(4, b"\0")
    mark = {"<": b"II", ">": b"MM"}[order]
    head = mark + struct.pack(f"{order}HIH", 42, 8, len(tags)) + entries + bytes(4) + outside
    return head.ljust(10_000, b"\0") + b"".join(strips)


def drawn(*shape: int, highest: int = 65_535, seed: int = 0) -> Numbers:
    """Random numbers, of which `highest` is the largest, but 0 the first."""
    found: Any = np.random.default_rng(seed).integers(0, highest + 1, shape, np.uint16)
    found.reshape(-1)[0] = 0
    found[-1, -1, ...] = highest
    return np.asarray(found, np.uint16)
