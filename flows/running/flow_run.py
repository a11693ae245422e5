"""The parts of a flow run around its stages: its name, checks, log and end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import prefect.runtime

from flows.planning.stage_selection import StageSelection
from flows.recipe.contents import stage_names
from flows.recipe.own_code import ALLOW_FUNCTIONS, functions_of, is_allowed
from flows.recipe.presets import NOTEBOOK
from flows.recipe.settle import settled
from flows.running.server import announce_run
from tasks.core.errors import CriteriaError, StageError, UserError
from tasks.core.messages import quoted
from tasks.core.names import SUCCESS
from tasks.core.records import Outcome, Record
from tasks.core.settings.run_settings import Settings
from tasks.engine.publish import await_published, is_lost_server
from tasks.storage.run_log import DONE, FAILED, INTERRUPTED, RunLog

# A run whose worker died is retried (flows/deployment/recovery.py), but not forever.
MOST_ATTEMPTS = 5


def flow_run_name() -> str:
    """The name of the flow run in the UI: the run's id and its characteristics."""
    given = prefect.runtime.flow_run.parameters
    asked = Settings.model_validate(given.get("settings", NOTEBOOK))
    # A run that can't be settled says so when it starts; until then it needs a name.
    with suppress(UserError):
        asked = settled(asked)
    return ", ".join([str(given.get("run_id") or "build-model"), *characteristics(asked)])


def characteristics(settings: Settings) -> list[str]:
    """The data set (in capitals if it is synthetic), the decision rule and the protocol."""
    drawn = settings.dataset == "synthetic"
    data = "SYNTHETIC DATA" if drawn else Path(settings.dataset).name
    return [data, f"rule {settings.rule}", *settings.evaluation.words()]


def check_attempts() -> None:
    """Give up on a run whose process has died too often.

    Raises:
        StageError: there were already `MOST_ATTEMPTS` attempts.
    """
    if prefect.runtime.flow_run.run_count > MOST_ATTEMPTS:
        raise StageError(
            f"gave up: the run's process has died {MOST_ATTEMPTS} times, most likely because it "
            "ran out of memory; see the log of its worker, and start another run to continue."
        )


def check_request(settings: Settings, choice: StageSelection, *, require_success: bool) -> None:
    """Refuse a choice of stages that the run can't satisfy, and functions that it may not execute.

    Raises:
        UserError: it names an unknown stage, or omits `success` although it is required; a
            function, see `check_functions`.
    """
    check_functions(settings)
    choice.check(stage_names(settings))
    if require_success and choice.only and SUCCESS not in choice.only:
        raise UserError("--require-success needs the stage success; add --only success.")


def check_functions(settings: Settings) -> None:
    """Refuse a function of a deployment's parameters unless the worker's environment allows it.

    Parameters alone, such as those of the run form, then don't choose which code a worker executes.
    Job variables of a run can set the environment variable, unless the pool's template prevents it
    (docs/deployment.md).

    Raises:
        UserError: it is not allowed; the message names the function and the variable.
    """
    if not prefect.runtime.deployment.id:
        return
    for function in functions_of(settings):
        if not is_allowed(function, os.environ.get(ALLOW_FUNCTIONS, "")):
            raise UserError(
                f"network.function {quoted(function, 120)}: this worker does not allow it. Set "
                f"{ALLOW_FUNCTIONS} to the folder of the file (or to 1 for any) in the worker's "
                "environment, for containers by `fashion-flow deploy --env`; or run it with "
                "`fashion-flow run` (docs/deployment.md)."
            )


def check_success(outcome: Outcome, report: str) -> None:
    """Fail the run if a success criterion is not met.

    Raises:
        CriteriaError: it is not met; the message names the report, if there is one.
    """
    assert isinstance(outcome, Record), "success is never skipped"
    if not outcome.facts["met"]:
        where = f"; for details see the report: {report}" if report else ""
        raise CriteriaError(f"{outcome.facts['message']}{where}")


@contextmanager
def crash_without_server() -> Iterator[None]:
    """End a worker's run as crashed if it lost the Prefect server, so that it is retried.

    Prefect would mark a run that raises as failed, and failed runs are not retried.
    """
    try:
        yield
    except Exception as error:
        if prefect.runtime.deployment.id and is_lost_server(error):
            raise SystemExit(f"the Prefect server can't be reached: {error}") from error
        raise


@contextmanager
def logged(
    run_log: RunLog, settings: Settings, profile: Mapping[str, Any], choice: StageSelection
) -> Iterator[None]:
    """Record the run's begin and its end in the run's log."""
    values = settings.model_dump(mode="json")
    run_log.begin(values, profile, prefect.runtime.flow_run.id, sorted(choice.only))
    announce_run(run_log)
    try:
        yield
    except BaseException as error:
        # Prefect cancels a run with an error that is not an Exception.
        failed = isinstance(error, Exception)
        # On a full disk this fails, too, but the error itself matters more.
        with suppress(OSError, StageError):
            run_log.end(FAILED if failed else INTERRUPTED, str(error) or type(error).__name__)
        raise
    else:
        run_log.end(DONE)
    finally:
        # Prefect closes its clients when the flow ends.
        await_published()
