"""What the tests of readers of pictures share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.core.array_types import UInt8
from tasks.core.data.photographs import ImageFormat
from tasks.sources.pictures import Picture, Unreadable, read_pictures

FASHION = ImageFormat(28, 28, 1)
COLOUR = ImageFormat(28, 28, 3)


def images(count: int, *shape: int) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, (count, *(shape or (28, 28))), np.uint8)


def read(*paths: Path, **options: Any) -> list[Picture | Unreadable]:
    return list(read_pictures(paths, options.pop("like", FASHION), **options))


def noted(*paths: Path, **options: Any) -> tuple[list[Picture | Unreadable], list[str]]:
    """What was read, and the notes on it."""
    notes: list[str] = []
    return read(*paths, note=notes.append, **options), notes


def pixels_of(found: list[Picture | Unreadable]) -> UInt8:
    assert all(isinstance(item, Picture) for item in found), found
    return np.stack([item.prepared.pixels for item in found if isinstance(item, Picture)])


def reason(path: Path, like: ImageFormat = FASHION) -> str:
    """Why nothing in a path could be read."""
    (item,) = read(path, like=like)
    assert isinstance(item, Unreadable), item
    assert item.source.startswith(str(path))
    assert str(path) not in item.reason
    assert "\n" not in item.reason
    assert item.reason.endswith(".")
    assert len(item.reason) <= 330
    return item.reason


def encoded(pixels: UInt8, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
