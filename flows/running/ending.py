"""End a run that was interrupted or failed: its message and its exit status."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from flows.running.run_logging import stop_views
from flows.running.server import stop_temporary_server
from tasks.core.errors import CriteriaError, FashionFlowError, StageError, UserError, whole
from tasks.core.messages import first_line
from tasks.storage.run_log import INTERRUPTED, RunLog

log = logging.getLogger("fashion_flow")

OK, STAGE_FAILED, USER_ERROR, NO_SUCCESS, INTERRUPTED_STATUS = 0, 1, 2, 3, 130
# Seconds that a shutdown waits for each piece of best-effort work.
BEST_EFFORT_S = 3.0


@contextmanager
def noting_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in the list yielded; a second one ends the process.

    SIGHUP comes when a terminal is closed. Under `nohup` it is ignored, and stays so.
    """
    received: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if received:
            leave(INTERRUPTED_STATUS)
        received.append(number)

    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    wanted = (signal.SIGINT, signal.SIGTERM, *hangup)
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(run_log: RunLog) -> NoReturn:
    """Log what is kept, tell the server, and end without waiting for running stages."""
    finished: list[str] = []

    def note() -> None:
        # The run may have been stopped before its log began.
        with suppress(OSError, StageError):
            run_log.end(INTERRUPTED, "stopped by the user")
        with suppress(OSError, StageError):
            finished.append(f"{len(run_log.stages())} ")

    # A store that cannot be reached must not delay the end.
    _best_effort(note)
    log.warning(
        "interrupted: %sfinished stages are kept in %s; start the same command again to continue",
        "".join(finished),
        run_log.store.root,
    )
    # Other threads keep running until the process ends; their messages would only confuse.
    log.setLevel(logging.CRITICAL)
    _best_effort(lambda: _tell_server(run_log))
    _best_effort(run_log.log.publish_log)
    # Threads that train can't be asked to stop. The store never shows half-written files.
    leave(INTERRUPTED_STATUS)


def leave(status: int) -> NoReturn:
    """End the process without waiting for threads or unsent events."""
    stop_views()
    with suppress(Exception):
        stop_temporary_server()
    logging.shutdown()
    os._exit(status)


def fail(error: BaseException, run_log: RunLog) -> int:
    """Log why a run failed and return its exit status.

    If the Prefect server was lost, this ends the process, because on a normal exit Prefect would
    try for minutes to send its logs.
    """
    lost = False
    # Prefect can't be imported if the mistake is in its settings.
    if not isinstance(error, UserError):
        from tasks.engine.publish import is_lost_server

        lost = is_lost_server(error)
    status = _log_failure(error, run_log, lost=lost)
    if lost:
        run_log.log.publish_log()
        leave(status)
    return status


def _log_failure(error: BaseException, run_log: RunLog, *, lost: bool) -> int:
    log.debug("the run failed", exc_info=error)
    if isinstance(error, UserError | CriteriaError):
        log.error("%s", whole(error))
        return USER_ERROR if isinstance(error, UserError) else NO_SUCCESS
    if isinstance(error, FashionFlowError | OSError):
        log.error("%s", whole(error))
    elif lost:
        log.error(
            "the Prefect server can no longer be reached (%s); check that it is running",
            first_line(error),
        )
    elif isinstance(error, MemoryError) or "can't start new thread" in str(error):
        log.error(
            "the system refuses this process more memory or threads (%s); raise its limits "
            "(`ulimit -v`, `ulimit -u`, the container's), or set execution.workers=1",
            first_line(error, 100) if str(error) else type(error).__name__,
        )
    else:
        log.error(
            "%s: %s; see whether `fashion-flow doctor` finds what is wrong, else report it with "
            "the log",
            type(error).__name__,
            first_line(error, 200) if str(error) else "no message",
        )
    log.error(
        "finished stages are kept in %s; start the same command again to continue. Details: %s",
        run_log.store.root,
        run_log.log.log_file(),
    )
    return STAGE_FAILED


def _best_effort(work: Callable[[], None]) -> None:
    """Do some work in a thread, and wait for it at most `BEST_EFFORT_S` seconds."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(BEST_EFFORT_S)


def _tell_server(run_log: RunLog) -> None:
    """Mark the flow run as cancelled, or it would remain `Running` forever in the UI.

    Also wait for artifacts that are still being published.
    """
    with suppress(Exception):
        flow_run = run_log.read()["flow_run"]
        if flow_run:
            from prefect.client.orchestration import get_client
            from prefect.states import Cancelled

            from tasks.engine.publish import await_published

            with get_client(sync_client=True) as client:
                client.set_flow_run_state(
                    flow_run, Cancelled(message="stopped by the user"), force=True
                )
            await_published()
