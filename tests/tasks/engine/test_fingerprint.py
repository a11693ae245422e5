"""An edit that may change results changes the keys of the stages that it affects, and no others."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.engine import fingerprint
from tasks.engine.fingerprint import changed_since, code_of, is_neutral

SOURCE = fingerprint.ROOT
KINDS = (
    "load",
    "explore",
    "subset",
    "preprocess",
    "train",
    "curves",
    "decide",
    "retrain",
    "vgg16_weights",
    "vgg16_features",
    "vgg16_train",
    "vgg16_retrain",
    "evaluate",
    "results",
    "figures",
)
Codes = dict[str, dict[str, str]]


def codes() -> Codes:
    """The digests for each kind of stage, as a new process would compute them."""
    fingerprint._parsed.cache_clear()
    try:
        return {kind: code_of(f"tasks.stages.{kind}") for kind in KINDS}
    finally:
        fingerprint._parsed.cache_clear()


@dataclass(frozen=True)
class Tree:
    """A copy of the project for editing, and its fingerprints before any edit."""

    root: Path
    before: Codes

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.root / name
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    def changed(self) -> set[str]:
        """The kinds of stage whose fingerprints the edits so far have changed."""
        after = codes()
        return {kind for kind in KINDS if self.before[kind] != after[kind]}

    def sources(self) -> list[str]:
        paths = sorted((self.root / "tasks").rglob("*.py"))
        return [path.relative_to(self.root).as_posix() for path in paths]


def copied(source: Path, target: Path) -> Path:
    for package in ("tasks", "flows"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / package, target / package, ignore=ignored)
    return target


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = copied(SOURCE, tmp_path_factory.mktemp("untouched"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "ROOT", root)
        return Tree(root, codes())


@pytest.fixture
def tree(untouched: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    return Tree(copied(untouched.root, tmp_path), untouched.before)


def with_statement(text: str) -> str:
    return text + "\nEDITED = 1\n"


def test_the_project_s_folder_does_not_matter(tree: Tree) -> None:
    assert tree.changed() == set()
    assert all(f"tasks.stages.{kind}" in code for kind, code in tree.before.items())


def test_layout_and_comments_do_not_matter(tree: Tree) -> None:
    for name in tree.sources():
        # Unparsing a module's syntax tree discards its comments and its layout.
        tree.edit(name, lambda text: f"# Comment.\n\n\n{ast.unparse(ast.parse(text))}\n# End.\n")
    assert tree.changed() == set()


class Redocumented(ast.NodeTransformer):
    """Gives each module, class and function another docstring, or a first one."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:]
            node.body = [ast.Expr(ast.Constant("Another docstring.")), *node.body]
        return node


def test_docstrings_do_not_matter(tree: Tree) -> None:
    for name in tree.sources():
        tree.edit(name, lambda text: ast.unparse(ast.fix_missing_locations(documented(text))))
        assert (tree.root / name).read_text().startswith('"""Another docstring."""')
    assert tree.changed() == set()


def documented(text: str) -> ast.Module:
    tree = Redocumented().visit(ast.parse(text))
    assert isinstance(tree, ast.Module)
    return tree


@pytest.mark.parametrize(
    ("module", "reached"),
    [
        ("core/data/idx", {"load"}),
        ("core/statistics/decisions", {"decide"}),
        ("core/data/splitting", {"load", "subset"}),
        ("core/data/background", {"preprocess"}),
        # Imported inside functions, so that a cached run never loads TensorFlow.
        ("core/networks/vgg16", {"vgg16_features", "vgg16_train", "vgg16_retrain", "evaluate"}),
        ("core/training/loop", {"train", "retrain", "vgg16_train", "vgg16_retrain", "evaluate"}),
        (
            "core/networks/stack",
            {"train", "retrain", "vgg16_train", "vgg16_retrain", "vgg16_features", "evaluate"},
        ),
        ("models/model_files", {"train", "retrain", "vgg16_train", "vgg16_retrain", "evaluate"}),
        ("sources/datasets", {"load"}),
        ("sources/fashion_mnist", {"load"}),
        ("sources/idx_files", {"load"}),
        ("sources/class_folders", {"load"}),
        ("core/data/photographs", {"load"}),
        ("sources/download", {"load", "vgg16_weights"}),
        ("stages/train", {"train"}),
        ("stages/evaluate", {"evaluate"}),
    ],
)
def test_a_helper_s_edit_changes_the_stages_that_import_it(
    tree: Tree, module: str, reached: set[str]
) -> None:
    tree.edit(f"tasks/{module}.py", with_statement)
    assert tree.changed() == reached


def test_an_edit_to_the_statistics_retrains_and_rescores_nothing(tree: Tree) -> None:
    for path in (tree.root / "tasks/core/statistics").glob("*.py"):
        tree.edit(str(path.relative_to(tree.root)), with_statement)
    trained = {"train", "retrain", "vgg16_features", "vgg16_train", "vgg16_retrain", "evaluate"}
    assert {"decide", "results"} <= tree.changed()
    assert not tree.changed() & trained


def test_any_number_in_a_helper_matters(tree: Tree) -> None:
    tree.edit("tasks/core/data/splitting.py", lambda text: text.replace("total // 6", "total // 5"))
    assert tree.changed() == {"load", "subset"}


@pytest.mark.parametrize(
    ("name", "old", "new", "reached"),
    [
        # Two imports away: train imports fit, which imports loop, which imports this.
        (
            "core/training/augment.py",
            "\n\n\ndef ",
            "\n\n\nEDITED = 1\n\n\ndef ",
            {"train", "retrain"},
        ),
        # A local variable's new name: it can't matter, but the syntax tree does not show that.
        ("core/data/splitting.py", "total", "in_all", {"subset"}),
        # A type's other name in the settings, whose values are in the key.
        ("core/settings/transfer.py", "Decay", "Falling", set()),
        # The report is written anew in every run.
        ("reporting/templates/report.html.j2", "<html", "<html data-edited", set()),
        ("reporting/templates/stage.md.j2", "purpose", "state", set()),
    ],
)
def test_small_edits_reach_what_they_may_change(
    tree: Tree, name: str, old: str, new: str, reached: set[str]
) -> None:
    assert old in (tree.root / "tasks" / name).read_text()
    tree.edit(f"tasks/{name}", lambda text: text.replace(old, new))
    assert reached <= tree.changed()
    assert bool(tree.changed()) == bool(reached)


def test_neutral_modules_do_not_matter(
    tree: Tree,
) -> None:
    neutral = [
        path.relative_to(tree.root)
        for path in (tree.root / "tasks").rglob("*.py")
        if is_neutral(".".join(path.relative_to(tree.root).with_suffix("").parts))
    ]
    assert {Path("tasks/storage/store.py"), Path("tasks/core/settings/base.py")} <= set(neutral)
    for path in neutral:
        tree.edit(str(path), with_statement)
    assert tree.changed() == set()


def test_the_flow_and_the_reporting_do_not_matter(tree: Tree) -> None:
    for name in ("tasks/stages/report.py", "tasks/reporting/page.py"):
        tree.edit(name, with_statement)
    for path in (tree.root / "flows").rglob("*.py"):
        tree.edit(str(path.relative_to(tree.root)), with_statement)
    assert tree.changed() == set()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """Fingerprints of `tasks.stage_x`, given its text, in a tree with `tasks/core/helper.py`."""
    (tmp_path / "tasks" / "core").mkdir(parents=True)
    for name in ("__init__", "core/__init__", "beside", "store"):
        (tmp_path / "tasks" / f"{name}.py").write_text("")
    (tmp_path / "tasks/core/helper.py").write_text("def f(): return 1\n")
    (tmp_path / "tasks/core/deeper.py").write_text("")
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)

    def fingerprinted(text: str) -> dict[str, str]:
        (tmp_path / "tasks" / "stage_x.py").write_text(text)
        fingerprint._parsed.cache_clear()
        return code_of("tasks.stage_x")

    return fingerprinted


@pytest.mark.parametrize(
    "text",
    [
        "import tasks.core.helper",
        "import tasks.core.helper as h",
        "import json, tasks.core.helper",
        "from tasks.core import helper",
        "from tasks.core import deeper, helper as h",
        "from tasks.core.helper import f",
        "from tasks.core.helper import f as g",
        "from tasks.core.helper import *",
        "def f():\n    from tasks.core import helper",
        "class A:\n    def f(self):\n        import tasks.core.helper",
        "async def f():\n    from tasks.core.helper import f",
        "if __debug__:\n    from tasks.core.helper import f",
        "try:\n    pass\nfinally:\n    from tasks.core.helper import f",
    ],
)
def test_all_forms_of_imports_are_followed(
    small: Callable[[str], dict[str, str]], tmp_path: Path, text: str
) -> None:
    before = small(text)
    assert {"tasks.stage_x", "tasks.core.helper"} <= set(before)
    (tmp_path / "tasks/core/helper.py").write_text("def f(): return 2\n")
    after = small(text)
    assert {name for name in after if after[name] != before[name]} == {"tasks.core.helper"}


def test_indirect_and_circular_imports_are_followed(
    small: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "tasks/core/helper.py").write_text("def f():\n    from tasks.core import deeper\n")
    (tmp_path / "tasks/core/deeper.py").write_text("from tasks.core import helper\n")
    found = small(
        "from tasks.core.helper import f\nimport tasks.storage.store, numpy, flows.nothing"
    )
    assert set(found) == {
        "tasks.stage_x",
        "tasks.core",
        "tasks.core.helper",
        "tasks.core.deeper",
    }


def test_packages_themselves_are_followed(
    small: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    before = small("from tasks import beside, core")
    assert set(before) == {"tasks", "tasks.core", "tasks.beside", "tasks.stage_x"}
    (tmp_path / "tasks/core/__init__.py").write_text("x = 1")
    after = small("from tasks import beside, core")
    assert {name for name in after if after[name] != before[name]} == {"tasks.core"}


def test_an_edit_after_the_key_was_made_is_noticed(tree: Tree) -> None:
    fingerprint._parsed.cache_clear()
    code = fingerprint.code_of("tasks.stages.load")
    assert fingerprint.changed_since(code) == []
    tree.edit("tasks/sources/datasets.py", lambda text: text + "\nADDED = 1\n")
    assert fingerprint.changed_since(code) == ["tasks.sources.datasets"]
    assert fingerprint.code_of("tasks.stages.load") == code, (
        "all keys of a run describe one state of the code"
    )


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """As in a process that has not read its code yet."""
    fingerprint._parsed.cache_clear()
    yield
    fingerprint._parsed.cache_clear()


@pytest.mark.usefixtures("_forgotten")
def test_code_is_remembered_as_it_was_when_first_read(tree: Tree) -> None:
    fingerprint.remember_code()
    for name in tree.sources():
        tree.edit(name, with_statement)
    for kind in KINDS:
        code = code_of(f"tasks.stages.{kind}")
        assert code == tree.before[kind]
        assert changed_since(code) == list(code)


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize(
    "name", ["tasks/stages/explore.py", "tasks/core/data/splitting.py", "tasks/storage/store.py"]
)
def test_a_syntax_error_is_reported_with_file_and_line(tree: Tree, name: str) -> None:
    tree.edit(name, lambda text: text + "\ndef broken(:\n")
    lines = (tree.root / name).read_text().splitlines()
    with pytest.raises(UserError, match=r"nothing can run") as refused:
        fingerprint.remember_code()
    assert str(refused.value).startswith(f"{tree.root / name}, line {len(lines)}: ")


@pytest.mark.usefixtures("_forgotten")
def test_a_syntax_error_in_a_helper_is_reported_when_a_key_needs_it(tree: Tree) -> None:
    tree.edit("tasks/core/data/fold_assignment.py", lambda text: f"(\n{text}")
    assert code_of("tasks.stages.load") == tree.before["load"]
    with pytest.raises(
        UserError, match=r"tasks/core/data/fold_assignment\.py, line \d+: .*nothing can run"
    ):
        code_of("tasks.stages.folds")


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize(
    "change", [lambda text: text + "\ndef broken(:\n", lambda _text: "if"], ids=["end", "all"]
)
def test_an_unfinished_edit_is_an_edit(tree: Tree, change: Callable[[str], str]) -> None:
    code = code_of("tasks.stages.subset")
    before = (tree.root / "tasks/core/data/splitting.py").read_text()
    tree.edit("tasks/core/data/splitting.py", change)
    assert changed_since(code) == ["tasks.core.data.splitting"]
    (tree.root / "tasks/core/data/splitting.py").unlink()
    assert changed_since(code) == ["tasks.core.data.splitting"]
    (tree.root / "tasks/core/data/splitting.py").write_text(before)
    assert changed_since(code) == []


EDITED_AFTER_IMPORT = """
import sys
from pathlib import Path
import flows.build_model as flow
assert Path(flow.__file__).is_relative_to(Path.cwd()), flow.__file__
from flows.recipe import stages
from flows.recipe.presets import SMOKE
from tasks.core.errors import StageError
from tasks.core.settings.run_settings import Settings
from tasks.engine.stage import RunContext

settings = Settings.model_validate(SMOKE.model_dump() | {"dataset": "synthetic"})
context = RunContext("store", "run-1", {}, 1)
edited = sys.argv[1:]
for name in edited:
    with open(name, "a") as file:
        file.write("\\nEDITED = 1\\n")
loaded = flow.load.fn(stages.load(settings), {}, context).data
try:
    flow.explore.fn(stages.explore(settings), {"raw": loaded}, context)
except StageError as error:
    print(error)
else:
    print("committed")
"""


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ([], "committed"),
        (["tasks/stages/results.py"], "committed"),
        (["tasks/stages/explore.py"], "tasks.stages.explore changed while explore was computed."),
    ],
    ids=["nothing", "another stage", "the stage"],
)
def test_code_that_was_edited_after_its_import_makes_no_record(
    tmp_path: Path, edited: list[str], said: str
) -> None:
    copied(SOURCE, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", EDITED_AFTER_IMPORT, *edited],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(said)
    records = {path.parts[-3] for path in (tmp_path / "store/stages").glob("*/*/record.json")}
    assert records == {"load"} | ({"explore"} if said == "committed" else set())
