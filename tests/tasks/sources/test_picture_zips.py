"""Pictures in zip archives are read one by one, without a trace on the disk."""

from __future__ import annotations

import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sources import bounded_files, picture_zips
from tasks.sources.pictures import Picture, Unreadable
from tests.tasks.sources.picture_support import (
    encoded,
    images,
    noted,
    pixels_of,
    read,
    reason,
    write,
)

PNG = encoded(images(1)[0])


def archive(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_pictures_in_folders_in_order_without_junk(kind: int, tmp_path: Path) -> None:
    members = dict.fromkeys(
        ["b.PNG", "photos/sub/c.jfif", "a.png", "__MACOSX/._a.png", "photos/.hidden.png"], PNG
    )
    members |= {"Thumbs.db": b"?", "notes.txt": b"?", "inner.zip": b"?", "labels.csv": b"?"}
    path = archive(tmp_path / "photos.ZIP", members, kind)
    before = set(tmp_path.iterdir())
    found, notes = noted(path)
    assert [item.source for item in found] == [
        f"{path}/{name}" for name in ("a.png", "b.PNG", "photos/sub/c.jfif")
    ]
    assert (pixels_of(found)[..., 0] == images(3)[:1]).all()
    assert notes == [f"{path}: not read: .txt (1), .zip (1), .csv (1)."]
    assert set(tmp_path.iterdir()) == before


def test_a_name_is_no_place_to_write_to(tmp_path: Path) -> None:
    names = ["/etc/a.png", "C:\\b.png", "x/../../c.png", "d\n\x1b[31m.png"]
    path = archive(tmp_path / "a.zip", dict.fromkeys(names, PNG))
    found = read(path)
    assert all(isinstance(item, Picture) for item in found)
    assert all(item.source.isprintable() for item in found)
    assert len(found) == 3, "`..` is hidden"
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_macos(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"名前.png": PNG})
    content = path.read_bytes()
    # macOS writes the name in UTF-8, but does not set the flag that says so.
    write(path, content.replace(struct.pack("<H", 0x800) + b"\x08\x00", b"\0\0\x08\0"))
    with zipfile.ZipFile(path) as made:
        assert made.namelist() != ["名前.png"]
    assert [item.source for item in read(path)] == [f"{path}/名前.png"]


def test_one_bad_picture_leaves_the_others(tmp_path: Path) -> None:
    bad = {"b.png": b"no picture", "c.png": b"", "d.png": PNG[:60]}
    path = archive(tmp_path / "a.zip", {"a.png": PNG, **bad, "e.png": PNG}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.rfind(PNG[200:300]) + 50] ^= 1
    found = read(write(path, bytes(content)))
    reasons = [item.reason if isinstance(item, Unreadable) else "" for item in found]
    expected = ("", "is not a picture", "is empty", "is damaged", "is damaged in the archive (Bad")
    for text, part in zip(reasons, expected, strict=True):
        assert text.startswith(part)


def test_damaged_and_other_files(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.png": PNG})
    content = path.read_bytes()
    for broken in (content[:-30], b"hello", b"PK\x03\x04"):
        assert "is not a zip archive, or is damaged" in reason(write(path, broken))
    assert "contains no pictures" in reason(archive(path, {}))
    assert "contains no pictures" in reason(archive(path, {"notes.txt": b"?"}))


def changed(path: Path, old: bytes, new: bytes) -> Path:
    """The archive with other headers."""
    content = path.read_bytes()
    assert old in content
    return write(path, content.replace(old, new))


def test_encrypted_and_unknown_methods(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.png": PNG, "b.png": PNG})
    begin = b"PK\x01\x02\x14\x03\x14\x00"
    assert "is encrypted; unpack it with its password" in reason(
        changed(path, begin + b"\x00\x00", begin + b"\x01\x00")
    )
    archive(path, {"a.png": PNG})
    # The method of Windows for archives of more than 2 GiB, in both headers.
    changed(path, b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x09\x00")
    assert "is packed in a way that can't be read" in reason(path)


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a.zip", {"a.png": bytes(10**7), "b.png": PNG})
    monkeypatch.setattr(picture_zips, "MOST_BYTES", 10**6)
    first, second = read(path)
    assert isinstance(first, Unreadable)
    assert "exhaust memory" in first.reason
    assert isinstance(second, Picture)
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 10**6)
    assert "unpacks to 10,00" in reason(path)


def test_a_bomb_that_announces_little(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.png": bytes(10**7)})
    changed(path, struct.pack("<I", 10**7), struct.pack("<I", 10))
    assert "is damaged in the archive" in reason(path)


@given(st.data())
def test_damage_never_ends_in_an_exception(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = archive(Path(folder, "a.zip"), {"a.png": PNG, "b/c.png": PNG})
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        for item in read(write(path, bytes(content))):
            assert isinstance(item, Picture) or item.reason


def test_names_of_windows(tmp_path: Path) -> None:
    members = {"photos\\": b"", "photos\\b.png": PNG, "photos\\.hidden\\c.png": PNG}
    path = archive(tmp_path / "a.zip", members)
    found, notes = noted(path)
    assert [item.source for item in found] == [f"{path}/photos/b.png"]
    assert notes == []
