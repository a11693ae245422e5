"""Files are whole or missing, changed lines are left out, errors of a disk come with advice."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import StorageError
from tasks.core.records import canonical_json
from tasks.storage import files
from tasks.storage.files import (
    append_line,
    damaged_lines,
    explaining,
    file_digest,
    naming,
    read_lines,
    write_atomically,
)
from tasks.storage.local_path import LocalPath
from tests.disks import fill, read_only, small_disk
from tests.processes import python
from tests.support import meaning

ROOT = Path(__file__).resolve().parents[3]


# Whole files


def test_a_written_file_is_readable_by_other_users(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "run.json"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in path.parent.iterdir()] == ["run.json"]


def test_a_file_replaces_a_folder_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_bytes(b"in the way")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_stays_if_the_file_that_replaces_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.mkdir()

    def no_sync(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", no_sync)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    assert path.is_dir()
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically_keeps_the_old_file_if_the_new_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "run.json"
    write_atomically(path, b"old")

    def no_sync(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", no_sync)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in path.parent.iterdir()] == ["run.json"]


def test_a_full_disk_keeps_the_old_file_and_no_part_of_the_new_one() -> None:
    with small_disk(64) as disk:
        path = disk / "run.json"
        write_atomically(path, b"old")
        fill(disk, spare=8192)
        with pytest.raises(OSError, match="No space left") as full:
            write_atomically(path, b"n" * 20_000)
        assert full.value.errno == errno.ENOSPC
        assert path.read_bytes() == b"old"
        assert {item.name for item in disk.iterdir()} == {"run.json", "ballast"}


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_digest_and_size_are_those_of_the_bytes(log_folder: Path, content: bytes) -> None:
    path = log_folder / "content"
    path.write_bytes(content)
    assert file_digest(path) == (files.content_digest(content), len(content))


# Logs


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


WRITE_LINES = """
import sys
from tasks.storage.files import append_line
from tasks.storage.local_path import LocalPath
for number in range(150):
    append_line(LocalPath(sys.argv[1]), {"writer": sys.argv[2], "line": number, "pad": "x" * 3000})
"""


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "log.jsonl")
    writers = [python(WRITE_LINES, str(path), str(number)) for number in range(3)]
    for writer in writers:
        with writer:
            assert writer.wait(60) == 0
    entries = read_lines(path)
    assert path.read_text().count("\n") == len(entries)
    assert damaged_lines(path) == []
    for number in range(3):
        lines = [entry["line"] for entry in entries if entry["writer"] == str(number)]
        assert lines == list(range(150))


texts = st.text() | st.sampled_from(["a\nb", "\u2028", "\x85\x0b", "\r\n", '"', "ü"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(texts, texts, min_size=1), min_size=1, max_size=4), st.data())
def test_a_truncated_line_is_left_out(
    log_folder: Path, entries: list[dict[str, str]], data: st.DataObject
) -> None:
    path = LocalPath(log_folder / "log.jsonl")
    path.unlink(missing_ok=True)
    for entry in entries:
        append_line(path, entry)
    assert read_lines(path) == entries
    content = path.read_bytes()
    lost = data.draw(st.integers(1, len(content.splitlines(keepends=True)[-1])), label="lost")
    path.write_bytes(content[:-lost])
    whole = entries if lost == 1 else entries[:-1]
    assert read_lines(path) == whole
    # What is logged after the crash is not lost with what was cut short.
    append_line(path, {"after": "the crash"})
    assert read_lines(path) == [*whole, {"after": "the crash"}]


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
finite = values.filter(lambda value: value not in (float("inf"), float("-inf")))
entries_of_logs = st.lists(
    st.dictionaries(texts.filter(lambda name: name != files.CHECK), finite, max_size=4),
    min_size=1,
    max_size=4,
)


def logged(path: LocalPath, entries: list[dict[str, Any]]) -> list[str]:
    """The lines of a new log with these entries."""
    path.unlink(missing_ok=True)
    for entry in entries:
        append_line(path, entry)
    return path.read_text(encoding="utf-8").splitlines()


@settings(max_examples=200, deadline=None)
@given(entries_of_logs, st.data())
def test_only_a_changed_line_is_left_out(
    log_folder: Path, entries: list[dict[str, Any]], data: st.DataObject
) -> None:
    path = LocalPath(log_folder / "changed.jsonl")
    lines = logged(path, entries)
    number = data.draw(st.integers(0, len(lines) - 1), label="line")
    line = lines[number]
    place = data.draw(st.integers(0, len(line) - 1), label="place")
    near = st.characters(codec="utf-8", exclude_characters="\n")
    character = data.draw(near.filter(lambda c: c != line[place]), label="character")
    changed = line[:place] + character + line[place + 1 :]
    path.write_bytes(
        "".join(f"{x}\n" for x in [*lines[:number], changed, *lines[number + 1 :]]).encode()
    )
    # Another space, or \uABCD for \uabcd, says the same.
    same = meaning(changed) == meaning(line)
    others = entries[:number] + entries[number + 1 :]
    assert list(map(canonical_json, read_lines(path))) == list(
        map(canonical_json, entries if same else others)
    )
    assert damaged_lines(path) == ([] if same else [number + 1])


def test_a_carriage_return_does_not_end_a_line(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "log.jsonl")
    lines = logged(path, [{"a": 1}, {"b": 2}])
    path.write_bytes(f"{lines[0][:4]}\r{lines[0][5:]}\n{lines[1]}\n".encode())
    assert damaged_lines(path) == [1]
    assert read_lines(path) == [{"b": 2}]


@settings(max_examples=50, deadline=None)
@given(entries_of_logs, st.data())
def test_invalid_utf_8_spoils_one_line_only(
    log_folder: Path, entries: list[dict[str, Any]], data: st.DataObject
) -> None:
    path = LocalPath(log_folder / "bytes.jsonl")
    lines = [line.encode() for line in logged(path, entries)]
    number = data.draw(st.integers(0, len(lines) - 1), label="line")
    place = data.draw(st.integers(0, len(lines[number]) - 1), label="place")
    lines[number] = lines[number][:place] + b"\xff" + lines[number][place + 1 :]
    path.write_bytes(b"\n".join([*lines, b""]))
    assert damaged_lines(path) == [number + 1]
    assert len(read_lines(path)) == len(entries) - 1


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "null", "{}", '{"a": 1}', '{"a": 1, "check": "0000000000000000"}', "[" * 9999],
)
def test_lines_of_other_origin_are_left_out(tmp_path: Path, line: str) -> None:
    path = LocalPath(tmp_path / "log.jsonl")
    append_line(path, {"first": 1})
    with path.open("a") as handle:
        handle.write(line + "\n")
    append_line(path, {"second": 2})
    assert read_lines(path) == [{"first": 1}, {"second": 2}]
    # An empty line holds nothing that could be damaged.
    assert damaged_lines(path) == ([2] if line else [])


def test_reordered_lines_are_still_valid(tmp_path: Path) -> None:
    path = LocalPath(tmp_path / "log.jsonl")
    lines = logged(path, [{"a": 1}, {"b": 2}])
    path.write_text(f"{lines[1]}\n{lines[0]}\n")
    assert read_lines(path) == [{"b": 2}, {"a": 1}]


def test_a_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(LocalPath(tmp_path / "none.jsonl")) == []
    assert damaged_lines(LocalPath(tmp_path / "none.jsonl")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_short_write_at_a_full_disk_leaves_the_log_as_it_was() -> None:
    with small_disk(64) as disk:
        path = LocalPath(disk / "log.jsonl")
        append_line(path, {"line": 1, "pad": "x" * 3000})
        fill(disk)
        before = path.read_bytes()
        with path.open("ab", buffering=0) as handle:
            assert handle.write(b"y" * 3000) == 4096 - len(before), "part of it goes in"
        os.truncate(path, len(before))
        with pytest.raises(OSError, match="No space left") as full:
            append_line(path, {"line": 2, "pad": "y" * 3000})
        assert full.value.errno == errno.ENOSPC
        assert path.read_bytes() == before
        (disk / "ballast").unlink()
        append_line(path, {"line": 3})
        assert [entry["line"] for entry in read_lines(path)] == [1, 3]
        assert damaged_lines(path) == []


def test_a_completely_full_disk_leaves_the_log_as_it_was() -> None:
    with small_disk(64) as disk:
        path = LocalPath(disk / "log.jsonl")
        append_line(path, {"pad": "x" * (4096 - 41)})
        assert path.stat().st_size == 4096
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            append_line(path, {"line": 2})
        assert [len(entry["pad"]) for entry in read_lines(path)] == [4096 - 41]
        assert path.stat().st_size == 4096


# What to do about errors


LASTING = {
    errno.ENOSPC: "free some (`fashion-flow clean --dry-run` shows what it would free)",
    errno.EDQUOT: "free some space (`fashion-flow clean --dry-run` shows what it would free)",
    errno.EROFS: "make it writable or name another with --store",
    errno.EACCES: "change its permissions or name another with --store",
    errno.EPERM: "change its permissions or name another with --store",
    errno.EFBIG: "raise the limit (`ulimit -f unlimited`) or name another with --store",
    errno.ENOTDIR: "move it away, or name another with --store",
    errno.EEXIST: "move it away, or name another with --store",
    errno.EISDIR: "move it away, or name another with --store",
}


@pytest.mark.parametrize("number", LASTING, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", [None, ".", "file", "stages/load/x/model.keras"])
def test_a_lasting_error_of_the_disk_comes_with_advice(
    tmp_path: Path, number: int, place: str | None
) -> None:
    name = None if place is None else str(tmp_path / place)
    cause = OSError(number, os.strerror(number), name)
    with pytest.raises(StorageError) as explained, explaining(LocalPath(tmp_path)):
        raise cause
    assert str(explained.value).startswith(f"the store {tmp_path} can't be written: ")
    assert LASTING[number] in str(explained.value)
    assert not explained.value.transient
    assert explained.value.__cause__ is cause


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EIO, "check the disk (`dmesg`)"), (errno.ESTALE, "mount it again")],
)
def test_a_passing_error_of_the_disk_is_retried_and_comes_with_advice(
    tmp_path: Path, number: int, advice: str
) -> None:
    place = str(tmp_path / "file")
    with pytest.raises(StorageError) as explained, explaining(LocalPath(tmp_path)), naming(place):
        raise OSError(number, os.strerror(number))
    assert str(explained.value).startswith(f"{place}: {os.strerror(number)}; ")
    assert advice in str(explained.value)
    assert "--store" in str(explained.value)
    assert explained.value.transient


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOENT, None])
def test_other_errors_are_raised_unchanged(tmp_path: Path, number: int | None) -> None:
    cause = OSError(number, "what happened") if number else OSError("what happened")
    with pytest.raises(OSError, match="what happened") as passed, explaining(LocalPath(tmp_path)):
        raise cause
    assert passed.value is cause


@pytest.mark.parametrize("number", LASTING, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", ["..", "../file", "../store-2/file", "/", "/etc/weights.h5"])
def test_an_error_of_another_file_is_not_the_store_s(
    tmp_path: Path, number: int, place: str
) -> None:
    store = tmp_path / "store"
    cause = OSError(number, os.strerror(number), os.path.normpath(store / place))
    with pytest.raises(OSError, match=r".") as passed, explaining(LocalPath(store)):
        raise cause
    assert passed.value is cause


def test_exceptions_of_other_types_are_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError), explaining(LocalPath(tmp_path)):
        raise KeyError
    with explaining(LocalPath(tmp_path)):
        pass


def test_a_full_and_a_read_only_disk_are_explained() -> None:
    with small_disk(64) as disk:
        with pytest.raises(StorageError, match="no space is left"), explaining(LocalPath(disk)):
            write_atomically(disk / "file", b"x" * 100_000)
        with (
            read_only(disk),
            pytest.raises(StorageError, match="read-only file system"),
            explaining(LocalPath(disk)),
        ):
            append_line(LocalPath(disk / "log.jsonl"), {})
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EEXIST, errno.EISDIR])
def test_what_is_in_the_way_is_named(tmp_path: Path, number: int) -> None:
    place = str(tmp_path / "runs.jsonl")
    with pytest.raises(StorageError) as explained, explaining(LocalPath(tmp_path)):
        raise OSError(number, os.strerror(number), place)
    assert str(explained.value).endswith(f"({place}).")
