"""Columns of pixels and of labels are told by their names, or by what they hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.pixel_columns import columns_of, label_end, pixel_positions
from tasks.core.errors import UserError

PIXELS = [f"pixel{i}" for i in range(16)]


@pytest.mark.parametrize(
    "names",
    [
        PIXELS,
        [f"pixel_{i}" for i in range(1, 17)],
        [str(i) for i in range(16)],
        [f"{row}x{column}" for row in range(1, 5) for column in range(1, 5)],
        [f"pixel_{row}_{column}" for row in range(4) for column in range(4)],
        [f"PX {i}" for i in range(16)],
    ],
)
@pytest.mark.parametrize("label", ["label", "Label", "class", "y", "emotion"])
@pytest.mark.parametrize("first", [True, False])
def test_usual_names(names: list[str], label: str, first: bool) -> None:
    found = columns_of([label, *names] if first else [*names, label], "t.csv")

    assert found.label == (0 if first else 16)
    assert found.pixels == tuple(range(1, 17) if first else range(16))
    assert found.shape in ((16,), (4, 4))


@settings(max_examples=50)
@given(st.permutations(range(16)))
def test_pixels_are_in_the_order_of_their_numbers(order: list[int]) -> None:
    found = columns_of(["label", *(f"pixel{i}" for i in order)], "t.csv")
    assert [order[position - 1] for position in found.pixels] == list(range(16))


def test_names_with_rows_and_columns_tell_the_size() -> None:
    names = [f"{row}_{column}" for column in range(5) for row in range(3)]
    found = columns_of(["y", *names], "t.csv")

    assert found.shape == (3, 5)
    assert [names[p - 1] for p in found.pixels[:6]] == ["0_0", "0_1", "0_2", "0_3", "0_4", "1_0"]


@settings(max_examples=50)
@given(st.integers(3, 5), st.integers(3, 5), st.integers(0, 2), st.data())
def test_each_pixel_has_one_column(
    height: int, width: int, start: int, data: st.DataObject
) -> None:
    grid = [f"{row + start}x{column}" for row in range(height) for column in range(width)]
    names = data.draw(st.permutations(grid))
    found = columns_of(["label", *names], "t.csv")
    assert [names[position - 1] for position in found.pixels] == grid
    assert found.shape == (height, width)

    at = data.draw(st.integers(0, len(names) - 1))
    for wrong in ([*names[:at], *names[at + 1 :]], [*names, names[at]]):
        if len(wrong) >= 9:
            with pytest.raises(UserError, match=r"^t.csv: the columns .* are not one for each"):
                columns_of(["label", *wrong], "t.csv")


@pytest.mark.parametrize("name", ["id", "image_id", "name"])
def test_names_of_pictures_beside_what_is_called_pixels(name: str) -> None:
    for called in ("pixel", "pixel_", "px", "p", ""):
        assert len(pixel_positions([name, *(f"{called}{i}" for i in range(16))])) == 16


def test_pixels_that_pandas_renamed_are_there_twice() -> None:
    with pytest.raises(UserError, match="found 17, 17 of them different"):
        columns_of(["label", *PIXELS, "pixel3.1"], "t.csv")


def test_numbers_of_rows_are_left_out_and_other_columns_named() -> None:
    found = columns_of(["", "Unnamed: 0", "person", "label", *PIXELS], "t.csv")
    assert found.label == 3
    assert found.others == ("person",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (PIXELS, "16 columns of pixels and no column called label; add one"),
        (["id", *PIXELS], "no column called label"),
        (["label", "class", *PIXELS], "label, class may each be the label; call one of them label"),
        (["person", "garment", *PIXELS], "person, garment may each be the label"),
    ],
)
def test_no_or_several_labels(names: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=f"^t.csv: .*{expected}"):
        columns_of(names, "t.csv")


@pytest.mark.parametrize(
    "names",
    [
        ["file", "label"],
        ["path", "label", *PIXELS],
        ["label", *PIXELS[:8]],
        ["age", "height", "weight"],
        ["photo_path", "image_path", *PIXELS],
        ["image_id", "label", *(f"f{i}" for i in range(100))],
        ["name", "label", *(f"x{i}" for i in range(100))],
        ["id", "label", *(f"feature_{i}" for i in range(100))],
    ],
)
def test_tables_of_something_else(names: list[str]) -> None:
    assert pixel_positions(names) == []


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (["cat", "1"], ["0", "0"], 0),
        (["0", "7"], ["3", "hen"], -1),
        (["3", "7"], ["0", "0"], 0),
        (["255", "255"], ["3", "7"], -1),
        (["0", "1", "2"] * 3, ["0", "9", "200"] * 3, 0),
        (["0", "9", "0"] * 3, ["1", "2", "3"] * 3, -1),
    ],
)
def test_the_end_of_the_label(first: list[str], last: list[str], expected: int) -> None:
    assert label_end(first, last, "t.csv") == expected


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (["0", "1"] * 3, ["1", "0"] * 3),
        (["0", "1e999"] * 3, ["1e999", "0"] * 3),
        (["5", "9"] * 3, ["7", "9"] * 3),
        (["0"] * 3, ["0"] * 3),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_both_ends_may_be_the_label(first: list[str], last: list[str]) -> None:
    with pytest.raises(UserError, match=r"first or the last column; add a header: label,pixel0"):
        label_end(first, last, "t.csv")
