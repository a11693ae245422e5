"""`fashion-flow run`: run the workflow and print its results."""

from __future__ import annotations

import logging
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, StoreOption
from flows.cli.options import RequireSuccessFlag, RunnerOptions, SettingsOptions, StageOptions
from flows.cli.results import show_files, show_scores
from flows.cli.run_tables import verdict_rows
from flows.cli.screen import Closed, line, out, warn
from flows.cli.verdicts import show_gates
from flows.running.ending import NO_SUCCESS, OK
from flows.running.launch import RunRequest, launch
from tasks.core.names import VGG16_WEIGHTS
from tasks.storage.run_log import RunLog, new_run_id
from tasks.storage.store import Store


def run(
    *,
    changes: SettingsOptions = SettingsOptions(),
    stages: StageOptions = StageOptions(),
    store: StoreOption = ARTIFACTS,
    require_success: RequireSuccessFlag = False,
    runner: RunnerOptions = RunnerOptions(),
    quiet: Annotated[
        bool, Parameter(help="Print only warnings, errors and the path of the report.")
    ] = False,
    verbose: Annotated[bool, Parameter(help="Print a line for each epoch.")] = False,
) -> int:
    """Run the flow, print its results, and return the exit status."""
    opened = Store(store)
    chosen = runner.chosen()
    request = RunRequest(
        changes.settings(),
        stages.selection(),
        opened,
        new_run_id(),
        replaceable=changes.replaceable,
        require_success=require_success,
        runner=chosen,
    )
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    status, notice = launch(request, level)
    # Even if nobody reads all of this output, the exit status is the run's.
    with suppress(Closed):
        if notice:
            warn(notice)
        if status in (OK, NO_SUCCESS) and not stages.only:
            finished = RunLog(opened, request.run_id)
            if quiet:
                line(str(finished.report))
            else:
                _show_end(finished)
    return status


def _show_end(run: RunLog) -> None:
    """Print scores, verdicts, where the run's files are, and what to try next."""
    show_scores(run)
    if verdict_rows(run):
        line("")
        show_gates(run)
    line("")
    show_files(run)
    _show_next(run)


def _show_next(run: RunLog) -> None:
    """Suggest what to do next, as commands for copying."""
    settings = run.read()["settings"]
    root = run.store.root
    store = (
        "" if str(root) == str(Path(ARTIFACTS).resolve()) else f" --store {shlex.quote(str(root))}"
    )
    steps = [(f"fashion-flow report --open{store}", "see the whole report")]
    if settings["evaluation"]["replicates"] == 1 and settings["plan"]:
        steps.append(
            ("the same command with --replicates 5", "see which verdicts are more than chance")
        )
    skipped = {entry["stage"] for entry in run.stages() if entry["state"] == "skipped"}
    if VGG16_WEIGHTS in skipped:
        steps.append(("the same command with --vgg16-weights FILE", "transfer from VGG16 too"))
    steps.append((f"fashion-flow predict IMAGE...{store}", "classify pictures with the model"))
    line("")
    line("next:")
    # Commands with long paths do not count, or they would widen the column for all.
    room = out.width - 4 - max(len(purpose) for _, purpose in steps)
    width = max((len(command) for command, _ in steps if len(command) <= room), default=0)
    for command, purpose in steps:
        line(f"  {command:<{width}}  {purpose}")
