"""Functions that build a user's own networks: where they are, and their code in stages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from flows.recipe.ahead import candidates
from tasks.core.own_code import OwnCode
from tasks.core.records import Stage
from tasks.core.settings.network import function_parts
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import RetrainSpec, TrainSpec
from tasks.engine.own_code import absolute_path, check_call, files_of, read_code

# What a worker's environment allows the parameters of a deployment to name: folders, or 1.
ALLOW_FUNCTIONS = "FASHION_FLOW_ALLOW_FUNCTIONS"
MODELS = ("baseline", "low_capacity", "overfitting")
# In a spec, the place of the function: its key must not depend on where its file is.
_ANYWHERE = "own"


def located(tree: Mapping[str, Any], folder: PurePath) -> dict[str, Any]:
    """Settings that are not validated yet, with the files of functions as absolute paths.

    Relative ones are below `folder`, which is absolute. If it is no `Path`, it is on another
    machine, whose home folders are unknown: `~` is then a name like others.
    """
    found = dict(tree)
    for model in MODELS:
        if isinstance(found.get(model), Mapping):
            found[model] = _in_group(found[model], "network", folder)
    if isinstance(found.get("plan"), list | tuple):
        found["plan"] = [_in_iteration(entry, folder) for entry in found["plan"]]
    return found


def _in_iteration(entry: Any, folder: PurePath) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("change"), Mapping):
        return entry
    change = _in_group(entry["change"], "network", folder)
    if "network.function" in change:
        change["network.function"] = _absolute(change["network.function"], folder)
    return {**entry, "change": change}


def _in_group(fields: Mapping[str, Any], name: str, folder: PurePath) -> dict[str, Any]:
    group = fields.get(name)
    if not isinstance(group, Mapping) or "function" not in group:
        return dict(fields)
    return {**fields, name: {**group, "function": _absolute(group["function"], folder)}}


def _absolute(function: Any, folder: PurePath) -> Any:
    """A function with its file's absolute path; anything else as it is."""
    with suppress(ValueError, TypeError, RuntimeError):
        place, name = function_parts(function)
        if place.endswith(".py"):
            file = Path(place).expanduser() if isinstance(folder, Path) else place
            return f"{folder / file}:{name}"
    return function


def functions_of(settings: Settings) -> list[str]:
    """Every function that these settings or a change of the plan name, as in `network.function`."""
    named = [getattr(settings, model).network.function for model in MODELS]
    for entry in settings.plan:
        group = entry.change.get("network")
        named.append(entry.change.get("network.function"))
        named.append(group.get("function") if isinstance(group, Mapping) else None)
    return [str(function) for function in dict.fromkeys(named) if function]


def is_allowed(function: str, allowed: str) -> bool:
    """Whether a worker may execute a function that a deployment's parameters name.

    Args:
        function: as in `network.function`.
        allowed: the value of `FASHION_FLOW_ALLOW_FUNCTIONS`: 1 for all, or folders, separated like
            those of PATH. The function's file and the local modules that it imports must be in
            them; links out of them don't count as being in them.

    Raises:
        UserError: the code is in these folders but can't be read.
    """
    if allowed.strip() in ("", "1"):
        return allowed.strip() == "1"
    folders = [Path(each).resolve() for each in allowed.split(os.pathsep) if each.strip()]

    def within(path: Path) -> bool:
        return any(path.resolve().is_relative_to(folder) for folder in folders)

    place, _ = function_parts(function)
    if place.endswith(".py"):
        file = absolute_path(place)
        # Other modules are read from the folder in which the file is named. Nothing is read
        # elsewhere, so that no error says whether there is a file.
        if not (within(file) and within(file.parent)):
            return False
    return all(map(within, files_of(function)))


def read_codes(settings: Settings) -> dict[str, OwnCode]:
    """The code of every function that builds a network of these settings, as it is now.

    Its arguments are checked for every network that may be trained, whatever gates decide.

    Args:
        settings: settled, as the rule says which decisions are known.

    Raises:
        UserError: a file, a function or an argument of one is missing, or code can't be read.
    """
    found = {function: read_code(function) for function in functions_of(settings)}
    if found:
        trainings = [getattr(settings, model) for model in MODELS]
        trainings += candidates(settings, [settings.overfitting], 0)
        # Candidates are in no order, but one of several mistakes is always named first.
        for network in sorted({each.network for each in trainings}, key=str):
            if network.function:
                check_call(found[network.function], network.options)
    return found


def with_code(stage: Stage, codes: Mapping[str, OwnCode]) -> Stage:
    """A stage that trains a network of a function, with the function's code in place of its path.

    Raises:
        UserError: the function lacks an argument.
    """
    spec = stage.spec
    if not codes:
        return stage
    if not isinstance(spec, TrainSpec | RetrainSpec) or not spec.training.network.function:
        return stage
    network = spec.training.network
    code = codes[str(network.function)]
    check_call(code, network.options)
    own = network.model_copy(update={"function": f"{_ANYWHERE}:{code.function}"})
    training: TrainSettings = spec.training.model_copy(update={"network": own})
    return replace(stage, spec=spec.model_copy(update={"training": training}), own_code=code)
