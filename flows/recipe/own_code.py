"""Functions that build a user's own networks: where they are, and their code in stages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.own_code import OwnCode
from tasks.core.records import Stage
from tasks.core.settings.base import changed
from tasks.core.settings.network import NetworkSettings, function_parts
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import RetrainSpec, TrainSpec
from tasks.engine.own_code import check_call, files_of, read_code

# What a worker's environment allows the parameters of a deployment to name: folders, or 1.
ALLOW_FUNCTIONS = "FASHION_FLOW_ALLOW_FUNCTIONS"
MODELS = ("baseline", "low_capacity", "overfitting")
# In a spec, the place of the function: its key must not depend on where its file is.
_ANYWHERE = "own"


def located(tree: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Settings that are not validated yet, with the files of functions as absolute paths.

    Relative ones are below `folder`.
    """
    found = dict(tree)
    for model in MODELS:
        if isinstance(found.get(model), Mapping):
            found[model] = _in_group(found[model], "network", folder)
    if isinstance(found.get("plan"), list | tuple):
        found["plan"] = [_in_iteration(entry, folder) for entry in found["plan"]]
    return found


def _in_iteration(entry: Any, folder: Path) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("change"), Mapping):
        return entry
    change = _in_group(entry["change"], "network", folder)
    if "network.function" in change:
        change["network.function"] = _absolute(change["network.function"], folder)
    return {**entry, "change": change}


def _in_group(fields: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    group = fields.get(name)
    if not isinstance(group, Mapping) or "function" not in group:
        return dict(fields)
    return {**fields, name: {**group, "function": _absolute(group["function"], folder)}}


def _absolute(function: Any, folder: Path) -> Any:
    """A function with its file's absolute path; anything else as it is."""
    with suppress(ValueError, TypeError, RuntimeError):
        place, name = function_parts(function)
        if place.endswith(".py"):
            return f"{folder.absolute() / Path(place).expanduser()}:{name}"
    return function


def networks_with_functions(settings: Settings) -> list[NetworkSettings]:
    """Every network of these settings, and of each change of the plan, that a function builds.

    A change may be made to several incumbents; it is shown as made to the overfitting model.
    """
    trainings = [getattr(settings, model) for model in MODELS]
    for entry in settings.plan:
        with suppress(UserError):  # it may fit other incumbents
            trainings.append(changed(settings.overfitting, entry.change))
    networks = [training.network for training in trainings]
    for entry in settings.plan:
        group = entry.change.get("network")
        named = [
            entry.change.get("network.function"),
            group.get("function") if isinstance(group, Mapping) else None,
        ]
        known = {network.function for network in networks}
        networks += [NetworkSettings(function=each) for each in named if each and each not in known]
    return [network for network in dict.fromkeys(networks) if network.function]


def is_allowed(function: str, allowed: str) -> bool:
    """Whether a worker may execute a function that a deployment's parameters name.

    Args:
        function: as in `network.function`.
        allowed: the value of `FASHION_FLOW_ALLOW_FUNCTIONS`: 1 for all, or folders, separated like
            those of PATH. Links out of them don't count as being in them. The local modules that
            the function's module imports must be there, too.

    Raises:
        UserError: the function's file is in one of the folders, but the code can't be read.
    """
    if allowed.strip() in ("", "1"):
        return allowed.strip() == "1"
    folders = [Path(each).resolve() for each in allowed.split(os.pathsep) if each.strip()]
    return all(
        any(path.is_relative_to(folder) for folder in folders)
        for file in files_of(function)
        # A link into the folders, from elsewhere, does not count either.
        for path in (file.resolve(), file.parent.resolve())
    )


def read_codes(settings: Settings) -> dict[str, OwnCode]:
    """The code of every function that builds a network of these settings, as it is now.

    Raises:
        UserError: a file, a function or an argument of one is missing, or code can't be read.
    """
    found: dict[str, OwnCode] = {}
    for network in networks_with_functions(settings):
        function = str(network.function)
        if function not in found:
            found[function] = read_code(function)
        check_call(found[function], network.options)
    return found


def with_code(stage: Stage, codes: Mapping[str, OwnCode]) -> Stage:
    """A stage that trains a network of a function, with the function's code in place of its path.

    Raises:
        UserError: the function lacks an argument.
    """
    spec = stage.spec
    if not isinstance(spec, TrainSpec | RetrainSpec) or not spec.training.network.function:
        return stage
    network = spec.training.network
    code = codes[str(network.function)]
    check_call(code, network.options)
    own = network.model_copy(update={"function": f"{_ANYWHERE}:{code.function}"})
    training: TrainSettings = spec.training.model_copy(update={"network": own})
    return replace(stage, spec=spec.model_copy(update={"training": training}), own_code=code)
