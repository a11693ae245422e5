"""Archives written and read in batches are those of NumPy, to the byte."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from numpy.typing import NDArray

from tasks.storage.npz import Rows, read_rows, rows_of, write_npz

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
    with read_rows(io.BytesIO(written(x=x, y=y)), "y", size) as rows:
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
    stored = written(x=np.asfortranarray(np.zeros((3, 2))))
    with (
        pytest.raises(ValueError, match=r"x is stored by columns"),
        read_rows(io.BytesIO(stored), "x", 2),
    ):
        pass


def test_objects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        written(x=np.array([{}], dtype=object))
