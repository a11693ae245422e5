"""Compressed files are read to their end, wherever a part of them ends, but not beyond a limit."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.sources import bounded_files, unzipped

FIRST, SECOND = b"first " * 9, b"second " * 9
PARTS = [gzip.compress(part, mtime=0) for part in (FIRST, SECOND)]


@pytest.mark.parametrize("more", [-1, 0, 1, 2])
@pytest.mark.parametrize("tail", [b"", b"\x1f", b"ab\x1f\x8b", b"a" * len(PARTS[0]) + PARTS[0]])
def test_a_part_may_end_where_a_read_ends(
    more: int, tail: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unzipped, "_CHUNK_BYTES", len(PARTS[0]) + more)
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(PARTS) + tail)
    with unzipped.opened(path) as stream:
        assert stream.read() == FIRST + SECOND
        assert stream.read() == b"", "what follows is never read, also if it is asked again"


def test_what_unpacks_to_more_than_any_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(PARTS))
    size = len(FIRST + SECOND)
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", size)
    with unzipped.opened(path) as stream:
        assert len(stream.read()) == size
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", size - 1)
    with (
        unzipped.opened(path) as stream,
        pytest.raises(UserError, match=f"^{path}: unpacks to more"),
    ):
        stream.read()
