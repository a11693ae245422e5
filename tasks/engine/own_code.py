"""Reads the code of a user's own network: its module and the local ones that it imports.

The modules are read when a run begins, and stages execute these texts (tasks/models/own_modules.py)
wherever they run. So the key describes what was executed, and an edit affects the next run only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed, quoted
from tasks.core.own_code import ITSELF, OwnCode
from tasks.core.settings.network import function_parts
from tasks.engine.fingerprint import PACKAGES, syntax_tree, tree_digest

# Far above what a person writes for a network.
_MOST_BYTES = 2**20
_MOST_MODULES = 200
# With these, code comes from where a key can't follow.
_DYNAMIC_MODULES = {"importlib", "imp", "runpy", "pkgutil"}
_DYNAMIC_CALLS = {"__import__", "exec", "eval"}
# The arguments that each function is called with.
_GIVEN = ("input_shape", "classes")


def read_code(function: str) -> OwnCode:
    """Read the function's module and the local modules that it imports, directly or indirectly.

    Local are the modules in the folder of `FILE.py`, or those of the package of
    `package.module`. Nothing is executed.

    Args:
        function: as in `network.function`; a relative file is below the working folder.

    Raises:
        UserError: a file is missing, too large or not Python, there is no such function, or code is
            imported in ways that can't be followed.
    """
    place, name = function_parts(function)
    root, module, scope = _found(place)
    reader = _Reader(root, scope)
    tree = reader.read(module)
    _check_defined(tree, name, reader.files[module])
    digests = {ITSELF if key == module else key: value for key, value in reader.digests.items()}
    return OwnCode(
        name,
        module,
        reader.sources,
        reader.files,
        frozenset(reader.packages),
        digests,
        tuple(sorted(reader.libraries)),
    )


def file_of(function: str) -> Path:
    """The file that has the function; that of a module exists.

    Raises:
        UserError: there is no such module, or no such home folder.
    """
    place, _ = function_parts(function)
    if place.endswith(".py"):
        return _absolute(place)
    root, module, _ = _found(place)
    source = _source(root, module)
    assert source is not None
    return source


def files_of(function: str) -> Iterator[Path]:
    """The files whose code `read_code` reads; the function's own is first and may be missing.

    Nothing but that one's path is looked at before it is asked for the next.

    Raises:
        UserError: the code can't be read.
    """
    file = file_of(function)
    yield file
    if file.is_file():
        root, _, _ = _found(function_parts(function)[0])
        yield from filter(Path.is_file, map(root.joinpath, read_code(function).files.values()))


def check_call(code: OwnCode, options: Collection[str]) -> None:
    """Check that the function takes its arguments, as far as its definition shows.

    Raises:
        UserError: it lacks an argument, or needs one that is not given.
    """
    file = code.files[code.module]
    taken = [name for name in options if name in _GIVEN]
    if taken:
        raise UserError(f"network.options: {listed(taken)} is given anyway; choose another name.")
    found = _definition(syntax_tree(Path(file), code.sources[code.module]), code.function)
    if not isinstance(found, ast.FunctionDef) or found.decorator_list:
        return
    arguments = found.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    # The first two are given by position.
    named = {each.arg for each in (*arguments.args, *arguments.kwonlyargs)} - {*positional[:2]}
    unknown = [] if arguments.kwarg else sorted({*options} - named)
    needed = positional[2 : len(positional) - len(arguments.defaults)]
    needed += [
        each.arg
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    missing = [each for each in needed if each not in options]
    where = f"{file}, line {found.lineno}: {code.function}"
    if len(positional) < len(_GIVEN) and not arguments.vararg:
        raise UserError(f"{where} is called with (input_shape, classes, **options); add both.")
    if unknown:
        raise UserError(
            f"{where} has no argument {listed(unknown)}; take it, or remove it from "
            "network.options."
        )
    if missing:
        raise UserError(f"{where} needs {listed(missing)}; give it in network.options.")


def _found(place: str) -> tuple[Path, str, str]:
    """The common folder of the modules, the module's name, and the package that is local.

    The package is empty if all that is in the folder is local.
    """
    if place.endswith(".py"):
        path = _absolute(place)
        if not path.is_file():
            raise UserError(
                f"network.function: there is no file {quoted(str(path), 150)}; expected "
                "FILE.py:FUNCTION. A path is relative to the working folder, in a plan to its "
                "folder."
            )
        if "." in path.stem:
            raise UserError(f"network.function: {path.name} has a dot in its name; rename it.")
        return path.parent, path.stem, ""
    top = place.partition(".")[0]
    for folder in map(Path, dict.fromkeys(sys.path)):
        source = _source(folder, place)
        if source is not None and source.suffix == ".py":
            return folder.absolute(), place, top
    raise UserError(
        f"network.function: there is no module {quoted(place)} on Python's path (PYTHONPATH); "
        "expected package.module:FUNCTION, or FILE.py:FUNCTION."
    )


def _absolute(place: str) -> Path:
    """The absolute path of `FILE.py`; `~` is a home folder."""
    try:
        return Path(place).expanduser().absolute()
    except RuntimeError:
        raise UserError(
            f"network.function: {quoted(place, 150)} is in the home folder of an unknown user; "
            "give an absolute path."
        ) from None


def _source(root: Path, name: str) -> Path | None:
    """The file of a module; a folder with modules but without `__init__.py`; or None."""
    path = root.joinpath(*name.split("."))
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    return path if path.is_dir() and any(path.glob("*.py")) else None


@dataclass
class _Reader:
    """Reads modules below `root`: those of the package `scope`, or all if that is empty."""

    root: Path
    scope: str
    sources: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)

    def read(self, module: str) -> ast.Module:
        """Read a module and all that it imports; return its syntax tree."""
        trees: dict[str, ast.Module] = {}
        # A module's packages are imported before it.
        pending = [*_parents(module), module] if self.scope else [module]
        while pending:
            name = pending.pop()
            if name in trees:
                continue
            if len(trees) == _MOST_MODULES:
                raise UserError(
                    f"network.function imports more than {_MOST_MODULES} local modules; put it "
                    "into a folder of its own."
                )
            trees[name] = self._read_one(name)
            for imported in self._imports(trees[name], name):
                pending += self._local(imported, name)
        return trees[module]

    def _read_one(self, name: str) -> ast.Module:
        source = _source(self.root, name)
        assert source is not None
        self.files[name] = source.relative_to(self.root).as_posix()
        if source.suffix != ".py":
            self.packages.add(name)
            self.sources[name] = ""
        else:
            self.sources[name] = _text(source)
            if source.name == "__init__.py":
                self.packages.add(name)
        tree = syntax_tree(Path(self.files[name]), self.sources[name])
        self.digests[name] = tree_digest(tree)
        return tree

    def _imports(self, tree: ast.Module, name: str) -> Iterator[str]:
        """The full names of what a module imports anywhere; `from a import b` as a and a.b."""
        where = self.files[name]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node, name)
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in _DYNAMIC_CALLS
            ):
                raise UserError(
                    f"{where}, line {node.lineno}: {node.func.id} runs code that the key can't "
                    "cover; use `import`."
                )

    def _base(self, node: ast.ImportFrom, name: str) -> str:
        """The module from which `from ... import` imports."""
        if not node.level:
            return node.module or ""
        parts = name.split(".")
        kept = len(parts) - node.level + (name in self.packages)
        if kept < 1:
            raise UserError(
                f"{self.files[name]}, line {node.lineno}: a relative import, but the file is in no "
                "package; import by name, or give package.module:FUNCTION."
            )
        return ".".join([*parts[:kept], *([node.module] if node.module else [])])

    def _local(self, imported: str, by: str) -> list[str]:
        """The local modules that an import needs; another package becomes a library."""
        top = imported.partition(".")[0]
        if top in _DYNAMIC_MODULES or top in PACKAGES:
            reason = "the program's own code" if top in PACKAGES else "code that can't be followed"
            raise UserError(
                f"{self.files[by]} imports {top}, which is {reason}; copy what you need beside it."
            )
        if self._is_local(top):
            names = [*_parents(imported), imported]
            return [name for name in names if _source(self.root, name) is not None]
        if top not in sys.stdlib_module_names:
            self.libraries.add(top)
        return []

    def _is_local(self, top: str) -> bool:
        if top in sys.builtin_module_names or self.scope not in ("", top):
            return False
        source = _source(self.root, top)
        if source is None or source.suffix == ".py":
            return source is not None
        # A folder without `__init__.py` comes last on Python's path, too.
        spec = None if top in sys.stdlib_module_names else find_spec(top)
        return top not in sys.stdlib_module_names and (spec is None or spec.origin is None)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES} bytes; expected Python code.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} can't be read ({first_line(error)}); expected Python code in UTF-8."
        ) from None


def _definition(tree: ast.Module, name: str) -> Any:
    """The last statement at the top level of a module that may define a name; None if none does."""
    found = None
    for node in tree.body:
        if name in _defined(node):
            found = node
    return found


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement defines, also below an `if`, `try` or `with`."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return {
        name
        for item in ast.walk(node)
        for name in (
            (item.id,)
            if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
            else _defined(item)
            if item is not node and isinstance(item, ast.stmt)
            else ()
        )
    }


def _check_defined(tree: ast.Module, name: str, file: str) -> None:
    if _definition(tree, name) is None and _definition(tree, "*") is None:
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        known = f"it has {listed(functions)}" if functions else "it has none"
        raise UserError(
            f"network.function: {file} has no function {quoted(name)}; {known}. Name one after "
            "the colon."
        )
