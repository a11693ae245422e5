"""Fonts are found where they are installed, and chosen by what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.sources.fonts import Font, find_fonts, font_files, in_no_font
from tasks.storage.files import file_digest
from tests.tasks.fonts import no_fonts, write_font

HAN = frozenset("猫靴")


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return no_fonts(monkeypatch, tmp_path)


def names(found: tuple[Font, ...]) -> list[str]:
    return [font.name for font in found]


def test_a_font_with_the_characters_is_found_with_its_digest(fonts: Path) -> None:
    path = write_font(fonts / "han.ttf", HAN)
    (font,) = find_fonts(HAN)
    assert font == Font("Tiny Han", path, 0, file_digest(path)[0])


@pytest.mark.parametrize("folder", ["home/.fonts/deep", "home/data/fonts"])
def test_a_user_s_own_fonts_count(fonts: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    path = write_font(tmp_path / folder / "han.TTF", HAN)
    (fonts / "link.ttf").symlink_to(path)
    assert font_files() == [path]
    assert names(find_fonts(HAN)) == ["Tiny Han"]


def test_a_font_that_can_t_show_the_characters_does_not_count(fonts: Path) -> None:
    write_font(fonts / "colour.ttf", HAN, colour=True)
    write_font(fonts / "blank.ttf", HAN, blank=True)
    write_font(fonts / "boxes.ttf", HAN, family="Last Resort High-Efficiency")
    write_font(fonts / "other.ttf", "ab")
    (fonts / "damaged.otf").write_bytes(b"OTTO" + bytes(40))
    (fonts / "gone.ttf").symlink_to(fonts / "nowhere.ttf")
    assert find_fonts(HAN) == ()
    assert in_no_font(HAN) == HAN


def test_the_choice_does_not_depend_on_file_names(fonts: Path) -> None:
    write_font(fonts / "1.ttf", "猫", family="A covers less")
    write_font(fonts / "2.ttf", HAN, family="B is bold", weight=700)
    write_font(fonts / "3.ttf", HAN, family="D by name")
    write_font(fonts / "4.ttf", HAN, family="C by name")
    assert names(find_fonts(HAN)) == ["C by name"]
    # Of two versions of a font, the digest decides.
    other = write_font(fonts / "0.ttf", HAN, family="C by name", height=300)
    both = sorted((file_digest(path)[0], path) for path in (other, fonts / "4.ttf"))
    assert find_fonts(HAN)[0].path == both[0][1]


def test_of_fonts_for_chinese_characters_the_language_decides(fonts: Path) -> None:
    every = "猫スー한"
    for region in ("HK", "JP", "KR", "SC"):
        write_font(fonts / f"{region}.ttf", every, family=f"Tiny CJK {region}")
    chosen = {text: names(find_fonts(frozenset(text))) for text in ("猫", "スー", "한")}
    assert chosen == {"猫": ["Tiny CJK SC"], "スー": ["Tiny CJK JP"], "한": ["Tiny CJK KR"]}


def test_several_fonts_are_combined_or_none_is_used(fonts: Path) -> None:
    write_font(fonts / "han.ttf", HAN)
    write_font(fonts / "thai.ttf", "ก", family="A Thai")
    assert names(find_fonts(HAN | {"ก"})) == ["A Thai", "Tiny Han"]
    assert find_fonts(HAN | {"ក"}) == ()
    assert in_no_font(HAN | {"ក"}) == {"ក"}


def test_a_control_character_has_no_glyph_whatever_a_font_says(fonts: Path) -> None:
    write_font(fonts / "all.ttf", "猫\x07\ue000")
    assert find_fonts(frozenset("猫\x07")) == ()
    assert find_fonts(frozenset("\ue000")) == ()
