"""Which fonts a stage draws its names with: part of its key, and what Matplotlib is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.characters import CHANGES, CLASS_NAMES, font_advice, unusual
from tasks.core.errors import StageError
from tasks.core.records import Outcome, Record, Stage
from tasks.engine.matplotlib_setup import import_matplotlib, use_fonts
from tasks.sources.fonts import Font, find_fonts, in_no_font, lacking
from tasks.storage.files import file_digest

# The fonts that were found, by name and digest, so that what is drawn with is what is in the key.
_found: dict[tuple[str, str], Font] = {}


def fonts_entry(stage: Stage, inputs: Mapping[str, Outcome]) -> dict[str, Any]:
    """The part of a key about fonts: `{"fonts": {kind of name: {font: SHA-256}}}`.

    Empty if DejaVu Sans has all characters; a kind without fonts is drawn as numbers.
    """
    fonts: dict[str, Any] = {}
    lost: set[str] = set()
    for kind, names in _drawn_names(stage, inputs).items():
        characters = unusual(names)
        if not characters:
            continue
        import_matplotlib()
        missing = lacking(characters)
        if missing:
            chosen = find_fonts(missing)
            _found.update({(font.name, font.sha256): font for font in chosen})
            fonts[kind] = {font.name: font.sha256 for font in chosen}
            lost |= in_no_font(missing) if not chosen else set()
    # The facts say which fonts to install for these.
    without = {"in_no_font": "".join(sorted(lost))} if lost else {}
    return {"fonts": fonts, **without} if fonts else {}


def prepare(basis: Mapping[str, Any]) -> None:
    """Make the fonts in a key's basis, and no others, available to the figures of its stage."""
    use_fonts(_fonts(basis))


def refuse_other_fonts(stage: str, basis: Mapping[str, Any]) -> None:
    """Refuse a result if a font in its key is not what it was.

    Raises:
        StageError: a font file changed while the stage was computed.
    """
    for font in _fonts(basis):
        try:
            same = file_digest(font.path)[0] == font.sha256
        except OSError:
            same = False
        if not same:
            raise StageError(
                f"the font {font.path} changed while {stage} drew with it, so the result is not "
                "stored; start the run again."
            )


def legend(stage: Stage, inputs: Mapping[str, Outcome], basis: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about names that a stage drew as numbers; empty if it drew the names.

    `legend` has the class names in the order of their numbers, `font_advice` says what to install.
    """
    numbered = [kind for kind, chosen in basis.get("fonts", {}).items() if not chosen]
    if not numbered:
        return {}
    names = _drawn_names(stage, inputs)
    advice = f"No font here has all their characters. {font_advice(basis['in_no_font'])}"
    shown = {"legend": list(names[CLASS_NAMES])} if CLASS_NAMES in numbered else {}
    return {"font_advice": advice} | shown


def _fonts(basis: Mapping[str, Any]) -> list[Font]:
    return [_found[font] for chosen in basis.get("fonts", {}).values() for font in chosen.items()]


def _drawn_names(stage: Stage, inputs: Mapping[str, Outcome]) -> dict[str, tuple[str, ...]]:
    """The names in a stage's figures that a user chose, by kind."""
    given = inputs.get(stage.spec.class_names_from)
    found = {CHANGES: stage.spec.drawn_changes()}
    if isinstance(given, Record):
        found[CLASS_NAMES] = tuple(given.facts.get("class_names", ()))
    return found
