"""`fashion-flow verdicts`: show what a run's gates decided, and the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flows.cli.common_options import ARTIFACTS, JsonFlag, RunOption, StoreOption
from flows.cli.results import DECISIONS, heading
from flows.cli.run_tables import note_unfinished, shown_run, verdict_rows
from flows.cli.screen import add_row, line, show, show_json, table
from tasks.core.settings.transfer import TRANSFER_CHANGE, TransferSettings
from tasks.core.statistics.metric_words import NAMES, gain_words, unit
from tasks.core.statistics.replayed import evidence_sentences, replayed
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

# The opinion of rule `significant`; None if each model has only one training.
TESTED = {"forward": "better", "back": "worse", "inconclusive": "open", None: "not"}
OWN = "own"
# What the last gate, if there is one, made of the final model.
FINAL_IS = {
    "forward": "the last gate kept it, so the final model is VGG16, trained again.",
    "back": "the last gate dropped it, so the final model is what survived step 7.",
}


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
        line("no gate has decided yet" if _gates(run) else "there are no gates: the plan is empty")
        return
    show_gates(run)
    metric = rows[0]["metric"]
    line(f"gain: by {NAMES[metric]} on held-out images, in {unit(metric)}. p: probability of")
    line("such a gain by chance. adj. p: adjusted for the number of gates (Holm).")
    if _last_column(rows)[0] == OWN:
        line("own: what rule validation would decide by this run's evidence.")
    else:
        line(f"tested: by rule significant, at level {rows[0]['level']:.3g} for each gate.")


def show_gates(run: RunLog) -> None:
    """Print a row for each gate, and which replayed decisions its evidence contradicts."""
    made = table("gate")
    made.columns[0].max_width = 20
    made.add_column("decision", no_wrap=True)
    for name in ("gain", "95 % interval", "p", "adj. p"):
        made.add_column(name, justify="right", no_wrap=True)
    rows = verdict_rows(run)
    last, opinion = _last_column(rows)
    made.add_column(last, no_wrap=True)
    changes = [*(entry["name"] for entry in run.read()["settings"]["plan"]), TRANSFER_CHANGE]
    for row in rows:
        names = ("gain", "gain_low", "gain_high")
        gain, low, high = (gain_words(row["metric"], row[name], 1) for name in names)
        add_row(
            made,
            f"{row['gate']} {changes[row['gate'] - 1]}",
            DECISIONS[row["state"]],
            gain,
            f"{low} to {high}",
            _p_value(row["p_value"]),
            _p_value(row["p_value_adjusted"]),
            opinion(row),
        )
    show(made)
    for sentence in evidence_sentences(rows, changes):
        line(sentence)
    for row in rows:
        if row["gate"] == len(changes):
            line(f"{TRANSFER_CHANGE}: {FINAL_IS[row['decision']]}")


def _gates(run: RunLog) -> bool:
    """Whether the run has gates."""
    settings = run.read()["settings"]
    # Logs of other versions may have settings that are not valid now.
    transfer = TransferSettings.model_construct(**settings.get("transfer", {}))
    return bool(settings["plan"]) or transfer.competes


def _last_column(rows: Sequence[Mapping[str, Any]]) -> tuple[str, Callable[[Any], str]]:
    """The name and the cells of the last column: what the run's own evidence says.

    In 80 characters, there is room for one rule. If decisions were replayed, this is `validation`
    as long as each model has too few trainings for a test.
    """
    if replayed(rows) and not any(row["by_significant"] for row in rows):
        return OWN, lambda row: str(row["by_validation"])
    return "tested", lambda row: TESTED[row["by_significant"]]


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 1e-3 else f"{value:.3f}"
