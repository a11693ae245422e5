"""Lists, values and messages are cut to what fits on a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from tasks.core.errors import StorageError, UserError, whole
from tasks.core.messages import (
    COLUMNS,
    CUT,
    LONGEST,
    MOST_LINES,
    brief,
    classes_listed,
    first_line,
    listed,
    quoted,
)

END = " (all of it: /var/lib/store/runs/20240501-120000-abcd/run.log)"


def on_terminal(text: str, width: int = COLUMNS) -> list[str]:
    """The lines of a text as a terminal shows it."""
    stream = io.StringIO()
    Console(file=stream, width=width).print(Text(text))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("items", "shown"),
    [
        ([], ""),
        (["a", "b"], "a, b"),
        (range(30), "0, 1, 2, 3, 4, 5, 6 and 23 more"),
        (["x" * 20, "y" * 20], "x" * 20 + " and 1 more"),
        (["x" * 100], "x" * 12 + "..." + "x" * 5),
    ],
)
def test_a_list_is_cut_with_a_count(items: list[object], shown: str) -> None:
    assert listed(items, 20) == shown


def test_classes_are_named() -> None:
    names = ["T-shirt", "Shirt", *(f"class {index}" for index in range(2, 9))]
    assert classes_listed([1], names) == "class 'Shirt' (1)"
    assert classes_listed([0, 1], names) == "class 'T-shirt' (0), 'Shirt' (1)"
    assert classes_listed([2, 5], names) == "class 2, 5"
    many = classes_listed(range(300), ["a name of some length"] * 300)
    assert many.startswith("class 'a name of some length' (0), ")
    assert many.endswith(" and 296 more")


def test_values_keep_their_begin_and_end() -> None:
    assert quoted("value") == "'value'"
    assert quoted("a" * 50 + "b" * 50, 21) == "'" + "a" * 11 + "..." + "b" * 5 + "'"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("odd.\nmore"), "odd"),
        (ValueError(), "ValueError"),
        (FileNotFoundError(2, "No such file", "/x"), "No such file"),
    ],
)
def test_of_another_error_only_the_reason_is_shown(error: Exception, shown: str) -> None:
    assert first_line(error) == shown


def test_a_short_message_is_shown_as_it_is() -> None:
    text = "one line\nand  another; set x=1."
    assert brief(text) == text


def test_a_long_message_keeps_its_begin_its_path_and_what_to_do() -> None:
    path = "/home/someone/" + "folder/" * 20 + "data.npz"
    found = brief(f"{path}: expected this, found {'that, ' * 200}; save it again.", end=END)
    assert found.startswith(f"{path}: expected this")
    assert CUT in found
    assert found.endswith(f"save it again.{END}")


WORDS = st.lists(
    st.one_of(
        st.text("abc/", min_size=1, max_size=12),
        st.text("abc/名", min_size=70, max_size=300),
    ),
    max_size=150,
)


@given(WORDS, st.sampled_from(["", END]), st.integers(0, 50), st.integers(40, 120))
def test_a_message_never_takes_more_than_its_room(
    words: list[str], end: str, taken: int, columns: int
) -> None:
    found = "x" * taken + brief(" ".join(words), taken=taken, end=end, columns=columns)
    assert len(found) <= LONGEST
    assert len(on_terminal(found, columns)) <= MOST_LINES


def test_an_error_is_brief_as_text_and_whole_for_the_log() -> None:
    text = f"expected {'a, ' * 500}; set b."
    error = StorageError(text, transient=True)
    assert len(str(error)) <= LONGEST
    assert whole(error) == error.whole == text
    assert whole(ValueError(text)) == text
    assert str(UserError("short")) == "short"
