"""`fashion-flow report`: where the page of a run is."""

from __future__ import annotations

import webbrowser
from typing import Annotated

from cyclopts import Parameter

from flows.cli.options import ARTIFACTS, RunOption, StoreOption
from flows.cli.run_tables import shown_run, state_of
from flows.cli.screen import line, warn
from tasks.core.errors import UserError
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store


def report(
    *,
    run_id: RunOption = None,
    open_: Annotated[bool, Parameter("--open", help="Open the report in a browser.")] = False,
    store: StoreOption = ARTIFACTS,
) -> None:
    """Print the path of the report, or, as it is written last, of what an unfinished run has.

    Raises:
        UserError: there is no browser to open it with.
    """
    run = shown_run(Store(store), run_id)
    if not run.report.is_file():
        _show_log(run)
        return
    path = run.report.local()
    line(str(path))
    if open_ and not webbrowser.open(path.as_uri()):
        raise UserError("no browser was found; open the path above yourself.")


def _show_log(run: RunLog) -> None:
    logs = [path for path in (run.log.log_file(), run.log) if path.is_file()]
    what = "its log" if logs else "its folder"
    warn(
        f"Run {run.run_id} {state_of(run)}, so it has no report: that is written at the end of a "
        f"run. The path is that of {what}; `fashion-flow results --run {run.run_id}` shows the "
        "scores so far."
    )
    line(str(logs[0] if logs else run.folder))
