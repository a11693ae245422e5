"""The last stage of each run: write its report and the folder of its final model."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from tasks.core.names import FINAL, PREPROCESS, REPORT
from tasks.core.records import Outcome, Record
from tasks.core.settings.run_settings import Settings
from tasks.engine.events import stage_is
from tasks.engine.publish import publish_summary
from tasks.engine.stage import RunContext
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

# The kinds of files that are copied from the final model's record into its folder.
MODEL_KINDS = ("keras", "h5", "json")


@task(name=REPORT, task_run_name=REPORT, persist_result=False)
def report(settings: Settings, outcomes: dict[str, Outcome], context: RunContext) -> str:
    """Write the run's report and model folder, publish its summary; return the report's path.

    It is never cached, because each run has its own report.
    """
    # Imported here because Jinja is needed only at the end of a run.
    from tasks.reporting.gather import gather_view
    from tasks.reporting.model_card import render_model_card
    from tasks.reporting.page import render_report
    from tasks.reporting.summary import render_summary

    run_log = RunLog(Store(context.store_url), context.run_id)
    path = str(run_log.report)
    view = gather_view(settings, outcomes, run_log, context.profile)
    run_log.report.write(render_report(view).encode())
    final, arrays = outcomes[FINAL], outcomes[PREPROCESS]
    assert isinstance(final, Record), "a complete run has a final model"
    assert isinstance(arrays, Record), "a complete run has its training arrays"
    card = render_model_card(view, final, about_images=arrays.facts)
    _write_model_folder(run_log, final, card)
    publish_summary(render_summary(view, path), f"Results on {view.dataset}")
    stage_is(REPORT, "Completed", path)
    return path


def _write_model_folder(run_log: RunLog, final: Record, card: str) -> None:
    """Copy the final model's files into a folder of the run, with the card as `README.md`."""
    folder = run_log.model_folder
    for name, file in final.files.items():
        if file.kind in MODEL_KINDS:
            content = run_log.store.content(final, name)
            (folder / Path(file.path).name).write(content)
    (folder / "README.md").write(card.encode())
