"""Own code is executed from its texts: isolated, anew for each call, with errors that say where."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.engine.own_code import read_code
from tasks.models.own_modules import own_function
from tests.own_nets import written


def called(folder: Path, nets: str, blocks: str = "", **options: Any) -> Any:
    return own_function(read_code(written(folder, nets, blocks)))((2, 2, 1), 3, **options)


NETS = "import blocks\ndef build(shape, classes, **options): return blocks.VALUE, shape, options\n"


def test_modules_of_the_same_names_do_not_meet(tmp_path: Path) -> None:
    assert called(tmp_path / "a", NETS, "VALUE = 1", x=2) == (1, (2, 2, 1), {"x": 2})
    assert called(tmp_path / "b", NETS, "VALUE = 2")[0] == 2
    assert not {"nets", "blocks"} & set(sys.modules)
    assert not [name for name in sys.modules if name.startswith("fashion_flow_own")]


def test_each_call_begins_anew_with_the_code_that_was_read(tmp_path: Path) -> None:
    counting = (
        "COUNT = []\ndef build(shape, classes):\n    COUNT.append(1)\n    return len(COUNT)\n"
    )
    function = own_function(read_code(written(tmp_path, counting)))
    (tmp_path / "nets.py").write_text("def build(shape, classes): return 'edited'")
    assert [function((2,), 3), function((2,), 3)] == [1, 1]


def test_packages_relative_imports_and_imports_in_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "vision"
    package.mkdir()
    (package / "__init__.py").write_text("NAME = 'vision'\n")
    (package / "nets.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import vision.parts\n"
        "@dataclass\n"
        "class Size:\n    side: int = 3\n"
        "def build(shape, classes):\n"
        "    from .parts import head\n"
        "    from . import parts, NAME\n"
        "    return head(), parts is vision.parts, NAME, Size().side\n"
    )
    (package / "parts.py").write_text("import json\ndef head(): return json.dumps([1])\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code = read_code("vision.nets:build")
    assert own_function(code)((2, 2, 1), 3) == ("[1]", True, "vision", 3)
    assert not [name for name in sys.modules if name.startswith("vision")]


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        ("def build(a, b):\n    return 1 / 0", "nets.py, line 2: ZeroDivisionError: division"),
        ("import blocks\ndef build(a, b): return blocks.f()", "blocks.py, line 2: KeyError: 'x'"),
        ("import no_such_library\ndef build(a, b): ...", "nets.py, line 1: ModuleNotFoundError"),
        ("build = 3", "nets.py: build is no function"),
        ("def build(a, b):\n    open(__file__)", "line 2: NameError: name '__file__'"),
        ("raise SystemExit(3)\ndef build(a, b): ...", "nets.py, line 1: SystemExit: 3"),
        ("def build(a): ...", "nets.py: TypeError: build"),
    ],
)
def test_an_error_names_the_last_line_of_own_code(nets: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        called(tmp_path, nets, "def f():\n    return {}['x']\n")
