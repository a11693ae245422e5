"""The tables of a run: the stored ones or, until they exist, those of its finished stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.cli.screen import warn
from tasks.core.errors import UserError
from tasks.core.names import RESULTS, VERDICTS
from tasks.storage.run_log import DONE, RUNNING, RunLog, all_runs, find_run
from tasks.storage.store import Store

if TYPE_CHECKING:
    from tasks.core.settings.evaluation import Metric
    from tasks.core.settings.run_settings import Settings

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
            f"{complete[-1].run_id}, the latest complete one. To see another, name it with --run."
        )
    return complete[-1]


def state_of(run: RunLog) -> str:
    """How a run ended, as a predicate, e.g. `is still running`."""
    status = run.status()
    if status == RUNNING:
        return "is still running"
    if status == DONE:
        return "ran only some stages" if run.read()["only"] else "is complete"
    # A run fails after its report if a success criterion was required and is not met.
    return f"ended as {status}" if run.report.is_file() else f"did not finish ({status})"


def refuse_if_complete(run: RunLog, missing: str) -> None:
    """Refuse to show parts of a run that is complete but lacks something.

    Raises:
        UserError: it is complete.
    """
    if run.status() == DONE and not run.read()["only"]:
        fault = run.fault()
        raise UserError(
            f"run {run.run_id} is complete, but {missing} missing{f' ({fault})' if fault else ''}; "
            "start the run again to restore it."
        )


def note_unfinished(run: RunLog) -> None:
    """Print a note if a run has no final tables yet.

    Raises:
        UserError: it should have them, since it is complete.
    """
    if run.record(RESULTS) is None:
        refuse_if_complete(run, "its results are")
        stages = len(run.stages())
        warn(
            f"Run {run.run_id} {state_of(run)}. This is what its {stages} finished "
            f"stage{'' if stages == 1 else 's'} show{'s' if stages == 1 else ''} so far."
        )


def metric_of(run: RunLog) -> Metric:
    """What a run judges by; runs of earlier versions judged by accuracy."""
    metric: Metric = run.read()["settings"].get("metric", "accuracy")
    return metric


def result_rows(run: RunLog) -> list[Row]:
    """A row for each model; in an unfinished run, a partial row for each model trained so far.

    Raises:
        UserError: the run is unfinished, and another version of the program started it.
    """
    record = run.record(RESULTS)
    if record is not None:
        rows: list[Row] = run.store.table(record, RESULTS).to_pylist()
        return rows
    from flows.cli.partial_tables import partial_result_rows

    return partial_result_rows(run.store, settings_of(run), run.stages())


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
        from flows.cli.partial_tables import partial_verdict_rows

        rows = partial_verdict_rows(run.store, settings_of(run), run.stages())
    if rows and "ci_low" not in rows[0]:
        raise UserError(
            f"run {run.run_id} was made before gates recorded their evidence; run it again."
        )
    return [_with_gain(row) for row in rows]


def _with_gain(row: Row) -> Row:
    """A gate's row; gates of earlier versions decided by accuracy."""
    if row.get("gain") is not None:
        return row
    gains = {"gain": "delta_accuracy", "gain_low": "ci_low", "gain_high": "ci_high"}
    return row | {"metric": "accuracy"} | {name: row[of] for name, of in gains.items()}


def settings_of(run: RunLog) -> Settings:
    """The settings that a run was started with.

    Raises:
        UserError: another version of the program started it.
    """
    from pydantic import ValidationError

    from tasks.core.settings.run_settings import Settings

    try:
        return Settings.model_validate(run.read()["settings"])
    except ValidationError:
        raise UserError(
            f"run {run.run_id} {state_of(run)}, and its settings are those of another version of "
            "fashion-flow; start a new run."
        ) from None
