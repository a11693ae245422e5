"""Compose settings from a preset, a plan file and single values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flows.recipe.own_code import located
from flows.recipe.presets import PRESETS, Preset
from flows.recipe.settle import settled, validated
from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed, quoted
from tasks.core.settings.base import explain
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import Iteration

# Far above any plan that a person writes.
MOST_PLAN_BYTES = 2**20


def compose(
    preset: str = "notebook",
    plan_file: Path | None = None,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
) -> Settings:
    """The settings of a run: those that are `asked` for, with the rule that `auto` stands for.

    Arguments and errors are those of `asked`; relative files are on this machine.
    """
    return settled(asked(preset, plan_file, values, assignments))


def asked(
    preset: str = "notebook",
    plan_file: Path | None = None,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    folder: PurePath | None = None,
) -> Settings:
    """The preset's settings, changed by a plan file, then `values`, then `assignments`.

    The rule may be `auto`: whoever changes these settings later, as in the run form, does not
    need to think of it.

    Args:
        preset: one of PRESETS.
        plan_file: a TOML file whose iterations replace the preset's.
        values: values by dotted name, e.g. `{"overfitting.epochs": 3}`.
        assignments: texts like `overfitting.epochs=3`, with a TOML value.
        folder: the absolute folder that relative files of networks' functions are below; by default
            that of the plan file or, elsewhere, the working folder. They become absolute paths.

    Raises:
        UserError: a preset or setting is unknown, or a value has the wrong type or is out of range.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown preset {quoted(preset)}; expected one of {', '.join(PRESETS)}.")
    given = [*(values or {}).items(), *map(_assigned, assignments)]
    tree = _base(PRESETS[preset], dict(given)).model_dump()
    known = list(_names(tree))
    if plan_file is not None:
        plan = [entry.model_dump() for entry in read_plan(plan_file)]
        tree |= located({"plan": plan}, folder or plan_file.expanduser().absolute().parent)
    for name, value in given:
        _assign(tree, name, value)
    return validated(located(tree, folder or Path.cwd()), known)


def _base(preset: Preset, given: Mapping[str, Any]) -> Settings:
    """The preset's settings for the data set and the rule among the values by dotted name."""
    found = preset.settings.model_copy(
        update={name: given[name] for name in ("dataset", "rule") if name in given}
    )
    own = preset.own if found.on_own_images and found.rule == "auto" else None
    return own or preset.settings


def read_plan(path: Path) -> tuple[Iteration, ...]:
    """Read the iterations from a TOML file with a table `[[iteration]]` for each.

    Raises:
        UserError: the file can't be read or is not TOML, or a field is unknown or wrong.
    """
    try:
        # A pipe without a writer would never end, and a device has no end.
        if path.is_fifo() or path.is_char_device():
            raise UserError(f"plan {path} is not a file; give a TOML file.")
        if path.stat().st_size > MOST_PLAN_BYTES:
            raise UserError(
                f"plan {path} has more than {MOST_PLAN_BYTES} bytes; expected [[iteration]] tables."
            )
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"plan {path} can't be read ({first_line(error)}); check the path and its permissions."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"plan {path} can't be read ({first_line(error)}); save it as UTF-8."
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(
            f"plan {path} is not valid TOML ({first_line(error)}); expected [[iteration]] tables."
        ) from None
    unknown = sorted(set(content) - {"iteration"})
    if unknown or not content.get("iteration"):
        found = f", found {listed(unknown)}" if unknown else ""
        raise UserError(f"plan {path}: expected [[iteration]] tables and nothing else{found}.")
    try:
        return TypeAdapter(tuple[Iteration, ...]).validate_python(content["iteration"])
    except ValidationError as error:
        raise UserError(explain(error, f"plan {path}, iteration (counted from 0)")) from None


def _names(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings and of all groups of settings."""
    for name, value in tree.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{name}.")


def _assigned(assignment: str) -> tuple[str, Any]:
    """The dotted name and the value of a text like `overfitting.epochs=3`."""
    name, separator, text = assignment.partition("=")
    if not separator:
        raise UserError(
            f"--set {quoted(assignment)}: expected name=value, e.g. overfitting.epochs=3."
        )
    return name.strip(), _parsed(text.strip())


def _assign(tree: dict[str, Any], name: str, value: Any) -> None:
    *groups, field = name.split(".")
    for group in groups:
        inner = tree.get(group)
        if inner is None:
            inner = tree[group] = {}
        if not isinstance(inner, dict):
            raise UserError(
                f"--set {name}: {quoted(group)} contains no named settings; to change the "
                "plan's iterations, use --plan FILE."
            )
        tree = inner
    tree[field] = value


def _parsed(text: str) -> Any:
    """Parse a TOML value; a bare word is a string, and `none` is None."""
    if text.lower() in ("none", "null"):
        return None
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    # Text of several lines could set more than the value.
    return parsed["value"] if len(parsed) == 1 else text
