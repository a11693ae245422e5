"""What the names in figures are drawn with: fonts, or numbers where no font has their characters.

Matplotlib's own font, DejaVu Sans, draws names in Latin, Greek, Cyrillic and some other scripts.
Fonts for the rest are found elsewhere; figures get their families.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CLASS_NAMES, CHANGES = "class_names", "changes"
# What stands for a name that can't be drawn; numbers count from 1.
NUMBERED = {CLASS_NAMES: "class {}", CHANGES: "change {}"}

# Code points that DejaVu Sans has, by block: Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic,
# Georgian, Vietnamese, punctuation. Not all that it has, but enough for names in these scripts to
# be recognised without opening a font.
_PLAIN = (
    (0x20, 0x7E),
    (0xA0, 0x2E9),
    (0x300, 0x34F),
    (0x384, 0x38A),
    (0x38E, 0x3A1),
    (0x3A3, 0x525),
    (0x531, 0x556),
    (0x561, 0x587),
    (0x5D0, 0x5EA),
    (0x621, 0x63A),
    (0x640, 0x655),
    (0x10D0, 0x10FC),
    (0x1E00, 0x1EFB),
    (0x2000, 0x2064),
    (0x20A0, 0x20B5),
)
# Control characters, surrogates, code points for private use, and unassigned ones.
_WITHOUT_GLYPH = ("Cc", "Cs", "Co", "Cn")
_CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH")
_SCRIPTS_NAMED = 3


@dataclass(frozen=True)
class Lettering:
    """What a figure's names are drawn with.

    Attributes:
        families: font families to use besides DejaVu Sans, as Matplotlib knows them.
        numbered: which names are replaced by numbers: `CLASS_NAMES`, `CHANGES`.
    """

    families: tuple[str, ...] = ()
    numbered: tuple[str, ...] = ()

    def labels(self, names: Sequence[str], kind: str = CLASS_NAMES) -> list[str]:
        """The names as they can be drawn: unchanged, or `class 1`, `class 2` and so on."""
        if kind not in self.numbered:
            return list(names)
        return [NUMBERED[kind].format(number) for number in range(1, len(names) + 1)]


def family_of(name: str, sha256: str) -> str:
    """The family under which Matplotlib knows the font `name` in a file of this digest."""
    return f"{name} {sha256}"


def lettering_of(basis: Mapping[str, Any]) -> Lettering:
    """The lettering that a key's basis describes.

    Its `fonts` has, by kind of name, the digest of each font by the font's name. A kind that needs
    no font is left out; one without any font is drawn as numbers.
    """
    fonts: Mapping[str, Mapping[str, str]] = basis.get("fonts", {})
    found = {family_of(*font) for chosen in fonts.values() for font in chosen.items()}
    return Lettering(tuple(sorted(found)), tuple(kind for kind in sorted(fonts) if not fonts[kind]))


def on_one_line(name: str) -> str:
    """A name with every run of white space replaced by one space, as it is drawn."""
    return " ".join(name.split())


def columns(text: str) -> int:
    """The width of a text in columns; a character of Chinese, Japanese or Korean takes two."""
    return sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def cut(text: str, most: int) -> str:
    """A text cut to at most `most` columns, with an ellipsis if anything is missing."""
    if columns(text) <= most:
        return text
    while columns(text) > most - 1:
        text = text[:-1]
    return text + "…"


def wrapped(text: str, most: int) -> str:
    """A text in lines of at most about `most` columns."""
    return "\n".join(textwrap.wrap(text, max(1, most * len(text) // max(1, columns(text)))))


def unusual(names: Iterable[str]) -> frozenset[str]:
    """The characters of names that DejaVu Sans may lack."""
    return frozenset(
        character
        for character in set().union(*map(on_one_line, names))
        if not any(first <= ord(character) <= last for first, last in _PLAIN)
    )


def may_have_glyph(character: str) -> bool:
    """Whether a font can have a picture of a character; what shows it otherwise is an empty box."""
    return unicodedata.category(character) not in _WITHOUT_GLYPH


def font_advice(characters: Iterable[str]) -> str:
    """Which fonts to install for characters that no font here has, in one or two sentences."""
    characters = sorted(characters)
    bare = [f"U+{ord(one):04X}" for one in characters if not may_have_glyph(one)]
    wanted = dict.fromkeys(map(_font_for, filter(may_have_glyph, characters)))
    sentences = []
    if wanted:
        sentences.append(f"Install {_some(list(wanted))}, and run again.")
    if bare:
        sentences.append(f"No font has {_some(bare)}: remove it from the names.")
    return " ".join(sentences)


def _some(words: Sequence[str]) -> str:
    more = len(words) - _SCRIPTS_NAMED
    return ", ".join(words[:_SCRIPTS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _font_for(character: str) -> str:
    """A font with a character, and the Debian package that has the font."""
    words = unicodedata.name(character, "").replace("-", " ").split(" ")
    if words[0] in _CJK:
        return "Noto Sans CJK (Debian: fonts-noto-cjk)"
    if unicodedata.category(character).startswith("S"):
        return "Symbola (Debian: fonts-symbola)"
    script = " ".join(words[:2] if words[0] == "OLD" else words[:1]).title()
    return f"a font for {script} such as Noto Sans (Debian: fonts-noto-core)"
