"""Archives are unpacked into a temporary folder: nothing outside, no links, no bombs."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.sources import archives, bounded_files
from tasks.sources.archives import LINK, NO_NAME, UNSAFE, accepts, unpacked

CONTENT = {"photos/cat/1.png": b"one", "photos/dog/2.png": b"two", "photos/é.txt": b""}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where archives are unpacked."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def write_zip(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


WRITE: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "zip": write_zip,
    "tar": write_tar,
    "tgz": lambda path, members: write_tar(path, members, "w:gz"),
    "tar.bz2": lambda path, members: write_tar(path, members, "w:bz2"),
    "tar.xz": lambda path, members: write_tar(path, members, "w:xz"),
}


def content_of(path: Path) -> tuple[dict[str, bytes], dict[str, int]]:
    with unpacked(path) as found:
        folder = found.path
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        return files, dict(found.left_out)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught, unpacked(path):
        pass
    assert len(str(caught.value)) <= 400
    assert os.listdir(tempfile.gettempdir()) == []
    return str(caught.value)


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("named", [True, False])
def test_every_kind_by_its_content(kind: str, named: bool, tmp_path: Path) -> None:
    path = WRITE[kind](tmp_path / (f"a.{kind}" if named else "download"), CONTENT)
    assert accepts(path)
    # The wrapper is skipped.
    expected = {name.removeprefix("photos/"): content for name, content in CONTENT.items()}
    assert content_of(path) == (expected, {})
    assert os.listdir(tempfile.gettempdir()) == []


def test_the_folder_is_deleted_after_an_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", CONTENT)
    # It is not taken for an error of unpacking either.
    with pytest.raises(FileNotFoundError), unpacked(path) as found:
        (found.path / "nothing").read_bytes()
    assert os.listdir(tempfile.gettempdir()) == []


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_single_file_and_splits_are_kept(kind: str, tmp_path: Path) -> None:
    path = WRITE[kind](tmp_path / "a", {"x/data.npz": b"?", "__MACOSX/x/._data.npz": b"?"})
    with unpacked(path) as found:
        assert found.path.name == "data.npz"
    path = WRITE[kind](tmp_path / "b", {"train/a/1.png": b"?", "train/b/1.png": b"?"})
    with unpacked(path) as found:
        assert [entry.name for entry in found.path.iterdir()] == ["train"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_is_written_outside(kind: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    members = {
        **{"../outside.txt": b"!", "a/../../../outside.txt": b"!", str(outside): b"!"},
        **{"C:\\x.txt": b"!", "a/1.png": b"1", "b/2.png": b"2", ".hidden/3.png": b"3"},
        **{f"{'n' * 300}.png": b"!", "a/1.png/x.png": b"!"},
    }
    found, left_out = content_of(WRITE[kind](tmp_path / "a", members))
    assert found == {"a/1.png": b"1", "b/2.png": b"2"}
    assert left_out == {UNSAFE: 4, NO_NAME: 2}
    assert not outside.exists()
    assert os.listdir(tempfile.gettempdir()) == []


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"link{kind.decode()}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("a.png"))
        archive.addfile(tarfile.TarInfo("b.png"))
    found, left_out = content_of(path)
    assert sorted(found) == ["a.png", "b.png"]
    assert left_out == {LINK: 4}
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
        zipped.writestr("a/1.png", "1")
        zipped.writestr("b/1.png", "1")
    assert content_of(tmp_path / "a.zip")[1] == {LINK: 1}


def test_names_in_utf8_that_are_not_marked_as_such(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"é/1.png": b"1", "b\\2.png": b"2"})
    content = bytearray(path.read_bytes())
    for header, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.index(header)
        content[at + offset + 1] &= ~0x08
    path.write_bytes(content)
    assert sorted(content_of(path)[0]) == ["b/2.png", "é/1.png"]


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": b"1"})
    content = bytearray(path.read_bytes())
    for header, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(header) + offset] |= 1
    path.write_bytes(content)
    assert "is encrypted; unpack it with its password" in refusal(path)


@pytest.mark.parametrize("kind", WRITE)
def test_bombs_are_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = WRITE[kind](tmp_path / "a", {"1.png": bytes(10**6), "2.png": bytes(10**6)})
    monkeypatch.setattr(archives, "SMALL", 10**5)
    if kind != "tar":
        assert "made to fill disks" in refusal(path)
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 10**5)
    assert "expected at most" in refusal(path)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 0)
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 10**9)
    assert "more than 0 files" in refusal(path)


def test_a_huge_header_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, {"n" * 5000: b"1"})
    monkeypatch.setattr(archives, "LONGEST_READ", 4096)
    assert "a header of more than 16 MB" in refusal(path)


@pytest.mark.parametrize("kind", WRITE)
def test_cut_archives(kind: str, tmp_path: Path) -> None:
    whole = WRITE[kind](tmp_path / f"a.{kind}", {"1.png": os.urandom(3000), "2.png": b"2"})
    whole.write_bytes(whole.read_bytes()[:2000])
    assert accepts(whole)
    assert "get another copy" in refusal(whole)


def test_damaged_headers(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.png": b"1", "2.png": b"2"})
    content = bytearray(path.read_bytes())
    content[1024 + 5] ^= 0xFF
    path.write_bytes(content)
    assert "a header is damaged" in refusal(path)


def test_what_is_not_an_archive(tmp_path: Path) -> None:
    assert not accepts(tmp_path)
    assert not accepts(tmp_path / "nothing.zip")
    for name in ("a.npz", "renamed"):
        assert not accepts(write_zip(tmp_path / name, {"x.npy": b"?"}))
    for content in (b"", b"<html>", bytes(2000), b"\x1f\x8b\x08\0?"):
        (tmp_path / "a").write_bytes(content)
        assert not accepts(tmp_path / "a")
    for name in ("a.zip", "a.tar.gz", "a.7z", "a.RAR"):
        (tmp_path / name).write_text("<html>")
        assert accepts(tmp_path / name), "so that the message says what to do"
        assert "unpack it and give the folder" in refusal(tmp_path / name)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_zip(tmp_path / "a.zip", CONTENT)
    usage = shutil.disk_usage(tmp_path)._replace(free=3)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        assert "set TMPDIR to a folder with more space" in refusal(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        assert "set TMPDIR to a folder with more space" in refusal(path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="can't be copied to"), unpacked(path):
        pass


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(WRITE)), st.data())
def test_damage_ends_in_one_message(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    path = WRITE[kind](tmp_path_factory.mktemp("damage") / f"a.{kind}", CONTENT)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    accepts(path)
    try:
        content_of(path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017
    assert os.listdir(tempfile.gettempdir()) == []


def test_folders_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cat\\", "cat\\1.png", "dog\\1.png"):
            archive.writestr(name, b"")
    with unpacked(path) as found:
        files = sorted(found.folder.rglob("*.png"))
        assert files == [found.folder / name for name in ("cat/1.png", "dog/1.png")]
        assert not found.left_out
