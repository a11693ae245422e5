"""Fonts on this machine with characters that Matplotlib's own font lacks.

Fonts are read from their files each time. Matplotlib's list of fonts is a cache of what was
installed when it was made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.characters import may_have_glyph
from tasks.storage.files import file_digest

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
PLAIN_STYLES = ("Regular", "Book", "Normal", "Roman")
REGULAR_WEIGHT, BOLD_WEIGHT, NORMAL_WIDTH = 400, 700, 5
MACOS_FOLDERS = ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts")
KANA, HANGUL = ("\u3041", "\u30ff"), ("\uac00", "\ud7a3")


@dataclass(frozen=True)
class Font:
    """A font: the face number `index`, from 0, in a file."""

    name: str
    path: Path
    index: int
    sha256: str


@dataclass(frozen=True)
class _Face:
    """What decides whether a font is chosen; `rank` is lower for the better of two fonts."""

    name: str
    path: Path
    index: int
    has: frozenset[str]
    rank: tuple[int | bool, ...]


def matplotlib_folder() -> Path:
    """The folder of Matplotlib's data, found without importing it."""
    spec = find_spec("matplotlib")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "mpl-data"


def lacking(characters: Set[str]) -> frozenset[str]:
    """The characters that DejaVu Sans, as it comes with Matplotlib, has no glyph for."""
    from matplotlib.ft2font import FT2Font

    font = FT2Font(matplotlib_folder() / "fonts/ttf/DejaVuSans.ttf")
    return frozenset(one for one in characters if not font.get_char_index(ord(one)))


def find_fonts(characters: frozenset[str]) -> tuple[Font, ...]:
    """Fonts that together have a glyph for each character, by name; empty if there are none.

    The first choice is the font with the most of the characters; then a regular weight, upright,
    of normal width, not monospaced, made for the language (as fonts of Chinese characters are),
    the name, and the digest. Bitmap and colour fonts don't count: Matplotlib can't draw them.
    """
    if not all(map(may_have_glyph, characters)):
        return ()
    faces = _all_faces(characters)
    chosen: dict[str, Font] = {}
    missing = set(characters)
    while missing:
        usable = [face for face in faces if face.has & missing and face.name not in chosen]
        if not usable:
            return ()
        best = min((-len(face.has & missing), *face.rank, face.name) for face in usable)
        equal = [
            face for face in usable if (-len(face.has & missing), *face.rank, face.name) == best
        ]
        fonts = [Font(f.name, f.path, f.index, file_digest(f.path)[0]) for f in equal]
        font = min(fonts, key=lambda one: (one.sha256, one.index, one.path))
        chosen[font.name] = font
        missing -= next(face.has for face in equal if face.path == font.path)
    return tuple(chosen[name] for name in sorted(chosen))


def in_no_font(characters: frozenset[str]) -> frozenset[str]:
    """The characters that no font on this machine has."""
    return characters.difference(*(face.has for face in _all_faces(characters)))


def font_folders() -> list[Path]:
    """Where fonts are installed, as the XDG base directories and the platform say."""
    home = os.environ.get("HOME") or "/nonexistent"
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    found = [Path(folder) / "fonts" for folder in (own, *shared.split(":")) if folder]
    if sys.platform == "darwin":
        found += [Path(folder.replace("~", home)) for folder in MACOS_FOLDERS]
    return [Path(home) / ".fonts", *found]


def font_files() -> list[Path]:
    """Every font file in these folders, once."""
    found = {
        os.path.realpath(os.path.join(parent, name))
        for folder in font_folders()
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES)
    }
    return sorted(map(Path, found))


def _all_faces(characters: frozenset[str]) -> list[_Face]:
    return [face for path in font_files() for face in _faces(path, characters)]


def _faces(path: Path, characters: frozenset[str]) -> tuple[_Face, ...]:
    """The fonts in a file that have some of the characters; none if it can't be read."""
    try:
        status = path.stat()
        return _read_faces(path, status.st_size, status.st_mtime_ns, characters)
    except (OSError, RuntimeError, ValueError):
        # Damaged, or not a font: Matplotlib's own search passes over such files, too.
        return ()


@lru_cache(maxsize=8192)
def _read_faces(
    path: Path, _size: int, _modified_ns: int, characters: frozenset[str]
) -> tuple[_Face, ...]:
    return tuple(_open_faces(path, characters))


def _open_faces(path: Path, characters: frozenset[str]) -> Iterator[_Face]:
    from matplotlib.ft2font import FaceFlags, FT2Font

    index, count = 0, 1
    while index < count:
        font = FT2Font(path, face_index=index)
        count = font.num_faces
        usable = FaceFlags.SCALABLE in font.face_flags and FaceFlags.COLOR not in font.face_flags
        # A font that has a box for every character.
        last_resort = font.family_name.replace(" ", "").lower().startswith("lastresort")
        if usable and not last_resort:
            has = frozenset(one for one in characters if _draws(font, one))
            if has:
                yield _Face(_name(font), path, index, has, _rank(font, characters))
        index += 1


def _draws(font: FT2Font, character: str) -> bool:
    """Whether the font has a glyph for a character, and the glyph shows something."""
    from unicodedata import category

    from matplotlib.ft2font import LoadFlags

    if not font.get_char_index(ord(character)):
        return False
    if category(character)[0] in "ZCM":  # spaces, joiners, marks: may be empty by themselves
        return True
    return font.load_char(ord(character), LoadFlags.NO_SCALE).width > 0


def _name(font: FT2Font) -> str:
    plain = font.style_name in PLAIN_STYLES
    return font.family_name if plain else f"{font.family_name} {font.style_name}"


def _rank(font: FT2Font, characters: frozenset[str]) -> tuple[int | bool, ...]:
    from matplotlib.ft2font import FaceFlags, StyleFlags

    table = font.get_sfnt_table("OS/2")
    bold = StyleFlags.BOLD in font.style_flags
    weight = table["usWeightClass"] if table else BOLD_WEIGHT if bold else REGULAR_WEIGHT
    return (
        abs(weight - REGULAR_WEIGHT),
        StyleFlags.ITALIC in font.style_flags,
        abs(table["usWidthClass"] - NORMAL_WIDTH) if table else 0,
        FaceFlags.FIXED_WIDTH in font.face_flags,
        _region(characters) not in font.family_name.split(),
    )


def _region(characters: frozenset[str]) -> str:
    """What the name of a font family for the language of Chinese characters contains."""
    if any(KANA[0] <= one <= KANA[1] for one in characters):
        return "JP"
    return "KR" if any(HANGUL[0] <= one <= HANGUL[1] for one in characters) else "SC"
