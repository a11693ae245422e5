"""`fashion-flow report`: print the path of a run's report, or open it."""

from __future__ import annotations

import webbrowser
from typing import Annotated

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, RunOption, StoreOption
from flows.cli.run_tables import refuse_if_complete, shown_run, state_of
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
    """Print the path of the report; of an unfinished run, the path of its log.

    Raises:
        UserError: there is no such run, or no browser to open the report with.
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
    refuse_if_complete(run, "its report is")
    logs = [path for path in (run.log.log_file(), run.log) if path.is_file()]
    printed = "its log" if logs else "its folder"
    warn(
        f"Run {run.run_id} {state_of(run)}, so it has no report: only complete runs have one. The "
        f"path printed is that of {printed}; `fashion-flow results --run {run.run_id}` shows the "
        "scores so far."
    )
    line(str(logs[0] if logs else run.folder))
