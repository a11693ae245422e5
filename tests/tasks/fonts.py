"""Tiny fonts for tests, in folders where the program looks for fonts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest


def no_fonts(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let no font but those in the folder that is returned be installed."""
    fonts = folder / "share" / "fonts"
    fonts.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "home" / "data"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(fonts.parent))
    return fonts


def write_font(
    path: Path,
    characters: Iterable[str],
    *,
    family: str = "Tiny Han",
    weight: int = 400,
    height: int = 700,
    blank: bool = False,
    colour: bool = False,
) -> Path:
    """A TrueType font in which each character is a box of this height, or nothing at all."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from fontTools.ttLib.tables._g_l_y_f import Glyph

    names = {ord(one): f"u{ord(one):04X}" for one in characters}
    glyphs: dict[str, Glyph] = {}
    for name in (".notdef", *names.values()):
        pen = TTGlyphPen(None)
        if not blank:
            pen.moveTo((100, 0))
            for point in ((100, height), (900, height), (900, 0)):
                pen.lineTo(point)
            pen.closePath()
        glyphs[name] = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap(names)
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=weight)
    builder.setupPost()
    if colour:
        layers = {name: [(name, 0)] for name in names.values()}
        builder.setupCOLR(layers)
        builder.setupCPAL([[(1.0, 0.0, 0.0, 1.0)]])
    builder.save(path)
    return path
