"""Archives written and read in batches are those of NumPy, to the byte."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from numpy.typing import NDArray

from tasks.sources.npy import rows_of
from tasks.storage import npz
from tasks.storage.npz import Rows, StoredRows, stored_arrays, write_npz

DTYPES = st.sampled_from([np.float32, np.float64, np.uint8, np.int64]).map(np.dtype)
ARRAYS = DTYPES.flatmap(
    lambda dtype: numpy_st.arrays(dtype, numpy_st.array_shapes(min_dims=1, max_dims=4, min_side=1))
)


def in_batches(array: NDArray[Any], size: int) -> Rows:
    batches = (array[start : start + size] for start in range(0, len(array), size))
    return Rows(array.shape, array.dtype, batches)


def written(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    write_npz(buffer, arrays)
    return buffer.getvalue()


@given(ARRAYS, ARRAYS, st.integers(1, 7))
def test_rows_make_the_archive_that_numpy_makes(
    x: NDArray[Any], y: NDArray[Any], size: int
) -> None:
    expected = io.BytesIO()
    np.savez(expected, allow_pickle=False, x=x, y=y)
    assert written(x=x, y=y) == expected.getvalue()
    assert written(x=in_batches(x, size), y=in_batches(y, size)) == expected.getvalue()


@given(ARRAYS, ARRAYS, st.integers(1, 7))
def test_written_arrays_are_read_in_batches(x: NDArray[Any], y: NDArray[Any], size: int) -> None:
    archive = io.BytesIO(written(x=x, y=y))
    with zipfile.ZipFile(archive) as members, members.open("y.npy") as member:
        rows = rows_of(member, "y", size)
        assert (rows.shape, rows.dtype) == (y.shape, y.dtype)
        batches = list(rows.batches)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert np.concatenate(batches).tobytes() == y.tobytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_single_array_is_read_in_batches(version: tuple[int, int]) -> None:
    array = np.arange(12, dtype=">u2").reshape(6, 2)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=False)
    stream.seek(0)

    rows = rows_of(stream, "x", 4)
    assert (rows.shape, rows.dtype) == (array.shape, array.dtype)
    first, second = rows.batches
    assert np.concatenate([first, second]).tolist() == array.tolist()
    with pytest.raises(ValueError, match="magic string"):
        rows_of(io.BytesIO(b"no array, but text"), "x", 4)


def test_rows_that_are_not_contiguous_are_written_in_order() -> None:
    x = np.arange(24, dtype=np.float32).reshape(6, 4)[:, ::-1]
    assert written(x=in_batches(x, 4)) == written(x=np.ascontiguousarray(x))


@pytest.mark.parametrize("count", [0, 5, 7])
def test_more_or_fewer_rows_than_announced_are_refused(count: int) -> None:
    rows = Rows((6, 2), np.dtype(np.float32), [np.zeros((count, 2), np.float32)])
    with pytest.raises(ValueError, match=rf"x: expected 6 rows, found {count}"):
        written(x=rows)


@pytest.mark.parametrize("batch", [np.zeros((6, 3), np.float32), np.zeros((6, 2), np.float64)])
def test_rows_of_another_kind_are_refused(batch: NDArray[Any]) -> None:
    rows = Rows((6, 2), np.dtype(np.float32), [batch])
    with pytest.raises(ValueError, match=r"x: expected rows float32 \(2,\), found"):
        written(x=rows)


def test_an_array_stored_by_columns_is_refused() -> None:
    stored = io.BytesIO()
    np.save(stored, np.asfortranarray(np.zeros((3, 2))))
    stored.seek(0)
    with pytest.raises(ValueError, match=r"x is stored by columns or has Python objects"):
        rows_of(stored, "x", 2)


def test_objects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        written(x=np.array([{}], dtype=object))


# Rows of large arrays


def by_rows(content: bytes) -> dict[str, Any]:
    """The arrays of an archive, all of which count as large."""
    with pytest.MonkeyPatch.context() as patch, TemporaryFile() as file:
        patch.setattr(npz, "IN_MEMORY", 0)
        file.write(content)
        file.seek(0)
        return stored_arrays(file)


@st.composite
def choices(draw: st.DrawFn) -> tuple[NDArray[Any], Any]:
    """An array, and a slice or positions in any order, with repetitions and neighbours."""
    array = draw(ARRAYS)
    positions = st.lists(st.integers(0, len(array) - 1), max_size=20)
    chosen = draw(st.slices(len(array)) | positions.map(lambda found: np.array(found, np.int64)))
    return array, chosen


@settings(max_examples=50)
@given(choices(), ARRAYS)
def test_chosen_rows_are_read_from_the_file(
    chosen: tuple[NDArray[Any], Any], other: NDArray[Any]
) -> None:
    array, rows = chosen
    stored = by_rows(written(other=other, x=array))
    assert list(stored) == ["other", "x"]
    found = stored["x"]
    assert isinstance(found, StoredRows)
    assert (found.shape, found.dtype, len(found)) == (array.shape, array.dtype, len(array))
    assert (found[rows].shape, found[rows].dtype) == (array[rows].shape, array.dtype)
    assert found[rows].tobytes() == array[rows].tobytes()


def test_only_large_arrays_are_read_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "IN_MEMORY", 1000)
    path = tmp_path / "arrays.npz"
    path.write_bytes(written(large=np.ones(1000, np.uint8), small=np.arange(5)))
    with path.open("rb") as file:
        found = stored_arrays(file)
    assert isinstance(found["large"], StoredRows)
    assert isinstance(found["small"], np.ndarray)
    assert found["small"].tolist() == [0, 1, 2, 3, 4]
    # The file may be replaced and is closed, but what was opened can still be read.
    path.unlink()
    assert found["large"][990:].tolist() == [1] * 10


def test_neighbouring_rows_are_read_together_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(40, dtype=np.uint8).reshape(20, 2)
    found = by_rows(written(x=x))["x"]
    reads: list[tuple[int, int]] = []
    real = npz._read

    def note(file: int, target: NDArray[Any], offset: int) -> None:
        reads.append((offset, len(target)))
        real(file, target, offset)

    monkeypatch.setattr(npz, "_read", note)
    rows = np.array([7, 3, 19, 4, 5, 3])
    assert found[rows].tobytes() == x[rows].tobytes()
    start = reads[0][0] - 3 * 2
    assert reads == [(start + at * 2, size * 2) for at, size in ((3, 1), (3, 3), (7, 1), (19, 1))]
    reads.clear()
    assert found[2:18].tobytes() == x[2:18].tobytes()
    assert reads == [(start + 4, 32)]


def test_reads_that_end_early_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(300, dtype=np.int64).reshape(100, 3)
    found = by_rows(written(x=x))["x"]
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, parts, at: real(file, [parts[0][:7]], at))
    assert found[10:90].tobytes() == x[10:90].tobytes()


def test_threads_may_read_at_the_same_time() -> None:
    x = np.arange(3000, dtype=np.int64).reshape(1000, 3)
    found = by_rows(written(x=x))["x"]
    right: list[bool] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rows = rng.permutation(1000)[:100]
            right.append(found[rows].tobytes() == x[rows].tobytes())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 80


def test_rows_that_there_are_not_are_refused() -> None:
    found = by_rows(written(x=np.ones((3, 2))))["x"]
    with pytest.raises(IndexError):
        found[np.array([0, 3])]


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(written(x=np.ones((100, 20))))
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        patch.setattr(npz, "IN_MEMORY", 0)
        found = stored_arrays(file)["x"]
    with path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(OSError, match="bytes are missing at the end"):
        found[:]


def compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.ones((3, 2)))
    return buffer.getvalue()


def too_short() -> bytes:
    buffer, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(header, np.ones((3, 2)))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", header.getvalue()[:-1])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (compressed(), "x.npy is compressed"),
        (written(x=np.asfortranarray(np.zeros((3, 2)))), "x.npy is stored by columns"),
        (too_short(), "x.npy is not an array of the announced size"),
    ],
    ids=["compressed", "by columns", "too short"],
)
def test_archives_whose_rows_have_no_place_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        by_rows(content)
