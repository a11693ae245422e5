"""`fashion-flow labels`: show images whose labels are probably wrong."""

from __future__ import annotations

from flows.cli.common_options import ARTIFACTS, JsonFlag, RunOption, StoreOption
from flows.cli.results import heading, percent
from flows.cli.run_tables import refuse_if_complete, shown_run, state_of
from flows.cli.screen import add_row, line, show, show_json, table
from tasks.core.errors import UserError
from tasks.core.names import LABEL_CHECK, LABEL_ERRORS
from tasks.core.records import Record
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

# The others are in the file.
MOST_SHOWN = 20


def labels(
    *, run_id: RunOption = None, as_json: JsonFlag = False, store: StoreOption = ARTIFACTS
) -> None:
    """Print the first suspects, and where the table with all of them is.

    Raises:
        UserError: the run has not looked for label errors.
    """
    run = shown_run(Store(store), run_id)
    record = _checked(run)
    rows = run.store.table(record, LABEL_ERRORS).to_pylist()
    if as_json:
        show_json(rows)
        return
    line(heading(run))
    estimated, images = record.facts["estimated_errors"], record.facts["images"]
    line(f"{len(rows):,} suspects among {images:,} images; estimated errors: {estimated:,.0f}")
    made = table("rank", "given", "%", "suggested", "%")
    made.add_column("image", overflow="fold")
    for row in rows[:MOST_SHOWN]:
        add_row(
            made,
            str(row["rank"]),
            row["given"],
            percent(row["self_confidence"]),
            row["suggested"],
            percent(row["suggested_probability"]),
            row["origin"] or f"raw training image {row['source_position']}",
        )
    show(made)
    line("%: probability of each label, from a model that was not trained on the image.")
    line("The model's own errors are among the suspects and in the estimate: look at each image")
    line("before you change its label.")
    line(f"all {len(rows):,}: {run.store.root / record.files[LABEL_ERRORS].path}")


def _checked(run: RunLog) -> Record:
    """The record of the label check.

    Raises:
        UserError: there is none.
    """
    record = run.record(LABEL_CHECK)
    if record is not None:
        return record
    if run.read()["settings"].get("evaluation", {}).get("protocol") != "kfold":
        raise UserError(
            f"run {run.run_id} did not look for label errors, since that takes predictions on "
            "held-out images for every image; run it again with --protocol kfold."
        )
    refuse_if_complete(run, "its label check is")
    raise UserError(
        f"run {run.run_id} {state_of(run)}, and has not looked for label errors yet; start the "
        "same command again to continue it."
    )
