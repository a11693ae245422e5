"""The tables of an unfinished run, made of the stages finished so far.

Separate from `run_tables`, since a finished run needs neither the recipe nor its settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flows.recipe.contents import recipe_models
from flows.recipe.recipe_model import RecipeModel
from flows.recipe.stages import on_fashion_mnist
from tasks.core.errors import StageError
from tasks.core.names import evaluation_name
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.notebook_results import notebook_result
from tasks.core.tables.results import MODELS, SIZES, TESTED, TRAINED
from tasks.storage.store import Store

Row = dict[str, Any]


def partial_result_rows(
    store: Store, settings: Settings, stages: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """A row for each model that was trained, with None for what is not known yet.

    Args:
        store: where the records of the stages are.
        settings: those of the run.
        stages: the lines of the run's log on finished stages.
    """
    facts = _facts(store, stages)
    found = []
    for model in recipe_models(settings):
        trained = [facts[name] for name in model.trainings if name in facts]
        if trained:
            found.append(_partial_row(model, trained, facts, settings))
    return found


def partial_verdict_rows(
    store: Store, settings: Settings, stages: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """A row for each gate that has decided; adjusted p values need all gates."""
    facts = _facts(store, stages)
    gates = [model.gate for model in recipe_models(settings) if model.gate]
    return [{**facts[gate], "p_value_adjusted": None} for gate in gates if gate in facts]


def _facts(store: Store, stages: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The facts of every finished stage, by its name."""
    found = {}
    for entry in stages:
        # `clean` may have removed the record.
        with suppress(StageError):
            if entry["key"]:
                found[entry["stage"]] = store.record(entry["stage"], entry["key"]).facts
    return found


def _partial_row(
    model: RecipeModel,
    trained: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, Any]],
    settings: Settings,
) -> Row:
    """A row with the columns of the stored table; None for what is not known yet."""
    scored = [facts[name] for name in map(evaluation_name, model.trainings) if name in facts]
    verdict = facts.get(model.gate or "", {})
    reported = None
    if on_fashion_mnist(settings):
        reported = notebook_result(model.name, same_plan=settings.has_notebook_plan)
    return dict.fromkeys(MODELS.names) | {
        "name": model.name,
        "step": model.step,
        **{name: trained[0][name] for name in SIZES},
        "trainings": len(trained),
        **{name: _mean(trained, name) for name in TRAINED},
        **{name: _mean(scored, name) for name in TESTED},
        **{name: verdict.get(name) for name in ("decision", "state", "reason")},
        "notebook_test_loss": reported.test_loss if reported else None,
        "notebook_test_accuracy": reported.test_accuracy if reported else None,
    }


def _mean(trainings: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [facts[name] for facts in trainings if facts[name] is not None]
    return sum(known) / len(known) if known else None
