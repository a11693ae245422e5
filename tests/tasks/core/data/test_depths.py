"""White of numbers of more than 8 bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.depths import WHITES, scaled, white_of


@given(st.integers(0, 65_535), st.sampled_from(WHITES))
def test_white_is_not_less_than_in_other_images(highest: int, white: int) -> None:
    found = white_of(highest, white)
    assert found >= max(highest, white)
    assert found in WHITES
    assert found == white or found == white_of(highest)


def test_16_bits_end_at_white() -> None:
    deep = np.array([0, 257, 32_768, 65_535], np.uint16)
    assert scaled(deep, 65_535).tolist() == [0, 1, 128, 255]


@given(st.integers(0, 65_535), st.sampled_from(WHITES))
def test_numbers_are_rounded(number: int, white: int) -> None:
    number = min(number, white)
    (found,) = scaled(np.array([number], np.uint16), white)
    # No number is half way, since white is odd.
    assert int(found) == round(number * 255 / white)
