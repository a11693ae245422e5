"""Executes the code of a user's own network from the texts that a stage carries.

The modules live as long as one network is built: they are not found on Python's path, and two
functions whose local modules have the same names don't meet. Nothing but local modules is
replaced; all else is imported as usual.
"""

from __future__ import annotations

import builtins
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from tasks.core.errors import FashionFlowError, UserError
from tasks.core.messages import first_line, shortened
from tasks.core.own_code import OwnCode

Build = Callable[..., Any]


def own_function(code: OwnCode) -> Build:
    """The function of a user's own network; each call executes its modules anew.

    What goes wrong in them becomes a `UserError` that names file and line.
    """

    def build(*arguments: Any, **options: Any) -> Any:
        modules = _Modules(code)
        try:
            function = getattr(modules.load(code.module), code.function, None)
            if not callable(function):
                raise UserError(
                    f"{code.files[code.module]}: {code.function} is no function "
                    f"({type(function).__name__}); name a function in network.function."
                )
            return function(*arguments, **options)
        except FashionFlowError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(_explained(error, code)) from None
        finally:
            modules.forget()

    return build


def _explained(error: BaseException, code: OwnCode) -> str:
    """What went wrong in a user's code, with the last of its lines that took part."""
    files = {_file(code, name) for name in code.files}
    frames = [
        found for found in traceback.extract_tb(error.__traceback__) if found.filename in files
    ]
    file = code.files[code.module]
    where = file
    if frames:
        where = f"{frames[-1].filename.removeprefix(_MARK)}, line {frames[-1].lineno}"
    what = shortened(f"{type(error).__name__}: {first_line(error, 160)}", 200)
    return (
        f"{where}: {what}. It was raised when {code.function} built the network; correct it, or "
        "network.options."
    )


# So that no other file has the same name in a traceback.
_MARK = "your own code: "


def _file(code: OwnCode, module: str) -> str:
    return f"{_MARK}{code.files[module]}"


class _Modules:
    """The modules of one call, and how they import each other."""

    def __init__(self, code: OwnCode) -> None:
        self._code = code
        self._loaded: dict[str, ModuleType] = {}
        # Names of the whole process, under which decorators such as `dataclass` look modules up.
        self._prefix = f"fashion_flow_own_{id(self)}"
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str) -> ModuleType:
        """A module of the code, executed if it was not yet."""
        if name in self._loaded:
            return self._loaded[name]
        module = self._loaded[name] = ModuleType(f"{self._prefix}.{name}")
        sys.modules[module.__name__] = module
        values = vars(module)
        package = name if name in self._code.packages else name.rpartition(".")[0]
        values |= {"__builtins__": self._builtins, "__package__": package}
        text = self._code.sources[name]
        # The user's own network is code, and nothing else is executed.
        compiled = compile(text, _file(self._code, name), "exec", dont_inherit=True)
        exec(compiled, values)  # noqa: S102
        return module

    def forget(self) -> None:
        """Remove the modules' names from the process."""
        for module in self._loaded.values():
            sys.modules.pop(module.__name__, None)

    def _import(
        self,
        name: str,
        globals_: Mapping[str, Any] | None = None,
        locals_: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """What an `import` statement calls, see `__import__`."""
        if level:
            parts = str((globals_ or {}).get("__package__", "")).split(".")
            base = parts[: len(parts) - level + 1]
            name = ".".join([*base, *([name] if name else [])])
        top = name.partition(".")[0]
        if top not in self._code.sources:
            return builtins.__import__(name, globals_, locals_, fromlist or (), 0)
        module = self._chain(name)
        if not fromlist:
            return self._loaded[top]
        for item in fromlist:
            if f"{name}.{item}" in self._code.sources:
                self._chain(f"{name}.{item}")
        return module

    def _chain(self, name: str) -> ModuleType:
        """A local module, after the packages that it is in."""
        if name not in self._code.sources:
            raise ModuleNotFoundError(f"No module named {name!r} beside your own code")
        parent, _, last = name.rpartition(".")
        package = self._chain(parent) if parent in self._code.sources else None
        module = self.load(name)
        if package is not None:
            setattr(package, last, module)
        return module
