"""`fashion-flow results`: show a run's models and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.cli.common_options import ARTIFACTS, JsonFlag, RunOption, StoreOption
from flows.cli.run_tables import metric_of, note_unfinished, result_rows, shown_run
from flows.cli.screen import add_row, line, show, show_json, table
from tasks.core.names import FINAL, VGG16_WEIGHTS
from tasks.core.settings.evaluation import EvaluationSettings, Metric
from tasks.core.statistics.metric_words import NAMES, score_words
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

DECISIONS = {
    "RolledForward": "forward",
    "KeptIncumbent": "back",
    "Inconclusive": "inconclusive",
    "ForcedForward": "FORCED forward",
    "ForcedBack": "FORCED back",
}
# In the heads of columns.
SHORT = {"balanced_accuracy": "bal. %", "log_loss": "log loss"}


def results(
    *, run_id: RunOption = None, as_json: JsonFlag = False, store: StoreOption = ARTIFACTS
) -> None:
    """Print the table, the data set, and where the final model and the report are."""
    run = shown_run(Store(store), run_id)
    note_unfinished(run)
    if as_json:
        show_json(result_rows(run))
        return
    show_scores(run)
    show_files(run)


def show_scores(run: RunLog) -> None:
    """Print a row for each model."""
    rows = result_rows(run)
    line(heading(run))
    if not rows:
        line("no model has been trained yet")
        return
    notebook = any(row["notebook_test_accuracy"] is not None for row in rows)
    # Tables of earlier versions lack newer columns.
    several = any(row.get("trainings", 1) > 1 for row in rows)
    metric = metric_of(run)
    if all(row.get(f"val_{metric}") is None for row in rows):
        metric = "accuracy"  # the only score of a run that is not finished
    judged = [] if metric == "accuracy" else [f"val. {SHORT[metric]}", f"test {SHORT[metric]}"]
    # In 80 characters, there is no room for sizes beside intervals.
    several = several or bool(judged)
    sizes = () if several else ("params", "epochs")
    intervals = ["95 % interval"] if several else []
    accuracies = ["acc. %"] if judged else ["val. %", "test %"]
    if metric != metric_of(run):
        accuracies = ["val. acc. %", "test acc. %"]
    made = table("model", *sizes, *(judged or accuracies), *intervals, *(judged and accuracies))
    if notebook:
        made.add_column("notebook %", justify="right")
    made.add_column("decision")
    for row in rows:
        cells = [
            row["name"],
            *([] if several else [f"{row['params']:,}", str(row["epochs"])]),
            score(row, f"val_{metric}", metric),
            score(row, f"test_{metric}", metric),
            *([_interval(row, metric)] if several else []),
            *([percent(row["test_accuracy"])] if judged else []),
            *([percent(row["notebook_test_accuracy"])] if notebook else []),
            DECISIONS.get(row.get("state") or "", row.get("decision") or ""),
        ]
        add_row(made, *cells, style="bold" if row["name"] == FINAL else None)
    show(made)


def show_files(run: RunLog) -> None:
    """Print the paths of the final model and the report; say if VGG16 was skipped or is random."""
    if run.read()["settings"]["transfer"]["weights"] == "random":
        line("VGG16 has random weights here: a control, not transfer learning")
    for entry in run.stages():
        if entry["stage"] == VGG16_WEIGHTS and entry["state"] == "skipped":
            line(f"VGG16 skipped: {entry['reason']}")
    final = run.record(FINAL)
    if run.model_folder.is_dir():
        line(f"final model: {run.model_folder}")
    elif final is not None:
        line(f"final model: {run.store.root / final.files['model'].path}")
    if run.report.is_file():
        line(f"report:      {run.report}")


def heading(run: RunLog) -> str:
    """The run's id, data set and rule; metric, folds and replicates if they are not the usual."""
    settings = run.read()["settings"]
    evaluation = EvaluationSettings.model_validate(settings.get("evaluation", {}))
    metric = metric_of(run)
    by = [] if metric == "accuracy" else [f"by {NAMES[metric]}"]
    rule = f"rule {settings['rule']}"
    words = [f"data set {settings['dataset']}", rule, *by, *evaluation.words()]
    return f"run {run.run_id}: {', '.join(words)}"


def percent(value: float | None) -> str:
    """An accuracy with two digits; empty if it is not known."""
    return "" if value is None else f"{100 * value:.2f}"


def score(row: Mapping[str, Any], name: str, metric: Metric) -> str:
    """A score by a metric; empty if it is not known."""
    value = row.get(name)
    return "" if value is None else score_words(metric, value)


def _interval(row: Mapping[str, Any], metric: Metric) -> str:
    low, high = row[f"test_{metric}_low"], row[f"test_{metric}_high"]
    return "" if low is None else f"{score_words(metric, low)}-{score_words(metric, high)}"
