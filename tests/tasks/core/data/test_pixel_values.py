"""Pixels of any type and arrangement have one meaning, or are refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tasks.core.array_types import UInt8
from tasks.core.data.pixel_values import Span, conversion, layout, settles, span_of
from tasks.core.errors import UserError


def converted(pixels: NDArray[Any]) -> tuple[UInt8, str | None]:
    found = conversion(pixels.dtype, span_of(pixels), "x")
    image = found.convert(pixels)
    assert image.dtype == np.uint8
    assert image.shape == pixels.shape
    return image, found.note


@pytest.mark.parametrize(
    ("pixels", "expected", "note"),
    [
        (np.array([0, 7, 255], np.uint8), [0, 7, 255], None),
        (np.array([0, 0], np.uint8), [0, 0], None),
        (np.array([0, 1], np.uint8), [0, 255], "only 0 and 1"),
        (np.array([0, 1], np.int64), [0, 255], "only 0 and 1"),
        (np.array([False, True]), [0, 255], "False and True"),
        (np.array([0, 7, 255], np.int64), [0, 7, 255], "int64 was taken as 0 to 255"),
        (np.array([0, 7, 200], ">u2"), [0, 7, 200], "uint16 was taken as 0 to 255"),
        (np.array([0, 512, 1023], np.uint16), [0, 128, 255], "white is 1023"),
        (np.array([0, 4095], np.int32), [0, 255], "up to 4095: white is 4095"),
        (np.array([0, 16383], np.uint16), [0, 255], "white is 16383"),
        (np.array([257, 65535], np.uint16), [1, 255], "white is 65535"),
        (np.array([0, 0.5, 1], np.float64), [0, 128, 255], "multiplied by 255"),
        (np.array([0, 0.25, 1], np.float16), [0, 64, 255], "float16 from 0 to 1"),
        (np.array([0, 1.0005], np.float32), [0, 255], "multiplied by 255"),
        (np.array([0, 1.6, 254.7], np.float32), [0, 2, 255], "up to 254.7 .* rounded"),
        (np.array([0.0, 0.0]), [0, 0], "multiplied"),
    ],
)
def test_one_meaning(pixels: NDArray[Any], expected: list[int], note: str | None) -> None:
    image, said = converted(pixels)

    assert image.tolist() == expected
    assert (said is None) == (note is None)
    assert re.search(note or "", said or "")


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([0, np.nan, np.inf]), "2 of the pixels are NaN or infinite; replace"),
        (np.array([-1.0, 1.0]), "from -1 to 1, as if standardised.* convert them to uint8"),
        (np.array([0.0, 256.0]), "from 0 to 256, as if standardised"),
        (np.array([0.0, 1.5]), "white may be 1 or 255; convert"),
        (np.array([-1, 255]), "int64 from -1 to 255, for which black and white"),
        (np.array([0, 65536]), "from 0 to 65536"),
        (np.array([0j]), "dtype '<c16'; expected numbers"),
        (np.array(["a"]), "dtype '<U1'; expected numbers"),
    ],
)
def test_no_or_two_meanings(pixels: NDArray[Any], expected: str) -> None:
    span = span_of(pixels) if pixels.dtype.kind in "iuf" else Span()
    with pytest.raises(UserError, match=f"^x: .*{expected}"):
        conversion(pixels.dtype, span, "x")


@pytest.mark.parametrize(
    ("pixels", "given", "white"),
    [
        (np.array([0, 100, 900], np.uint16), 255, 1_023),
        (np.array([0, 100, 900], np.uint16), 4_095, 4_095),
        (np.array([0, 1], np.int64), 4_095, 4_095),
        (np.array([0, 9_999], np.int64), 4_095, 16_383),
    ],
)
def test_white_is_not_less_than_that_of_other_images(
    pixels: NDArray[Any], given: int, white: int
) -> None:
    found = conversion(pixels.dtype, span_of(pixels), "x", given)
    assert found.white == white
    assert found.convert(pixels).tolist() == [
        round(255 * number / white) for number in pixels.tolist()
    ]
    assert found.note is not None
    assert f"white is {white}" in found.note


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.bool_])
def test_the_white_of_other_images_is_for_more_than_8_bits(dtype: Any) -> None:
    pixels = np.array([0, 1, 1], dtype)
    found = conversion(pixels.dtype, span_of(pixels), "x", 4_095)
    assert found.white == 255
    assert found.convert(pixels).tolist() == [0, 255, 255]


@settings(max_examples=50)
@given(arrays(np.uint8, (5, 4)))
def test_every_form_of_the_same_images_gives_the_same(pixels: UInt8) -> None:
    pixels[0, :2] = (0, 255)
    for form in (
        pixels.astype(np.int16),
        pixels.astype(">i4"),
        pixels.astype(np.uint16) * 257,
        pixels.astype(np.float32) / np.float32(255),
        pixels / 255,
        pixels.astype(np.float16),
        np.asfortranarray(pixels),
    ):
        np.testing.assert_array_equal(converted(form)[0], pixels)


@settings(max_examples=50)
@given(arrays(np.float32, st.integers(1, 20)), st.integers(1, 19))
def test_the_span_of_blocks_is_that_of_the_whole(values: NDArray[Any], cut: int) -> None:
    assert span_of(values[:cut]).joined(span_of(values[cut:])) == span_of(values)


def test_few_pixels_settle_what_bytes_mean() -> None:
    assert settles(np.dtype(np.uint8), Span(0, 2))
    assert not settles(np.dtype(np.uint8), Span(0, 1))
    assert not settles(np.dtype(np.uint16), Span(0, 2))


IMAGE = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)


@pytest.mark.parametrize(
    ("given_as", "expected", "note"),
    [
        (IMAGE[..., 0], IMAGE[..., :1], None),
        (IMAGE[..., :1], IMAGE[..., :1], None),
        (IMAGE, IMAGE, None),
        (np.concatenate([IMAGE, IMAGE[..., :1]], 3), None, "opacity"),
        (np.moveaxis(IMAGE, 3, 1), IMAGE, r"channels are first in \(3, 4, 5\)"),
        (np.moveaxis(IMAGE[..., :1], 3, 1), IMAGE[..., :1], "channels are first"),
        (IMAGE[:, None, :, :, :1], IMAGE[..., :1], r"dropped from \(1, 4, 5, 1\)"),
        (IMAGE[:, None], IMAGE, "dropped"),
        (IMAGE[:, :4, :4, 0].reshape(2, 16), IMAGE[:, :4, :4, :1], "16 pixels were taken as 4 x 4"),
        (np.zeros((2, 1, 1, 1)), np.zeros((2, 1, 1, 1)), None),
        (np.zeros((2, 5, 1)), np.zeros((2, 5, 1, 1)), None),
    ],
)
def test_arrangements(
    given_as: NDArray[Any], expected: NDArray[Any] | None, note: str | None
) -> None:
    found = layout(given_as.shape, "x")
    images = found.arrange(given_as)

    assert images.shape == (2, *found.shape)
    np.testing.assert_array_equal(images, given_as if expected is None else expected)
    assert (note is None) == (found.note is None)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), "no images"),
        ((0, 4, 4), "no images"),
        ((9,), "expected .n, height, width"),
        ((9, 1), "no square image"),
        ((9, 12), "2 x 2 colours in two orders; write them as .n, 2, 2, 3"),
        ((9, 3072), "32 x 32 colours"),
        ((9, 15), "no square image"),
        ((9, 3, 28, 3), "channels first or last"),
        ((9, 1, 28, 3), "channels first or last"),
        ((9, 28, 28, 2), "1, 3 or 4 channels"),
        ((9, 2, 28, 28), "1, 3 or 4 channels"),
        ((9, 16, 28, 28, 3), "expected .n, height, width"),
        ((9, 3, 28, 28, 1), "expected .n, height, width"),
        ((9, 1, 28, 1, 1), "expected .n, height, width"),
    ],
)
def test_no_or_two_arrangements(shape: tuple[int, ...], expected: str) -> None:
    with pytest.raises(UserError, match=f"^x: .*{expected}"):
        layout(shape, "x")


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), max_size=6))
def test_any_shape_is_arranged_or_refused(lengths: list[int]) -> None:
    array = np.zeros(lengths, np.uint8)
    try:
        found = layout(array.shape, "x")
    except UserError:
        return
    assert found.arrange(array).shape == (lengths[0], *found.shape)
    assert found.shape[2] in (1, 3, 4)
