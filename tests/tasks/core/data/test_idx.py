"""IDX files come back as they were written, and damaged ones are refused with the reason."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from tasks.core.data.idx import TYPES, parse_idx
from tasks.core.errors import UserError
from tests.support import encode_idx

types = st.sampled_from(sorted(TYPES.values()))
any_array = arrays(types, array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))


@given(any_array)
def test_round_trip(array: NDArray[Any]) -> None:
    parsed = parse_idx(encode_idx(array), "x")

    assert parsed.dtype == array.dtype
    assert parsed.shape == array.shape
    np.testing.assert_array_equal(parsed, array)


def test_layout_is_the_published_one() -> None:
    encoded = encode_idx(np.array([[1, 2, 3], [4, 5, 6]], np.uint8))

    assert encoded == bytes.fromhex("00000802 00000002 00000003 010203040506")


def test_values_are_written_in_c_order() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))

    assert encode_idx(array)[-6:] == bytes(range(6))


def test_parsed_array_is_a_read_only_view() -> None:
    assert not parse_idx(encode_idx(np.zeros(3, np.uint8)), "x").flags.writeable


@given(any_array, st.data())
def test_truncated_anywhere(array: NDArray[Any], data: st.DataObject) -> None:
    whole = encode_idx(array)
    length = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(UserError, match=rf"^here: expected \d+ bytes|^here: .*found {length}\b"):
        parse_idx(whole[:length], "here")


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "at least 4 bytes, found 0"),
        (3, "at least 4 bytes, found 3"),
        (4, "16 bytes for 3 dimensions, found 4"),
        (15, "16 bytes for 3 dimensions, found 15"),
        (16, r"expected 34 bytes .*\(2, 3, 3\).*, found 16"),
        (33, r"expected 34 bytes .*\(2, 3, 3\).*, found 33"),
    ],
)
def test_truncated_at_each_part(length: int, expected: str) -> None:
    whole = encode_idx(np.zeros((2, 3, 3), np.uint8))

    with pytest.raises(UserError, match=f"{expected}.*truncated"):
        parse_idx(whole[:length], "here")


@given(any_array, st.binary(min_size=1, max_size=9))
def test_trailing_bytes(array: NDArray[Any], tail: bytes) -> None:
    with pytest.raises(UserError, match="bytes follow the last value"):
        parse_idx(encode_idx(array) + tail, "here")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"PK\x03\x04 and more", "here: not an IDX file: .* 00 00, found 50 4b"),
        (b"\x1f\x8b\x08\x00 and more", "found 1f 8b; it is compressed, gunzip it"),
        (b"\0\0\x0d\x01\0\0\0\1" + bytes(3), "type float32, found 11: it is truncated"),
        (b"\0\0\x42\x01" + bytes(8), "best 0x08 .unsigned byte., found 0x42"),
        (b"\0\0\x0a\x01" + bytes(8), "found 0x0a"),
        (b"\0\0\x08\xff" + bytes(1020), "255 dimensions; expected at most 64"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0, 2**32 - 1, 2**32 - 1), "no array can have"),
        (struct.pack(">4B2I", 0, 0, 8, 2, 2**32 - 1, 2**32 - 1), "truncated"),
    ],
)
def test_other_formats_are_refused(data: bytes, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        parse_idx(data, "here")


@given(st.binary(max_size=40))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        array = parse_idx(data, "here")
    except UserError:
        return
    assert encode_idx(array) == data
