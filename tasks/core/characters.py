"""Characters of names: which ones need a font besides DejaVu Sans, and which font to install.

Fonts enter the keys of figures by name and digest, so this module is left out of the fingerprints
of code.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from tasks.core.messages import listed

# Kinds of names in figures that a user chose.
CLASS_NAMES, CHANGES = "class_names", "changes"

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


def family_of(name: str, sha256: str) -> str:
    """The family under which Matplotlib knows the font `name` in a file of this digest."""
    return f"{name} {sha256}"


def unusual(names: Iterable[str]) -> frozenset[str]:
    """The characters of names that DejaVu Sans may lack."""
    return frozenset(
        character
        for character in set().union(*("".join(name.split()) for name in names))
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
        sentences.append(f"Install {listed(list(wanted))}, and run again.")
    if bare:
        sentences.append(f"No font has {listed(bare)}: remove it from the names.")
    return " ".join(sentences)


def _font_for(character: str) -> str:
    """A font with a character, and the Debian package that has the font."""
    words = unicodedata.name(character, "").replace("-", " ").split(" ")
    if words[0] in _CJK:
        return "Noto Sans CJK (Debian: fonts-noto-cjk)"
    if unicodedata.category(character).startswith("S"):
        return "Symbola (Debian: fonts-symbola)"
    script = " ".join(words[:2] if words[0] == "OLD" else words[:1]).title()
    return f"a font for {script} such as Noto Sans (Debian: fonts-noto-core)"
