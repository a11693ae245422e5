"""What the names in figures are drawn with: fonts, or numbers where no font has their characters.

Matplotlib's own font, DejaVu Sans, draws names in Latin, Greek, Cyrillic and some other scripts.
Fonts for the rest are found elsewhere; figures get their families.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.characters import CHANGES, CLASS_NAMES, family_of

# What stands for a name that can't be drawn; numbers count from 1.
NUMBERED = {CLASS_NAMES: "class {}", CHANGES: "change {}"}

# Classes of letters in Hebrew and Arabic; an invisible letter in Latin, which ends their order.
_RIGHT_TO_LEFT, _LEFT_TO_RIGHT = ("R", "AL"), "\N{LEFT-TO-RIGHT MARK}"


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


def in_sentence(name: str) -> str:
    """A name as a part of a sentence that is read from left to right, even if the name is not."""
    if not any(unicodedata.bidirectional(one) in _RIGHT_TO_LEFT for one in name):
        return name
    return f"{_LEFT_TO_RIGHT}{name}{_LEFT_TO_RIGHT}"


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
