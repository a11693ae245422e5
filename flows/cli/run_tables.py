"""The tables of a run: the stored ones or, until they exist, those of its finished stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from flows.cli.screen import warn
from flows.recipe.contents import recipe_models
from flows.recipe.stages import RecipeModel, on_fashion_mnist
from tasks.core.errors import StageError, UserError
from tasks.core.names import RESULTS, VERDICTS, evaluation_name
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tasks.core.tables.results import MODELS, SIZES, TESTED, TRAINED
from tasks.storage.run_log import DONE, RUNNING, RunLog, all_runs, find_run
from tasks.storage.store import Store

Row = dict[str, Any]


def shown_run(store: Store, run_id: str | None) -> RunLog:
    """The run of that id; without one, the latest complete run, or the latest if none is complete.

    If a later run exists, a note says so.

    Raises:
        UserError: there is no such run.
    """
    runs = all_runs(store)
    if run_id is not None or not runs:
        return find_run(store, run_id)
    complete = [run for run in runs if run.status() == DONE and not run.read()["only"]]
    if not complete:
        return runs[-1]
    if complete[-1] != runs[-1]:
        warn(
            f"The latest run, {runs[-1].run_id}, {state_of(runs[-1])}; this is run "
            f"{complete[-1].run_id}, the latest complete one."
        )
    return complete[-1]


def state_of(run: RunLog) -> str:
    """How a run ended, as a predicate, e.g. `is still running`."""
    status = run.status()
    if status == RUNNING:
        return "is still running"
    return "ran only some stages" if status == DONE else f"did not finish ({status})"


def note_unfinished(run: RunLog) -> None:
    """Print a note if a run has no final tables yet."""
    if run.record(RESULTS) is None:
        stages = len(run.stages())
        warn(
            f"Run {run.run_id} {state_of(run)}. This is what its {stages} finished "
            f"stage{'' if stages == 1 else 's'} show{'s' if stages == 1 else ''} so far."
        )


def result_rows(run: RunLog) -> list[Row]:
    """A row for each model; in an unfinished run, a partial row for each model trained so far.

    Raises:
        UserError: the run is unfinished, and another version of the program started it.
    """
    record = run.record(RESULTS)
    if record is not None:
        rows: list[Row] = run.store.table(record, RESULTS).to_pylist()
        return rows
    settings = _settings(run)
    facts = _facts(run)
    found = []
    for model in recipe_models(settings):
        trained = [facts[name] for name in model.trainings if name in facts]
        if trained:
            found.append(_partial_row(model, trained, facts, settings))
    return found


def verdict_rows(run: RunLog) -> list[Row]:
    """A row for each gate; in an unfinished run, for each that has decided.

    Adjusted p values depend on all gates, so an unfinished run has none.

    Raises:
        UserError: as for `result_rows`, or no evidence was recorded at the time of the run.
    """
    record = run.record(RESULTS)
    if record is not None:
        rows: list[Row] = run.store.table(record, VERDICTS).to_pylist()
    else:
        facts = _facts(run)
        gates = [model.gate for model in recipe_models(_settings(run)) if model.gate]
        rows = [{**facts[gate], "p_value_adjusted": None} for gate in gates if gate in facts]
    if rows and "ci_low" not in rows[0]:
        raise UserError(
            f"run {run.run_id} was made before gates recorded their evidence; run it again."
        )
    return rows


def _settings(run: RunLog) -> Settings:
    try:
        return Settings.model_validate(run.read()["settings"])
    except ValidationError:
        raise UserError(
            f"run {run.run_id} {state_of(run)}, and its settings are those of another version of "
            "fashion-flow; start a new run."
        ) from None


def _facts(run: RunLog) -> dict[str, Mapping[str, Any]]:
    """The facts of every finished stage, by its name."""
    found = {}
    for entry in run.stages():
        # `clean` may have removed the record.
        with suppress(StageError):
            if entry["key"]:
                found[entry["stage"]] = run.store.record(entry["stage"], entry["key"]).facts
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
    reported = NOTEBOOK_RESULTS.get(model.name) if on_fashion_mnist(settings) else None
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
