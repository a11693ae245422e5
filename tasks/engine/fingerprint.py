"""Fingerprints of the code behind a stage. Comments, docstrings and layout do not count."""

from __future__ import annotations

import ast
import hashlib
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.core.errors import StageError, UserError
from tasks.core.messages import first_line, listed

_parser_lock = threading.Lock()

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tasks", "flows")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# Packages and modules that do not affect results. Instead of the store's code, a key contains a
# format version; instead of the code of settings, their values; instead of the code that chooses
# fonts, their digests.
NEUTRAL = (
    "tasks.engine",
    "tasks.storage",
    "tasks.reporting",
    "tasks.sources.fonts",
    "tasks.core.settings",
    "tasks.core.characters",
    "tasks.core.training.progress",
    "tasks.core.own_code",
    "tasks.core.records",
    "tasks.core.names",
    "tasks.core.arithmetic",
    "tasks.sources.keras_home",
    "tasks.core.seal",
    "tasks.core.stage_spec",
    "tasks.core.stage_specs",
    "tasks.core.transfer_specs",
    "tasks.core.errors",
    "tasks.core.messages",
)


def is_neutral(module: str) -> bool:
    """Whether fingerprints leave out a module and everything that only it imports."""
    return any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


def code_of(module: str) -> dict[str, str]:
    """Digests of `module` and of every project module that it imports, directly or indirectly.

    Imports inside functions are followed, too. A digest is the SHA-256 of the syntax tree without
    docstrings: comments, docstrings and layout do not change it, any other edit does.
    """
    return {name: parsed.digest for name, parsed in _modules_of(module).items()}


@cache
def libraries_of(module: str) -> tuple[str, ...]:
    """The packages outside the project that `module` imports, directly or by `code_of`'s modules.

    Imports inside functions count, too; the standard library does not.
    """
    found = _modules_of(module).values()
    return tuple(sorted({name for parsed in found for name in parsed.libraries}))


def _modules_of(module: str) -> dict[str, _Module]:
    """`module` and the project modules that it imports, directly or indirectly, by name."""
    found: dict[str, _Module] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found or is_neutral(name):
            continue
        found[name] = _parsed(_source(name))
        pending.extend(found[name].imports)
    return dict(sorted(found.items()))


def changed_since(code: Mapping[str, str]) -> list[str]:
    """The modules that were edited since `code_of` made their digests."""
    return [name for name, digest in code.items() if _digest_now(_source(name)) != digest]


def remember_code() -> None:
    """Take the digests of all modules in `tasks`; call this before any of them is imported.

    If a module were edited between its import and its first digest, nobody would notice. An edit
    between digest and import is noticed by `changed_since`.
    """
    for path in sorted((ROOT / "tasks").rglob("*.py")):
        _parsed(path)


def code_digest() -> str:
    """One digest of all modules in `tasks`, as this process first read them."""
    remember_code()
    paths = sorted((ROOT / "tasks").rglob("*.py"))
    lines = [f"{path.relative_to(ROOT)} {_parsed(path).digest}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def refuse_edits(stage: str, code: Mapping[str, str]) -> None:
    """Refuse a stage's result if its code differs from the code in its key.

    Raises:
        StageError: the code was edited after the key was computed.
    """
    edited = changed_since(code)
    if edited:
        raise StageError(
            f"{listed(edited)} changed while {stage} was computed. It is unclear which code "
            "produced the result, so it is not stored; start the run again."
        )


def _digest_now(path: Path) -> str | None:
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    known = _parsed(path)
    if known.text == text:
        return known.digest
    try:
        return _parse(path, text).digest
    except UserError:  # an unfinished edit, too, is an edit
        return None


def _source(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@dataclass(frozen=True)
class _Module:
    text: str
    digest: str
    imports: tuple[str, ...]
    libraries: tuple[str, ...]


@cache
def _parsed(path: Path) -> _Module:
    return _parse(path, path.read_text(encoding="utf-8"))


def syntax_tree(path: Path, text: str) -> ast.Module:
    """The syntax tree of a module.

    Raises:
        UserError: it is not valid Python.
    """
    try:
        # Python 3.11's parser counts its recursion depth for all threads together.
        with _parser_lock:
            return ast.parse(text, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        found = error if isinstance(error, SyntaxError) else None
        where = f"{path}, line {found.lineno}" if found else f"{path}"
        raise UserError(
            f"{where}: {found.msg if found else first_line(error)}. This is not valid Python, so "
            "nothing can run; correct it first."
        ) from None


def tree_digest(tree: ast.Module) -> str:
    """The SHA-256 of a syntax tree without docstrings."""
    return _digest(_dumped(tree, set()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(path: Path, text: str) -> _Module:
    imports: set[str] = set()
    digest = _digest(_dumped(syntax_tree(path, text), imports))
    roots = {name.split(".")[0] for name in imports}
    return _Module(
        text,
        digest,
        tuple(sorted(name for name in imports if _is_ours(name))),
        tuple(sorted(roots - sys.stdlib_module_names - {*PACKAGES})),
    )


def _dumped(node: object, imports: set[str]) -> str:
    """A syntax tree as text, without docstrings; adds the modules that it imports to `imports`.

    Empty fields are left out, so the text is the same in all versions of Python. A single walk
    through the tree does both, because every start of the program waits for it.
    """
    if isinstance(node, ast.AST):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _imported(node)
        parts = []
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(node, DOCUMENTED):
                value = _without_docstring(node.body)
            if value is not None and value != []:
                parts.append(f"{name}={_dumped(value, imports)}")
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join([_dumped(item, imports) for item in node])}]"
    return repr(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *others]:
            return others or [ast.Pass()]
    return body


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not node.module or node.level:
        return set()
    return {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES and _source(name).is_file()
