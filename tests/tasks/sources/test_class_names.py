"""Names of classes in a file of their own."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.sources.class_names import checked_class_names, read_class_names


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_and_without_a_mark(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "class_names.txt"
    path.write_bytes("café\r\nchien\r\n".encode(encoding))
    assert read_class_names(path) == ("café", "chien")
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(UserError, match="expected UTF-8 text, one class name per line"):
        read_class_names(path)
    path.write_bytes(codecs.BOM_UTF16_LE + b"a")
    with pytest.raises(UserError, match="expected UTF-8 text"):
        read_class_names(path)


def test_many_names_are_compared_in_a_moment() -> None:
    names = [f"class {number}" for number in range(30_000)]
    assert len(checked_class_names(names, "a")) == len(names)
    with pytest.raises(UserError, match=r"^a: class names must differ; repeated: class 7\."):
        checked_class_names([*names, "class 7"], "a")
