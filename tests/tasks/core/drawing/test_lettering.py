"""Names are drawn as they are, or as numbers; what DejaVu Sans has is known without opening it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.characters import _PLAIN, CHANGES, CLASS_NAMES, font_advice, unusual
from tasks.core.drawing.lettering import Lettering, in_sentence, lettering_of
from tasks.sources.fonts import lacking


def test_dejavu_sans_has_every_character_that_is_not_unusual() -> None:
    plain = {chr(code) for first, last in _PLAIN for code in range(first, last + 1)}
    assert lacking({one for one in plain if one.isprintable()}) == set()
    assert not unusual(plain)


@pytest.mark.parametrize(
    "name", ["Ankle boot", "Größe 42", "собака", "παπούτσι", "Giày dép", "قطة", "נעל", "a\n\u3000b"]
)
def test_names_in_common_scripts_need_no_font(name: str) -> None:
    assert unusual([name]) == frozenset()


def test_names_are_numbered_only_where_a_kind_has_no_font() -> None:
    fonts = {CLASS_NAMES: {}, CHANGES: {"Tiny Han": "ab"}}
    lettering = lettering_of({"fonts": fonts})
    assert lettering == Lettering(("Tiny Han ab",), (CLASS_NAMES,))
    assert lettering.labels(["猫", "cat"]) == ["class 1", "class 2"]
    assert lettering.labels(["增加"], CHANGES) == ["增加"]
    assert lettering_of({}).labels(["cat"]) == ["cat"]


@pytest.mark.parametrize(
    ("characters", "advice"),
    [
        ("猫スー한", "Install Noto Sans CJK (Debian: fonts-noto-cjk), and run again."),
        (
            "ก",
            "Install a font for Thai such as Noto Sans (Debian: fonts-noto-core), and run again.",
        ),
        ("🐔", "Install Symbola (Debian: fonts-symbola), and run again."),
        ("\x07\u0378", "No font has U+0007, U+0378: remove it from the names."),
    ],
)
def test_the_font_to_install_is_named(characters: str, advice: str) -> None:
    assert font_advice(characters) == advice


@given(st.frozensets(st.characters(), min_size=1))
def test_advice_is_short_whatever_the_characters(characters: frozenset[str]) -> None:
    assert 0 < len(font_advice(characters)) < 330


def test_a_name_from_right_to_left_does_not_turn_its_sentence_round() -> None:
    assert in_sentence("cat 5") == "cat 5"
    assert in_sentence("قطة") == "\u200eقطة\u200e"
