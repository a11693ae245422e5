"""Settle what settings leave open: which rule decides, and what starts a run on own images.

`auto` replays the decisions in a preset's plan only as long as what they were made on is the
same. The answer depends on the settings alone, so the command line, the run form and a deployment
come to the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from flows.recipe.presets import PRESETS, Preset
from tasks.core.errors import UserError
from tasks.core.settings.base import explain
from tasks.core.settings.evaluation import Rule
from tasks.core.settings.notebook_plan import NOTEBOOK_PLAN
from tasks.core.settings.run_settings import Settings

# What the decisions in a plan were made on, besides the images.
DECIDED_ON = ("plan", "overfitting", "metric")


def settled(settings: Settings) -> Settings:
    """The settings with the rule that `auto` stands for; others remain as they are.

    On the user's own images, settings that are still those of a preset with settings for own
    images become the latter.

    Raises:
        UserError: with that rule, the settings contradict each other.
    """
    if settings.rule == "notebook" and not _has_notebook_s_decisions(settings):
        # Earlier versions had one name for replaying any plan.
        return validated(settings.model_dump() | {"rule": "replay"})
    if settings.rule != "auto":
        return settings
    started = _on_own_images(settings)
    return validated(started.model_dump() | {"rule": default_rule(started)})


def _has_notebook_s_decisions(settings: Settings) -> bool:
    """Whether the plan has the notebook's decisions, of the same changes or of the same names."""
    pairs = zip(settings.plan, NOTEBOOK_PLAN, strict=False)
    return len(settings.plan) == len(NOTEBOOK_PLAN) and all(
        ours.replay == its.replay and (ours.name == its.name or ours.change == its.change)
        for ours, its in pairs
    )


def default_rule(settings: Settings) -> Rule:
    """The rule that `auto` stands for with these settings."""
    preset = _preset_of(settings)
    replays = preset.replays if preset and not settings.on_own_images else None
    return replays or "validation"


def rule_words(settings: Settings) -> str:
    """The rule of settled settings in words, and if it is the default, why; empty without gates."""
    if not settings.change_names:
        return ""
    return f"rule {settings.rule}: {_reason(settings)}"


def logged_rule_words(logged: Mapping[str, Any]) -> str:
    """`rule_words` of a run in the log; empty, too, if these settings are no longer valid."""
    settings = _valid(json.dumps(logged))
    return rule_words(settings) if settings else ""


def logged_settings(logged: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a run in the log, with the defaults of those that did not exist then."""
    settings = _valid(json.dumps(logged))
    return settings.model_dump(mode="json") if settings else logged


@lru_cache
def _valid(text: str) -> Settings | None:
    """Settings from JSON, None if not valid. It takes long, and many runs have the same."""
    try:
        return Settings.model_validate(json.loads(text))
    except ValidationError:
        return None


def validated(tree: Mapping[str, Any], known: Collection[str] = ()) -> Settings:
    """Settings from nested values; for an unknown name, the message suggests one of `known`.

    Raises:
        UserError: a setting is unknown, or a value has the wrong type or is out of range.
    """
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, "settings", known)) from None


def _preset_of(settings: Settings) -> Preset | None:
    """The preset whose decisions were made on this plan and such numbers of images."""
    return next((one for one in PRESETS.values() if _decided_on(one.settings, settings)), None)


def _decided_on(preset: Settings, settings: Settings) -> bool:
    same = all(getattr(preset, name) == getattr(settings, name) for name in DECIDED_ON)
    return same and _takes_all(preset) == _takes_all(settings)


def _takes_all(settings: Settings) -> bool:
    return settings.subset.method == "everything"


def _on_own_images(settings: Settings) -> Settings:
    """The settings, with those of the preset for own images where the user changed nothing."""
    preset = _preset_of(settings) if settings.on_own_images else None
    if preset is None or preset.own is None:
        return settings
    usual, own = preset.settings, preset.own
    kept = {"dataset", "rule"}
    unchanged = [
        name
        for name in Settings.model_fields
        if name not in kept and getattr(settings, name) == getattr(usual, name)
    ]
    return settings.model_copy(update={name: getattr(own, name) for name in unchanged})


def _reason(settings: Settings) -> str:
    whose = "the notebook's" if settings.rule == "notebook" else "the plan's"
    if settings.replays:
        return f"replays {whose} decisions; --rule validation decides by this run's evidence"
    if settings.rule != "validation" or default_rule(settings) != "validation":
        return "decides by this run's evidence"
    return f"decides by this run's evidence, {_why_not_replayed(settings)}"


def _why_not_replayed(settings: Settings) -> str:
    if settings.on_own_images:
        return "as by default on your own images"
    if _takes_all(settings):
        return "as by default on all images of the data set"
    return "as by default with another plan, overfitting model or metric than the preset's"
