"""`fashion-flow verdicts`: show what a run's gates decided, and the evidence."""

from __future__ import annotations

from flows.cli.common_options import ARTIFACTS, JsonFlag, RunOption, StoreOption
from flows.cli.results import DECISIONS, heading
from flows.cli.run_tables import note_unfinished, shown_run, verdict_rows
from flows.cli.screen import add_row, line, show, show_json, table
from tasks.core.statistics.metric_words import NAMES, gain_words, unit
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

# The opinion of rule `significant`; None if each model has only one training.
TESTED = {"forward": "better", "back": "worse", "inconclusive": "open", None: "not"}


def verdicts(
    *, run_id: RunOption = None, as_json: JsonFlag = False, store: StoreOption = ARTIFACTS
) -> None:
    """Print each decision, the gain with its 95 % interval, and the p values."""
    run = shown_run(Store(store), run_id)
    note_unfinished(run)
    rows = verdict_rows(run)
    if as_json:
        show_json(rows)
        return
    line(heading(run))
    if not rows:
        planned = run.read()["settings"]["plan"]
        line("no gate has decided yet" if planned else "there are no gates: the plan is empty")
        return
    show_gates(run)
    metric = rows[0]["metric"]
    line(f"gain: by {NAMES[metric]} on held-out images, in {unit(metric)}. p: probability of")
    line("such a gain by chance. adj. p: adjusted for the number of gates (Holm).")
    line(f"tested: by rule significant, at level {rows[0]['level']:.3g} for each gate.")


def show_gates(run: RunLog) -> None:
    """Print a row for each gate."""
    made = table("gate")
    made.columns[0].max_width = 21
    made.add_column("decision", no_wrap=True)
    for name in ("gain", "95 % interval", "p", "adj. p"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("tested", no_wrap=True)
    plan = run.read()["settings"]["plan"]
    for row in verdict_rows(run):
        names = ("gain", "gain_low", "gain_high")
        gain, low, high = (gain_words(row["metric"], row[name], 1) for name in names)
        add_row(
            made,
            f"{row['gate']} {plan[row['gate'] - 1]['name']}",
            DECISIONS[row["state"]],
            gain,
            f"{low} to {high}",
            _p_value(row["p_value"]),
            _p_value(row["p_value_adjusted"]),
            TESTED[row["by_significant"]],
        )
    show(made)


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 1e-3 else f"{value:.3f}"
