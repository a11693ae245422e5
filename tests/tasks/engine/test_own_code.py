"""The code of an own network: what is read, what its digests follow, what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.own_code import ITSELF, short_digest
from tasks.engine.own_code import check_call, files_of, read_code
from tests.own_nets import BLOCKS, NETS, written


def digests(folder: Path, nets: str = NETS, blocks: str = BLOCKS) -> dict[str, str]:
    return dict(read_code(written(folder, nets, blocks)).digests)


def test_the_module_and_the_local_ones_that_it_imports_are_read(tmp_path: Path) -> None:
    function = written(tmp_path)
    (tmp_path / "unused.py").write_text("1 / 0")
    code = read_code(function)
    assert (code.function, code.module) == ("build", "nets")
    assert code.files == {"nets": "nets.py", "blocks": "blocks.py"}
    assert set(code.digests) == {ITSELF, "blocks"}
    assert code.libraries == ("keras",)
    assert files_of(function) == [tmp_path / "nets.py", tmp_path / "blocks.py"]


def test_the_digests_follow_code_and_not_comments_or_places(tmp_path: Path) -> None:
    before = digests(tmp_path / "a")
    again = digests(
        tmp_path / "b",
        NETS.replace("A small network.", "Another text.").replace(
            "import keras", "import keras  # !"
        ),
        f"# a comment\n{BLOCKS}\n\n",
    )
    assert again == before
    other = digests(tmp_path / "c", NETS.replace("0.3", "0.4"))
    assert other["blocks"] == before["blocks"]
    assert other[ITSELF] != before[ITSELF]
    helper = digests(tmp_path / "d", blocks=BLOCKS.replace("0.8", "0.9"))
    assert helper[ITSELF] == before[ITSELF]
    assert helper["blocks"] != before["blocks"]
    assert short_digest(helper) != short_digest(before) == short_digest(again)


def test_packages_and_relative_imports_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "vision" / "parts"
    package.mkdir(parents=True)
    (tmp_path / "vision" / "__init__.py").write_text("")
    (tmp_path / "vision" / "nets.py").write_text(
        "from .parts import heads\nfrom . import common\nimport other\nimport json\n"
        "def build(input_shape, classes): ...\n"
    )
    (tmp_path / "vision" / "common.py").write_text("from scipy import stats\n")
    (package / "__init__.py").write_text("from vision.parts.heads import head\n")
    (package / "heads.py").write_text("from ..common import x\n")
    (tmp_path / "other.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code = read_code("vision.nets:build")
    assert set(code.sources) == {
        "vision",
        "vision.nets",
        "vision.common",
        "vision.parts",
        "vision.parts.heads",
    }
    assert code.packages == {"vision", "vision.parts"}
    # Another package of the path is no part of this one.
    assert code.libraries == ("other", "scipy")


REFUSED = {
    "def other(input_shape, classes): ...": r"nets.py has no function 'build'; it has other",
    "def build(:": r"nets.py, line 1: .*not valid Python",
    "import importlib\ndef build(a, b): ...": r"nets.py imports importlib",
    "from tasks.core import seeds\ndef build(a, b): ...": r"the program's own code",
    "def build(a, b):\n    exec('1')": r"nets.py, line 2: exec runs code",
    "from . import blocks\ndef build(a, b): ...": r"nets.py, line 1: a relative import",
    "\0": r"nets.py.* not valid Python",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_can_not_be_read_is_refused_in_one_message(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read_code(written(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape("there is no file") + ".*missing.py"):
        read_code(f"{tmp_path}/missing.py:build")
    with pytest.raises(UserError, match=r"there is no module 'no_such\.package'"):
        read_code("no_such.package:build")
    with pytest.raises(UserError, match=r"the home folder in '~nobody-here/nets\.py' is unknown"):
        read_code("~nobody-here/nets.py:build")


CALLS = {
    "def build(input_shape): ...": (["width"], "add both"),
    "def build(input_shape, classes): ...": (["width"], "has no argument width"),
    "def build(input_shape, classes, depth, *, width): ...": (["width"], "needs depth"),
    "def build(input_shape, classes, *, depth, width=1): ...": (["width"], "needs depth"),
    "def build(x, y, **options): ...": (["classes"], "classes is given anyway"),
}


@pytest.mark.parametrize(("text", "given"), CALLS.items(), ids=range(len(CALLS)))
def test_arguments_that_do_not_fit_are_found_before_a_run(
    text: str, given: tuple[list[str], str], tmp_path: Path
) -> None:
    options, message = given
    with pytest.raises(UserError, match=message):
        check_call(read_code(written(tmp_path, text)), options)


@pytest.mark.parametrize(
    "text",
    [
        "def build(a, b, width=3, **more): ...",
        "def build(*arguments, width): ...",
        "from blocks import block as build",
        "import functools\nbuild = functools.partial(print, width=1)",
        "if 1:\n    def build(a, b, width): ...",
    ],
)
def test_what_fits_or_can_not_be_seen_is_left_to_the_call(text: str, tmp_path: Path) -> None:
    check_call(read_code(written(tmp_path, text)), ["width"])
