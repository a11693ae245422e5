"""Matplotlib without what a user or a machine has set: its figures depend on its version alone."""

from __future__ import annotations

import locale
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from tasks.core.characters import family_of
from tasks.core.errors import StageError, UserError
from tasks.core.messages import first_line
from tasks.sources.fonts import Font, matplotlib_folder

# FreeType and HarfBuzz, which draw letters, read the first three. A backend is only for windows.
IGNORED = ("FREETYPE_PROPERTIES", "HB_SHAPER_LIST", "HB_OPTIONS", "MPLBACKEND")
# Otherwise some letters take the form that the language of the user's locale prefers.
LANGUAGE = "en"

_lock = threading.Lock()
_registered: dict[str, Path] = {}
_imported = _ready = False


def import_matplotlib() -> None:
    """Import Matplotlib with its own defaults, whatever settings files and variables say.

    Raises:
        UserError: Matplotlib can't read a settings file in the working folder.
    """
    with _lock:
        _import()


def use_fonts(fonts: Iterable[Font]) -> None:
    """Let figures use DejaVu Sans as it comes with Matplotlib, and these fonts; no others.

    Raises:
        StageError: another font had this path before, and Matplotlib may keep it open.
        UserError: see `import_matplotlib`.
    """
    global _ready
    with _lock:
        _import()
        from matplotlib.font_manager import FontEntry, fontManager, ttfFontProperty
        from matplotlib.ft2font import FT2Font

        if not _ready:
            own = sorted((matplotlib_folder() / "fonts/ttf").glob("DejaVuSans*.ttf"))
            fontManager.ttflist = [ttfFontProperty(FT2Font(str(path))) for path in own]
            _ready = True
        for font in fonts:
            family = family_of(font.name, font.sha256)
            if family in _registered:
                continue
            if font.path in _registered.values() and not any(
                path == font.path and name.endswith(font.sha256)
                for name, path in _registered.items()
            ):
                raise StageError(
                    f"the font {font.path} was replaced while this process used it; "
                    "start the run again (and the Dask worker, if there is one)."
                )
            _registered[family] = font.path
            entry = FontEntry(
                fname=str(font.path),
                index=font.index,
                name=family,
                style="normal",
                variant="normal",
                weight="normal",
                stretch="normal",
                size="scalable",
            )
            fontManager.ttflist.append(entry)


def _import() -> None:
    global _imported
    if _imported:
        return
    for name in IGNORED:
        os.environ.pop(name, None)
    # Nothing but a file in the working folder comes before this variable.
    os.environ["MATPLOTLIBRC"] = str(matplotlib_folder() / "matplotlibrc")
    try:
        import matplotlib
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Matplotlib can't read {Path.cwd() / 'matplotlibrc'} ({first_line(error)}). Figures "
            "don't use this file; rename it, or start the run in another folder."
        ) from error
    defaults = {name: matplotlib.rcParamsDefault[name] for name in matplotlib.rcParamsDefault}
    defaults.pop("backend")
    matplotlib.rcParams.update(defaults | {"text.language": LANGUAGE})
    _fix_language()
    _imported = True


def _fix_language() -> None:
    """Measure letters, too, in the language that they are drawn in.

    HarfBuzz takes the locale's language for text that names none, as when Matplotlib measures text,
    and keeps what it finds first.
    """
    from matplotlib.ft2font import FT2Font

    font = FT2Font(matplotlib_folder() / "fonts/ttf/DejaVuSans.ttf")
    font.set_size(10, 72)
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C")
        font.set_text("a")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
