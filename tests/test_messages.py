"""Every message of the program: short enough for a terminal, and it says what to do.

The messages are found in the syntax trees of all modules, so that new ones are held to the same
rules. Those that depend on what users give are provoked in tests/flows/cli/test_messages.py.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import signature
from types import ModuleType
from typing import Any

import pytest

from tasks.core import errors, messages
from tests.test_architecture import FILES, keyword, place, tree

ERRORS = {name for name in vars(errors) if name.endswith("Error")}
# In other modules, a ValueError is a mistake of the program and not of its user.
VALIDATORS = ("tasks.core.settings.", "flows.runners.base", "flows.cli.common_options")
# Which argument of which other call is a message.
SHOWN = {"fail": 0, "warn": 0, "Unreadable": 1, "_skip": 1}
LOGGED = {"warning", "error"}
# Helpers that limit what they return, with the room that they add for words like "and 3 more".
LIMITED = {"listed": 15, "quoted": 0, "first_line": 0, "shortened": 0}
# The lengths of placeholders: of what is a path or an address, and of others.
LONG, SHORT = 70, 16
LONG_NAMES = re.compile(
    r"path|folder|origin|where|destination|url|address|root|file|self$|store|bucket|given|worker"
)
# Our own message inside another one.
NESTED = 150

SAYS = re.compile(
    r"""\b(expected|must|did\ you)\b
    | \bneeds?\ (?:--|one\b|at\ least\b) | \bis\ only\ (?:for|allowed)\b
    | (?:^|[;.:,(]\ |\b(?:or|and|to|then|it,)\ )
      (add|ask|check|choose|close|compare|convert|copy|correct|create|delete|fetch|get|give|install|
       leave|lower|make|move|name|open|put|raise|remove|rename|restart|run|save|see|set|shuffle|
       start|stop|train|try|unset|use|wait|write)\b
    | \bits\ log\ is\b""",
    re.IGNORECASE | re.VERBOSE,
)
# Messages that need not say what to do, by the beginning of their text.
SAYS_NOTHING = {
    "All results are kept, since it is not known which a run uses: \0": "the doubt says it",
    "no stage \0 in this run; \0": "the hint names similar stages, or how to list them",
    "lost the worker %s; other workers take over: %s": "there is nothing to do",
    "the worker \0: \0": "the worker's own message says it",
    "%s The stage will be retried shortly.": "there is nothing to do",
    "\0 was skipped": "the reason of the first skipped stage says it",
    "%s: recomputed; its bytes differ from the stored ones": "the user asked for the comparison",
    "The runs were computed under different execution profiles, so equal settings may give other "
    "last digits. The second has \0.": "it says how to read the differences",
    "\0: Prefect can't read its settings (\0); \0.": "the advice is in `_unreadable`",
    "the Prefect server \0 \0. It is named by \0.": "the problem says it",
    "%s; downloading it again": "there is nothing to do",
    "%s ignores %s, which %s": "an earlier state is used: there is nothing to do",
    "%s: figures have numbers for names. %s": "the advice is which font to install",
    "\0 \0 can't be \0: \0": "the advice is in LASTING and PASSING",
    "none of \0 images can be read; replace them. The first, \0, \0": "said before the reason",
    "the \0 split of \0 \0 has none of \0; \0.": "the advice follows, from the callers",
}


@dataclass
class Message:
    """A message with a mark for each part that varies, its greatest length, what has no limit."""

    place: str
    text: str = ""
    length: int = 0
    unlimited: list[str] = field(default_factory=list)
    foreign: frozenset[str] = frozenset()

    def add(self, text: str, length: int | None = None) -> None:
        self.text += text
        self.length += len(text) if length is None else length


def raised(node: ast.AST, module: str) -> ast.expr | None:
    """The message of an error that is raised, made or printed here."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    name = ast.unparse(node.func).rpartition(".")[2]
    if name in ERRORS or (name == "ValueError" and module.startswith(VALIDATORS)):
        return node.args[0]
    if name in SHOWN and len(node.args) > SHOWN[name]:
        return node.args[SHOWN[name]]
    return node.args[0] if name in LOGGED and ast.unparse(node.func).startswith("log.") else None


def found() -> Iterator[Message]:
    for module in FILES:
        foreign = caught(module)
        for node in ast.walk(tree(module)):
            shown = raised(node, module)
            if shown is None or module == "flows.cli.screen":
                continue
            message = Message(place(module, node), foreign=foreign.get(id(node), frozenset()))
            render(shown, module, message)
            # A text that came as a whole from elsewhere, where it is held to these rules, too.
            # A log line that is put together from parts, such as the name of an error, is not one.
            if re.search(r"\w", message.text.replace("%s", "")) or message.text.count("%s") > 1:
                yield message


def render(node: ast.expr, module: str, into: Message) -> None:
    """Add the text of an expression, with a zero sign for each part that is not constant."""
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            render(part, module, into)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        render(node.left, module, into)
        render(node.right, module, into)
    elif isinstance(node, ast.IfExp):
        either = [Message("", foreign=into.foreign), Message("", foreign=into.foreign)]
        for branch, one in zip((node.body, node.orelse), either, strict=True):
            render(branch, module, one)
            into.unlimited += one.unlimited
        longer = max(either, key=lambda one: one.length)
        into.add(longer.text, longer.length)
    elif (known := constant(node, module)) is not None:
        into.add(str(known))
    elif isinstance(node, ast.FormattedValue):
        if node.conversion == ord("r"):
            into.unlimited.append(ast.unparse(node.value) + "!r")
        render(node.value, module, into)
    else:
        unknown(node, into)


def unknown(node: ast.expr, into: Message) -> None:
    """Add something whose length is only known when the message is shown."""
    name = ast.unparse(node)
    helper = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    if helper in LIMITED and isinstance(node, ast.Call):
        into.add("\0", room(node, helper) + LIMITED[helper])
    elif helper == "classes_listed":
        into.add("\0", len("class ") + 120 + LIMITED["listed"])
    elif ".join(" in name or isinstance(node, ast.List | ast.ListComp | ast.GeneratorExp):
        into.unlimited.append(name)
    elif name in into.foreign or (helper == "str" and name[4:-1] in into.foreign):
        into.unlimited.append(f"{name}, the text of another library's error")
    elif helper in ("explain", "str", "whole") or name in ("error", "notice"):
        into.add("\0", NESTED)
    else:
        into.add("\0", LONG if LONG_NAMES.search(name) else SHORT)


def room(call: ast.Call, helper: str) -> int:
    """The room that is given to a helper, or its default."""
    given = keyword(call, "room")
    if len(call.args) > 1:
        given = constant(call.args[1], "tasks.core.messages")
    given = given or signature(getattr(messages, helper)).parameters["room"].default
    assert isinstance(given, int), f"the room is not constant: {ast.unparse(call)}"
    return given


def constant(node: ast.AST, module: str) -> Any:
    """The value of a constant, of a module's constant, its entry or its joined names; else None."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name(id=name) if name.isupper():
            return vars(imported(module)).get(name)
        case ast.Subscript(value=ast.Name() as whole, slice=ast.Constant(value=place)):
            values = constant(whole, module)
            return None if values is None else values[place]
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str() as separator), attr="join"),
            args=[ast.Name() as whole],
        ):
            names = constant(whole, module)
            return None if names is None else separator.join(names)
    return None


def imported(module: str) -> ModuleType:
    """A module of the program; an empty one if it imports Keras, which takes long."""
    # No module that needs Keras has constants in its messages.
    if any(ast.unparse(node) == "import keras" for node in tree(module).body):
        return ModuleType(module)
    return importlib.import_module(module)


def caught(module: str) -> dict[int, frozenset[str]]:
    """For nodes in `except X as name`: the names of exceptions that are not all our own errors."""
    names: dict[int, frozenset[str]] = {}
    for handler in ast.walk(tree(module)):
        if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type:
            kinds = {
                name.rpartition(".")[2] for name in re.findall(r"[\w.]+", ast.unparse(handler.type))
            }
            if not kinds <= ERRORS:
                for node in ast.walk(handler):
                    names[id(node)] = names.get(id(node), frozenset()) | {handler.name}
    return names


@pytest.fixture(scope="module")
def every() -> list[Message]:
    return list(found())


def test_the_messages_are_found(every: list[Message]) -> None:
    texts = "\n".join(message.text for message in every)
    assert len(every) > 180
    assert "put all of them into one, or set" in texts
    assert "expected a folder with a folder of pictures for each class" in texts, "of a constant"


def test_no_part_of_a_message_is_of_any_length(every: list[Message]) -> None:
    assert {m.place: m.unlimited for m in every if m.unlimited} == {}, (
        "use listed, quoted or first_line of tasks.core.messages"
    )


def test_messages_are_short(every: list[Message]) -> None:
    assert {m.place: m.length for m in every if m.length > messages.LONGEST} == {}


def test_messages_say_what_to_do_or_what_was_expected(every: list[Message]) -> None:
    silent = [m for m in every if not SAYS.search(m.text)]
    unexplained = {m.place: m.text for m in silent if m.text not in SAYS_NOTHING}
    assert unexplained == {}, "say what to do, or list it in SAYS_NOTHING with the reason"
    assert set(SAYS_NOTHING) <= {m.text for m in silent}, "no longer needed"


def test_classes_are_never_called_by_a_bare_number(every: list[Message]) -> None:
    assert [m.place for m in every if re.search(r"\bclass \0", m.text)] == []


BAD = {
    "raise UserError(f'{path}: found {\", \".join(names)}; expected one.')": "unlimited",
    "raise UserError(f'--set {value!r}: expected name=value.')": "unlimited",
    "try: pass\nexcept ValueError as error: raise UserError(f'{path}: {error}; save it again.')": (
        "unlimited"
    ),
    f"raise UserError('expected {'a, ' * 140}')": "long",
    "log.warning('%s is damaged', path)": "silent",
    "raise StageError(f'{path} is missing.')": "silent",
    "log.error('%s: %s', type(error).__name__, error)": "silent",
    "raise StageError(f'the disk of {path} may only mean what it needs.')": "silent",
}


@pytest.mark.parametrize("code", BAD)
def test_the_rules_can_fail(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "tasks.core.errors"
    parsed = ast.parse(code)
    monkeypatch.setattr(sys.modules[__name__], "tree", lambda _: parsed)
    monkeypatch.setattr(sys.modules[__name__], "FILES", {module: FILES[module]})
    (message,) = found()
    faults = {
        "unlimited": bool(message.unlimited),
        "long": message.length > messages.LONGEST,
        "silent": not SAYS.search(message.text),
    }
    assert [name for name, wrong in faults.items() if wrong] == [BAD[code]]
