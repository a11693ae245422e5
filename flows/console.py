"""What the terminal shows: tables of results, runs and plans, warnings and errors."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from flows.planning import CACHED, Planned
from tasks.core.errors import UserError
from tasks.runlog import RunLog, all_runs, find_run
from tasks.store import Store

out = Console()
err = Console(stderr=True)


def warn(message: str) -> None:
    """Something that must not be overlooked."""
    err.print(Panel(message, border_style="yellow", title="note", title_align="left"))


def fail(message: str) -> None:
    """The one message of a run that could not be."""
    err.print(f"error: {message}", style="bold red", markup=False, highlight=False)


def result_rows(store: Store, run_id: str | None) -> list[dict[str, Any]]:
    """The rows of a run's table of results.

    Raises:
        UserError: there is no such run, or it ended before the table was made.
    """
    return _result_rows(store, find_run(store, run_id))


def _result_rows(store: Store, run: RunLog) -> list[dict[str, Any]]:
    record = run.record("results")
    if record is None:
        raise UserError(
            f"run {run.run_id} ended before its results were there ({run.status()}); "
            "start it again to go on."
        )
    rows: list[dict[str, Any]] = store.table(record, "results").to_pylist()
    return rows


def show_results(store: Store, run_id: str | None) -> None:
    """Print a run's table of results, the data set and where the final model is."""
    run = find_run(store, run_id)
    rows = _result_rows(store, run)
    settings = run.read()["settings"]
    notebook = any(row["notebook_test_accuracy"] is not None for row in rows)
    table = Table(
        title=f"run {run.run_id}: {settings['dataset']}, rule {settings['rule']}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    columns = ["model", "params", "epochs", "val. acc.", "test acc.", "test loss"]
    for column in [*columns, *(["notebook"] if notebook else []), "decision"]:
        left = column in ("model", "decision")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        shown = [
            row["name"],
            f"{row['params']:,}",
            str(row["epochs"]),
            _percent(row["val_accuracy"]),
            _percent(row["test_accuracy"]),
            f"{row['test_loss']:.4f}",
            *([_percent(row["notebook_test_accuracy"])] if notebook else []),
            row["decision"] or "",
        ]
        table.add_row(*shown, style="bold" if row["name"] == "final" else None)
    out.print(table)
    _show_files(store, run)


def _show_files(store: Store, run: RunLog) -> None:
    for entry in run.stages():
        if entry["stage"] == "vgg16_weights" and entry["state"] == "skipped":
            out.print(f"VGG16 skipped: {entry['reason']}", markup=False, soft_wrap=True)
    final = run.record("final")
    if final is not None:
        path = store.root / final.files["model"].path
        out.print(f"final model: {path}", markup=False, highlight=False, soft_wrap=True)
    if run.report.is_file():
        out.print(f"report:      {run.report}", markup=False, highlight=False, soft_wrap=True)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def run_rows(store: Store) -> list[dict[str, Any]]:
    """What is known of every run, oldest first."""
    rows = []
    for run in all_runs(store):
        states = [entry["state"] for entry in run.stages()]
        counts = {state: states.count(state) for state in ("completed", "cached", "skipped")}
        rows.append(run.read() | {"status": run.status(), "stages": counts})
    return rows


def show_runs(store: Store) -> None:
    """Print a line for each run."""
    rows = run_rows(store)
    if not rows:
        raise UserError(f"no run in {store.root} yet; start one with `fashion-flow run`.")
    table = Table(box=SIMPLE_HEAD)
    for column in ("run", "started (UTC)", "status", "computed", "cached", "data set", "rule"):
        table.add_column(column, justify="right" if column in ("computed", "cached") else "left")
    for row in rows:
        table.add_row(
            row["run"],
            row["started"].removesuffix("+00:00").replace("T", " "),
            row["status"],
            str(row["stages"]["completed"]),
            str(row["stages"]["cached"]),
            row["settings"]["dataset"],
            row["settings"]["rule"],
        )
    out.print(table)


def show_plan(planned: list[Planned]) -> None:
    """Print a line for each stage: cached, will run, or open until a decision falls."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("stage", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("why")
    for item in planned:
        style = "dim" if item.state == CACHED else None
        table.add_row(item.stage, item.state, item.reason, style=style)
    out.print(table)
    cached = sum(item.state == CACHED for item in planned)
    out.print(f"{cached} of {len(planned)} stages are cached.", highlight=False)
