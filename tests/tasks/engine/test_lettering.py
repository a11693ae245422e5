"""The fonts of a figure are part of its key, and nothing else on a machine changes its bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.drawing.canvas import shortened
from tasks.core.drawing.lettering import lettering_of
from tasks.core.errors import StageError
from tasks.core.names import FACTS
from tasks.core.records import Record, Stage, StoredFile
from tasks.core.stage_specs import ExploreSpec, FiguresSpec
from tasks.engine.keys import basis_of, key_of, refuse_changes
from tasks.engine.lettering import fonts_entry, legend
from tasks.storage.files import file_digest
from tests.tasks.fonts import no_fonts, write_font

ROOT = Path(__file__).resolve().parents[3]
STAGE = Stage("explore", ExploreSpec(note=""), {"raw": ("train", FACTS)})


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return no_fonts(monkeypatch, tmp_path)


def named(*names: str) -> dict[str, Any]:
    files = {"train": StoredFile("stages/load/a/train.npz", "1" * 64, 5, "npz", {})}
    return {"raw": Record("load", "load", "a" * 64, files, {"class_names": list(names)}, {})}


def test_names_in_latin_leave_the_key_as_it_is_and_import_nothing() -> None:
    assert "fonts" not in basis_of(STAGE, named("boot", "Größe", "собака"), {})
    code = (
        "import sys\n"
        "from tests.tasks.engine.test_lettering import STAGE, fonts_entry, named\n"
        "assert fonts_entry(STAGE, named('boot', 'собака', 'قطة')) == {}\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_digest_of_the_font_is_in_the_key(fonts: Path) -> None:
    given = named("猫", "boot")
    without, basis = key_of(STAGE, given, {})
    assert basis["fonts"] == {"class_names": {}}
    path = write_font(fonts / "han.ttf", "猫")
    one, basis = key_of(STAGE, given, {})
    assert basis["fonts"] == {"class_names": {"Tiny Han": file_digest(path)[0]}}
    write_font(path, "猫", height=300)
    other, _ = key_of(STAGE, given, {})
    assert len({without, one, other}) == 3


@pytest.mark.usefixtures("fonts")
def test_characters_beyond_the_common_ones_that_dejavu_sans_has_need_no_font() -> None:
    assert fonts_entry(STAGE, named("✓ 😀 Ⅳ")) == {}


@pytest.mark.usefixtures("fonts")
def test_changes_of_a_plan_are_numbered_by_themselves() -> None:
    spec = FiguresSpec(
        metric="accuracy",
        note="",
        random_transfer=False,
        changes=("更多", "fewer"),
        vgg16_inputs={},
        augmentation=None,
        seed=0,
    )
    stage = Stage("figures", spec, {"subset": (FACTS,)})
    basis = fonts_entry(stage, {"subset": named("boot")["raw"]})
    assert basis == {"fonts": {"changes": {}}, "in_no_font": "多更"}
    lettering = lettering_of(basis)
    assert lettering.labels(["boot"]) == ["boot"]
    assert lettering.labels(spec.changes, "changes") == ["change 1", "change 2"]


def test_a_font_that_changes_meanwhile_is_refused(fonts: Path) -> None:
    path = write_font(fonts / "han.ttf", "猫")
    basis = basis_of(STAGE, named("猫"), {})
    refuse_changes(STAGE, basis)
    write_font(path, "猫", height=300)
    with pytest.raises(StageError, match=r"font .*han.ttf changed while explore drew with it"):
        refuse_changes(STAGE, basis)
    path.unlink()
    with pytest.raises(StageError, match="start the run again"):
        refuse_changes(STAGE, basis)


def test_numbers_have_a_legend_and_only_missing_fonts_are_named(fonts: Path) -> None:
    write_font(fonts / "han.ttf", "猫")
    given = named("猫", "hen 🐔")
    facts = legend(STAGE, given, fonts_entry(STAGE, given))
    assert facts == {
        "font_advice": "No font here has all their characters. Install Symbola (Debian: "
        "fonts-symbola), and run again.",
        "legend": ["猫", "hen 🐔"],
    }
    assert legend(STAGE, named("猫"), fonts_entry(STAGE, named("猫"))) == {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(names=st.lists(st.text() | st.text("猫靴 boot\x07🐔\u0301"), min_size=1, max_size=3))
def test_only_characters_with_glyphs_are_drawn(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from matplotlib.ft2font import FT2Font

    from tasks.engine.lettering import _fonts
    from tasks.sources.fonts import matplotlib_folder

    with pytest.MonkeyPatch.context() as patch:
        folder = no_fonts(patch, tmp_path_factory.mktemp("machine"))
        write_font(folder / "han.ttf", "猫靴")
        basis = fonts_entry(STAGE, named(*names))
        dejavu = matplotlib_folder() / "fonts/ttf/DejaVuSans.ttf"
        faces = [FT2Font(path) for path in (dejavu, *(font.path for font in _fonts(basis)))]
    for label in lettering_of(basis).labels(names):
        for character in shortened(label):
            assert any(face.get_char_index(ord(character)) for face in faces), (label, character)


DRAW = """
import hashlib, sys
from tasks.core.drawing.class_charts import class_balance
from tasks.engine.matplotlib_setup import use_fonts
use_fonts([])
names = ["\\u014a \\u0431\\u0433\\u0434 ffi", "\\u0642\\u0637\\u0629", "boot"]
print(hashlib.sha256(class_balance([4, 2, 3], [3, 3, 3], names, "A note")).hexdigest())
"""


def drawn(folder: Path, **environment: str) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    clean = {"HOME": str(folder), "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(folder / "mpl")}
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=folder,
        env=kept | clean | environment,
        check=True,
        text=True,
        capture_output=True,
    )
    return done.stdout


def test_nothing_that_matplotlib_reads_changes_a_byte(tmp_path: Path) -> None:
    clean, odd = tmp_path / "clean", tmp_path / "odd"
    clean.mkdir()
    (odd / ".fonts").mkdir(parents=True)
    (odd / "mpl").mkdir()
    settings_file = "font.size: 20\nfont.family: serif\naxes.facecolor: red\ntext.usetex: True\n"
    for path in (odd, odd / "mpl"):
        (path / "matplotlibrc").write_text(settings_file, encoding="utf-8")
    latin = "".join(map(chr, range(0x20, 0x7F)))
    write_font(odd / ".fonts" / "DejaVuSans.ttf", latin, family="DejaVu Sans")
    found = drawn(
        odd,
        MATPLOTLIBRC=str(odd / "mpl"),
        FREETYPE_PROPERTIES="truetype:interpreter-version=35",
        HB_SHAPER_LIST="fallback",
        MPLBACKEND="nonsense",
    )
    assert found == drawn(clean)


def test_a_settings_file_that_can_t_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"font.family: \xff\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        drawn(tmp_path)
    assert f"UserError: Matplotlib can't read {tmp_path / 'matplotlibrc'}" in failed.value.stderr


def test_the_language_of_the_locale_changes_no_letter(tmp_path: Path) -> None:
    # In Sami, DejaVu Sans gives the letter Eng another form. Few machines have this locale.
    made = subprocess.run(
        ["localedef", "-i", "se_NO", "-f", "UTF-8", str(tmp_path / "se_NO.UTF-8")],
        capture_output=True,
        check=False,
    )
    if not (tmp_path / "se_NO.UTF-8").is_dir():
        pytest.skip(f"no sources of locales here: {made.stderr[:80]!r}")
    sami = drawn(tmp_path, LOCPATH=str(tmp_path), LC_ALL="se_NO.UTF-8")
    assert sami == drawn(tmp_path, LC_ALL="C.UTF-8")
