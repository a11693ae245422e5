"""The rules that a reader relies on: who imports whom, who touches the disk, what is banned."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tasks.core.stage_specs import SPECS
from tasks.engine.fingerprint import is_neutral

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ("flows", "tasks")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for package in PROJECT
    for path in sorted((ROOT / package).rglob("*.py"))
}
CORE = [name for name in FILES if name.startswith("tasks.core")]
TASKS = [name for name in FILES if name.startswith("tasks") and name not in CORE]
FLOWS = [name for name in FILES if name.startswith("flows")]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def imported(module: str) -> set[str]:
    """Full names of what a module imports anywhere in it, `from a import b` as both a and a.b."""
    names = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively, which fingerprints do not follow"
            assert node.module
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def packages(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


def project_imports(module: str) -> set[str]:
    return {name for name in imported(module) if name in FILES}


@cache
def calls(module: str) -> list[tuple[str, ast.Call]]:
    """Each call in a module with the last part of the name that is called."""
    found = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                found.append((node.func.attr, node))
            elif isinstance(node.func, ast.Name):
                found.append((node.func.id, node))
    return found


def keyword(call: ast.Call, name: str) -> Any:
    """The constant given for a keyword, `...` for anything else, None where it is not given."""
    for item in call.keywords:
        if item.arg == name:
            return item.value.value if isinstance(item.value, ast.Constant) else ...
    return None


def place(module: str, node: ast.AST) -> str:
    return f"{FILES[module].relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"


def test_the_files_are_found() -> None:
    assert {"flows.build_model", "tasks.stages.train", "tasks.core.data.splitting", "tasks"} <= set(
        FILES
    )


def stage_kinds() -> set[str]:
    """The kinds of stages that have a spec."""
    return {spec.kind for spec in SPECS}


# Direction

# From the top to the bottom: a package imports itself and what is below it. Packages on one level
# do not import each other.
LEVELS = (
    ("flows",),
    ("tasks.stages",),
    ("tasks.models",),
    ("tasks.engine",),
    ("tasks.sources", "tasks.reporting"),
    ("tasks.storage",),
    ("tasks.core",),
)


def level(module: str) -> tuple[int, str]:
    """The level of a module's package, from the top, and the package."""
    for number, names in enumerate(LEVELS):
        for name in names:
            if module == name or module.startswith(f"{name}."):
                return number, name
    raise AssertionError(f"{module} belongs to no package: see docs/architecture.md")


@pytest.mark.parametrize("module", [name for name in FILES if name != "tasks"])
def test_imports_go_down_only(module: str) -> None:
    mine, package = level(module)
    for other in project_imports(module) - {"tasks"}:
        its, where = level(other)
        assert its > mine or where == package, f"{module} imports {other}"


def test_no_import_goes_round_in_a_circle() -> None:
    # Imports for type checkers count too: a circle is a circle for whoever reads the code.
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(project_imports(module)):
                visit(other, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


# What may lie in `flows/` and `tasks/` themselves; everything else is in a package.
ENTRIES = {"flows", "flows.__main__", "flows.build_model", "tasks"}


def test_every_module_is_in_a_package() -> None:
    flat = {name for name in FILES if name.count(".") < 2 and FILES[name].name != "__init__.py"}
    assert flat | {"flows", "tasks"} == ENTRIES


# Size

LONGEST_FILE, LONGEST_FUNCTION = 400, 45
# At most one.
LONG_FILES: dict[str, str] = {}
# At most four, each with its reason.
LONG_FUNCTIONS: dict[str, str] = {}


def functions(module: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(module)) if isinstance(node, kinds)]


def test_files_fit_in_the_head() -> None:
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()
    }
    assert {name for name, length in lengths.items() if length > LONGEST_FILE} == set(LONG_FILES)
    assert len(LONG_FILES) <= 1


def test_functions_fit_on_a_screen() -> None:
    found = {
        f"{module}.{node.name}"
        for module in FILES
        for node in functions(module)
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert found == set(LONG_FUNCTIONS)
    assert len(LONG_FUNCTIONS) <= 4


DYNAMIC = {"importlib", "imp", "runpy", "pkgutil"}


@pytest.mark.parametrize("module", FILES)
def test_nothing_imports_in_ways_that_fingerprints_cannot_follow(module: str) -> None:
    dynamic = {name for name in imported(module) if name.partition(".")[0] in DYNAMIC}
    # Of installed packages only what is written about them.
    dynamic = {name for name in dynamic if not name.startswith("importlib.metadata")}
    assert dynamic <= {"importlib.util", "importlib.util.find_spec"}
    assert module in RUNS_TEXT or "__import__" not in {name for name, _ in calls(module)}


@pytest.mark.parametrize("kind", sorted(stage_kinds()))
def test_what_fingerprints_leave_out_leads_only_to_what_they_leave_out(kind: str) -> None:
    seen: set[str] = set()
    pending = [f"tasks.stages.{kind}"]
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        pending += project_imports(module)
        if is_neutral(module):
            others = {name for name in project_imports(module) if not is_neutral(name)}
            # A package holds nothing but a docstring.
            assert all(FILES[name].name == "__init__.py" for name in others), module


@pytest.mark.parametrize(
    "package", [name for name, path in FILES.items() if path.name == "__init__.py"]
)
def test_packages_hold_nothing_but_a_docstring(package: str) -> None:
    assert len(tree(package).body) == 1
    assert ast.get_docstring(tree(package))


# The core

# The pipeline that prepares batches, and operations that Keras does not offer.
USES_TENSORFLOW = {"tasks.core.training.loop", "tasks.core.networks.fast_layers"}
PURE = {
    "PIL",
    "__future__",
    "collections",
    # Of threads, which read ahead.
    "concurrent",
    "contextlib",
    "dataclasses",
    "difflib",
    "enum",
    "faiss",
    # Of functions, of which arguments they take.
    "inspect",
    "functools",
    "hashlib",
    "io",
    "itertools",
    "json",
    "keras",
    "math",
    "matplotlib",
    "numpy",
    "pyarrow",
    "pydantic",
    "re",
    "scipy",
    "struct",
    "tasks",
    "textwrap",
    "typing",
    "unicodedata",
}
TOUCHES_THE_WORLD = {
    "open",
    "print",
    "input",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
    "fromfile",
    "genfromtxt",
    "get_file",
    "load",
    "load_data",
    "load_model",
    "load_weights",
    "loadtxt",
    "memmap",
    "save",
    "save_model",
    "save_weights",
    "savetxt",
    "savez",
    "savez_compressed",
    "tofile",
}


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_neither_prefect_nor_disk_nor_network_nor_clock(module: str) -> None:
    allowed = PURE | ({"tensorflow"} if module in USES_TENSORFLOW else set())
    assert packages(module) <= allowed, "add what is harmless to PURE"


@pytest.mark.parametrize("module", CORE)
def test_the_core_reads_and_writes_nothing(module: str) -> None:
    found = [place(module, call) for name, call in calls(module) if name in TOUCHES_THE_WORLD]
    assert found == []


@pytest.mark.parametrize("module", CORE)
def test_the_core_keeps_no_state_of_its_own(module: str) -> None:
    found = [place(module, n) for n in ast.walk(tree(module)) if isinstance(n, ast.Global)]
    assert found == []


SEEDED = {"default_rng", "SeedSequence", "Generator"}


@pytest.mark.parametrize("module", FILES)
def test_nothing_draws_from_global_random_state(module: str) -> None:
    assert "random" not in packages(module)
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(
            ("np.random", "tf.random")
        ):
            assert node.attr in SEEDED, place(module, node)
    assert not {"set_random_seed", "RandomState"} & {name for name, _ in calls(module)}


# What runs code that data bring


@pytest.mark.parametrize("module", FILES)
def test_no_pickles(module: str) -> None:
    banned = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert not packages(module) & banned
    for name, call in calls(module):
        given = keyword(call, "allow_pickle")
        assert given in (None, False), place(module, call)
        if ast.unparse(call.func) in ("np.load", "np.savez", "np.save", "np.savez_compressed"):
            assert given is False, f"{place(module, call)}: say allow_pickle=False"
        assert name not in ("to_pickle", "read_pickle"), place(module, call)


@pytest.mark.parametrize("module", FILES)
def test_models_are_loaded_without_their_code(module: str) -> None:
    for name, call in calls(module):
        assert keyword(call, "safe_mode") in (None, True), place(module, call)
        if name == "load_model":
            assert keyword(call, "safe_mode") is True, place(module, call)
        assert name not in ("enable_unsafe_deserialization", "Lambda"), place(module, call)


# At most one, with its reason.
RUNS_TEXT = {"tasks.models.own_modules": "the function of a user's own network"}


@pytest.mark.parametrize("module", FILES)
def test_no_text_becomes_code(module: str) -> None:
    assert len(RUNS_TEXT) <= 1
    for name, call in calls(module):
        plain = isinstance(call.func, ast.Name) and module not in RUNS_TEXT
        assert not (plain and name in ("eval", "exec", "compile")), place(module, call)
        assert keyword(call, "shell") in (None, False), place(module, call)
        assert name not in ("system", "popen"), place(module, call)


# Who writes files

WRITERS = {
    "tasks.storage.files": "every atomic write of a local file",
    "tasks.storage.local_path": "lines of logs, and removals of folders",
    "tasks.storage.locks": "the files of locks",
    "tasks.storage.store": "the folders of stages",
    "tasks.storage.exchange": "the files of stages, at temporary paths",
    "tasks.storage.checkpoints": "the states of a training, removed once its result is there",
    "tasks.storage.run_log": "the run's log, line by line",
    "tasks.storage.cleaning": "removals of what no kept run needs",
    "tasks.storage.npz": "members of the archives that the store hands out",
    "tasks.storage.object_cache": "files that this machine keeps of a bucket",
    "tasks.storage.s3": "objects in a bucket",
    "tasks.storage.s3_object": "objects that are fetched to temporary files",
    "tasks.storage.s3_trials": "objects with which a bucket is tried, removed at once",
    "tasks.sources.archives": "the members of archives, in a temporary folder",
    "tasks.sources.remote": "the objects of data sets in a bucket, in a temporary folder",
    "tasks.sources.download": "raw data outside the store, by a temporary file and a rename",
    "tasks.models.prediction_files": "predictions where the user wants them, by atomic writes",
    "tasks.models.model_files": "models at the temporary paths that the store hands out",
    "flows.running.prefect_home": "Prefect's folder",
    "flows.running.ui_server": "the address and log of the UI's server, in Prefect's folder",
}
CHANGES_FILES = {
    "write_text",
    "write_bytes",
    "mkdir",
    "makedirs",
    "mkdtemp",
    "mkstemp",
    "NamedTemporaryFile",
    "unlink",
    "rmtree",
    "remove_file",
    "rename",
    "touch",
    "symlink_to",
    "copyfile",
    "copytree",
    "move",
    "savefig",
    "savez",
    "savez_compressed",
    "tofile",
    "write_table",
    "to_parquet",
    "to_csv",
    "writestr",
}


def changes_files(name: str, call: ast.Call) -> bool:
    if name == "open":
        modes = [item.value for item in call.args if isinstance(item, ast.Constant)]
        modes.append(keyword(call, "mode"))
        flags = ast.unparse(call)
        return "O_CREAT" in flags or any(
            isinstance(mode, str) and len(mode) < 4 and set(mode) & set("wax+") for mode in modes
        )
    if name == "replace":
        # `Path.replace(target)`; `str.replace` takes two and `dataclasses.replace` is no method.
        return isinstance(call.func, ast.Attribute) and len(call.args) == 1 and not call.keywords
    return name in CHANGES_FILES


def writers() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for module in FILES:
        for name, call in calls(module):
            if changes_files(name, call):
                found.setdefault(module, []).append(place(module, call))
    return found


def test_few_modules_write_files() -> None:
    found = writers()
    assert {module: places for module, places in found.items() if module not in WRITERS} == {}
    assert set(WRITERS) == set(found), "a reason without a writer"


def test_the_search_for_writers_finds_what_it_should() -> None:
    def found(text: str) -> list[bool]:
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        names = [ast.unparse(node.func).rpartition(".")[2] for node in nodes]
        return [changes_files(name, node) for name, node in zip(names, nodes, strict=True)]

    for writes in ("open(p, 'w')", "p.open('ab')", "p.open(mode='x')", "os.open(p, os.O_CREAT)"):
        assert found(writes) == [True]
    for writes in ("a.replace(b)", "p.unlink()", "p.write_text('x')", "pq.write_table(t, p)"):
        assert found(writes) == [True]
    for reads in ("open(p)", "p.open('rb')", "s.replace('a', 'b')", "replace(a, b=1)"):
        assert found(reads) == [False]


# The flow

RECIPE = [
    "flows.build_model",
    "flows.recipe.contents",
    "flows.recipe.backbone",
    "flows.recipe.iterate",
    "flows.recipe.transfer",
    "flows.recipe.stages",
]
COMPUTES = {"numpy", "keras", "tensorflow", "pandas", "pyarrow", "matplotlib", "h5py"}


# What describes and computes nothing.
RECIPE_CORE = (
    "tasks.core.arithmetic",
    "tasks.core.transfer_specs",
    "tasks.core.errors",
    "tasks.core.names",
    "tasks.core.records",
    "tasks.core.seal",
    "tasks.core.settings",
    "tasks.core.stage_spec",
    "tasks.core.statistics.multiple_testing",
    "tasks.core.statistics.replicates",
    "tasks.core.networks.vgg16_layout",
)


@pytest.mark.parametrize("module", RECIPE)
def test_the_recipe_computes_nothing(module: str) -> None:
    assert not packages(module) & COMPUTES
    core = {name for name in project_imports(module) if name.startswith("tasks.core.")}
    assert core - {name for name in core if FILES[name].name == "__init__.py"} <= {
        name for name in FILES if name.startswith(RECIPE_CORE)
    }
    arithmetic = (ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult, ast.Sub)
    for node in ast.walk(tree(module)):
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, arithmetic)), place(
            module, node
        )


@pytest.mark.parametrize("module", FLOWS)
def test_flows_import_nothing_that_computes(module: str) -> None:
    assert not packages(module) & COMPUTES


def at_import(module: str) -> set[str]:
    """Packages that a module imports when it is imported itself."""
    found = set()
    for node in tree(module).body:
        for item in ast.walk(node) if not isinstance(node, ast.FunctionDef | ast.If) else ():
            if isinstance(item, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in item.names}
            elif isinstance(item, ast.ImportFrom) and item.module:
                found.add(item.module.partition(".")[0])
    return found


def stage_tasks(module: str) -> set[str]:
    """Functions of a module that are decorated with `stage_task`."""
    return {
        node.name
        for node in tree(module).body
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "stage_task"
    }


def test_there_are_kinds() -> None:
    assert {"load", "train", "decide", "evaluate", "results"} <= stage_kinds()


@pytest.mark.parametrize("kind", sorted(stage_kinds()))
def test_each_kind_of_stage_has_a_task_in_a_module_of_its_name(kind: str) -> None:
    assert stage_tasks(f"tasks.stages.{kind}") == {kind}
    # So that a run whose stages are all cached never loads TensorFlow.
    assert not at_import(f"tasks.stages.{kind}") & {"keras", "tensorflow"}


def test_no_task_is_without_a_stage() -> None:
    assert {name for module in TASKS for name in stage_tasks(module)} == stage_kinds()


def test_the_flow_knows_each_task() -> None:
    (table,) = (
        node.value
        for node in tree("flows.build_model").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TASKS"
    )
    listed = {node.id for node in ast.walk(table) if isinstance(node, ast.Name)}
    assert stage_kinds() <= listed
    imports = imported("flows.build_model")
    assert {f"tasks.stages.{kind}.{kind}" for kind in stage_kinds()} <= imports
