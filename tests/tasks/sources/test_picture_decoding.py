"""Which pictures are decoded, and the reasons why others are not."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from PIL import Image, UnidentifiedImageError

from tasks.core.data.photographs import Frame
from tasks.core.errors import UserError
from tasks.sources import picture_decoding
from tasks.sources.picture_decoding import (
    FORMATS,
    HEIC_SUFFIXES,
    SUFFIXES,
    decoded,
    opened,
    reason_of,
    suffixes,
)
from tests.tasks.sources.tiny_pictures import encoded


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    """What was found out about packages is forgotten."""
    picture_decoding._formats.cache_clear()
    yield
    picture_decoding._formats.cache_clear()


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_a_picture_of_every_suffix_is_decoded(suffix: str) -> None:
    Image.init()
    kind = {".jfif": "JPEG"}.get(suffix) or Image.registered_extensions()[suffix]
    assert kind in FORMATS
    content = io.BytesIO()
    Image.new("1" if suffix == ".pbm" else "RGB", (5, 4)).save(content, kind)
    content.seek(0)
    assert decoded(content, Frame(4, 4, 1)).size == (5, 4)


def test_only_known_formats_are_tried() -> None:
    content = io.BytesIO()
    Image.new("RGB", (5, 4)).save(content, "TGA")
    with pytest.raises(UnidentifiedImageError):
        opened(content)


def test_heic_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    package = SimpleNamespace(register_heif_opener=lambda: registered.append(True))
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(picture_decoding, "reads_heic", lambda: False)
    assert suffixes() == SUFFIXES
    opened(io.BytesIO(encoded()))
    assert registered == []
    picture_decoding._formats.cache_clear()
    monkeypatch.setattr(picture_decoding, "reads_heic", lambda: True)
    assert suffixes() - SUFFIXES == HEIC_SUFFIXES
    for _ in range(2):
        opened(io.BytesIO(encoded()))
    assert registered == [True]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("is odd; ask."), "is odd; ask."),
        (UnidentifiedImageError("cannot identify <_io.BytesIO>"), "is not a picture"),
        (Image.DecompressionBombError("178956971 pixels"), "megapixels"),
        (PermissionError(errno.EACCES, "Permission denied"), "can't be read: Permission denied;"),
        (OSError("image file is truncated"), "is damaged (image file is truncated);"),
        (ValueError("bad\x1b\nline"), "is damaged (bad\\x1b);"),
        (MemoryError(), "is damaged (MemoryError);"),
    ],
)
def test_reasons(error: Exception, reason: str) -> None:
    found = reason_of(error)
    assert reason in found
    assert found.endswith(".")
    assert found.isprintable()
