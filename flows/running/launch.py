"""Run the flow in this process: quiet Prefect, readable lines, a log file, signals, exit status."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TextIO

from flows.planning.plan import CACHED, plan
from flows.planning.stage_selection import Choice
from flows.recipe.contents import stage_names
from flows.runners.base import LOCAL, Runner
from flows.runners.choose import find_site
from flows.running.dataset_resolution import resolve
from flows.running.live import LiveView
from flows.running.server import (
    announce_run,
    announce_server,
    await_server,
    start_server,
    stop_temporary_server,
)
from flows.running.server_address import prepare_prefect
from tasks.core.errors import CriteriaError, FashionFlowError, StageError, UserError
from tasks.core.settings.run_settings import Settings
from tasks.engine.fingerprint import remember_code
from tasks.engine.profile import configure
from tasks.storage.files import Place, explaining, local_log, log_place, publish_log
from tasks.storage.run_log import INTERRUPTED, RunLog
from tasks.storage.store import Store

log = logging.getLogger("fashion_flow")

DONE, STAGE_FAILED, USER_ERROR, NO_SUCCESS, INTERRUPTED_STATUS = 0, 1, 2, 3, 130

# How long who ends a run waits for what is only good to know.
MOMENT_S = 3.0


@dataclass
class Ending:
    """How the flow's thread ended."""

    error: BaseException | None = None
    notice: str = ""
    done: threading.Event = field(default_factory=threading.Event)


def launch(
    settings: Settings,
    choice: Choice,
    store: Store,
    run_id: str,
    level: int = logging.INFO,
    *,
    replaceable: bool,
    require_success: bool = False,
    runner: Runner = LOCAL,
) -> tuple[int, str]:
    """Run the flow; return the exit status, and a notice where the data set was replaced.

    Shown are log lines from `level` on; on a terminal, what goes on stands live below them unless
    only warnings are wanted. Ctrl-C and SIGTERM end the process at once, from here on.

    Raises:
        StorageError: the run's log can't be written.
    """
    prepare_prefect()
    run_log = RunLog(store, run_id)
    with explaining(store.root), _logging(run_log.log, level) as view:
        ending = Ending()
        thread = threading.Thread(
            target=_run,
            args=(
                settings,
                choice,
                store,
                run_id,
                replaceable,
                require_success,
                runner,
                view,
                ending,
            ),
            name="flow",
            daemon=True,
        )
        with _signals() as received:
            # First of all, since it takes the longest. A signal is heeded once it can be ended.
            start_server()
            thread.start()
            # A wait with a time limit lets Python deliver signals to this, the main thread.
            while not ending.done.wait(0.2):
                if received:
                    _interrupted(run_log, store)
        if ending.error is not None:
            from tasks.engine.publish import is_lost_server

            status = _failed(ending.error, run_log, store)
            if is_lost_server(ending.error):
                # At a normal end Prefect would go on trying to send its logs for minutes.
                publish_log(run_log.log)
                _leave(status)
            return status, ending.notice
        announce_run(run_log)
        return DONE, ending.notice


def _run(
    wanted: Settings,
    choice: Choice,
    store: Store,
    run_id: str,
    replaceable: bool,
    require_success: bool,
    runner: Runner,
    view: LiveView | None,
    ending: Ending,
) -> None:
    try:
        remember_code()
        # Before a data set is fetched for a name that is none.
        choice.check(stage_names(wanted))
        site = find_site(runner, wanted.execution)
        profile = site.profile
        settings, ending.notice = resolve(
            store, wanted, profile, replaceable=replaceable, fetch=True
        )
        if ending.notice:
            log.warning(ending.notice)
        # Finds what is wrong with files and settings before Prefect is imported for them.
        stages = plan(store, settings, profile, choice)
        cached = sum(stage.state == CACHED for stage in stages)
        log.info("%d of %d stages are cached", cached, len(stages))
        if view:
            ahead = [stage for stage in stages if stage.state != CACHED]
            # The report is no stage, but is shown as one.
            total = len(stages) + (not choice.only)
            seconds = {stage.stage: stage.last["seconds"] for stage in ahead if stage.last}
            view.expect(total, seconds, site.at_once)
        if cached < len(stages) and runner.kind == "local":
            # TensorFlow is imported while Prefect waits for its server.
            threading.Thread(target=_warm_up, args=(profile,), daemon=True).start()
        announce_server()
        from flows.build_model import build_model

        await_server(log_place(RunLog(store, run_id).log))
        with explaining(store.root), _heartbeat(wanted=cached < len(stages)):
            build_model(
                settings=settings,
                store=str(store.root),
                run_id=run_id,
                choice=choice,
                require_success=require_success,
                runner=runner,
            )
    except BaseException as error:
        ending.error = error
    finally:
        ending.done.set()


def _heartbeat(*, wanted: bool) -> AbstractContextManager[Any]:
    """Settings with which Prefect's thread of heartbeats is not there where nothing is computed.

    It looks once a second whether the flow has ended, and the flow waits until it has looked.
    """
    from tasks.engine.publish import prefect_settings

    return nullcontext() if wanted else prefect_settings("flows", heartbeat_frequency=None)


def _warm_up(profile: Mapping[str, Any]) -> None:
    # What is wrong with TensorFlow is said by the first stage that needs it.
    with suppress(Exception):
        configure(profile)


@contextmanager
def _signals() -> Iterator[list[int]]:
    received: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if received:
            _leave(INTERRUPTED_STATUS)
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(run_log: RunLog, store: Store) -> NoReturn:
    """Say what is kept, tell the server, and end without waiting for what is being computed."""
    finished: list[str] = []

    def note() -> None:
        # It may have been stopped before anything was noted of it.
        with suppress(OSError, StageError):
            run_log.end(INTERRUPTED, "stopped by the user")
        with suppress(OSError, StageError):
            finished.append(f"{len(run_log.stages())} ")

    # A bucket that can't be reached keeps nobody from ending.
    _for_a_moment(note)
    log.warning(
        "interrupted: %sfinished stages are kept in %s; start the same command again to go on",
        "".join(finished),
        store.root,
    )
    # What goes on in other threads until the end is of no interest any more.
    log.setLevel(logging.CRITICAL)
    _for_a_moment(lambda: _tell_server(run_log))
    _for_a_moment(lambda: publish_log(run_log.log))
    # Threads that train can't be asked to stop; nothing of theirs is half-written (see the store).
    _leave(INTERRUPTED_STATUS)


def _for_a_moment(work: Callable[[], None]) -> None:
    """Do something, but wait for it a few seconds at most."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(MOMENT_S)


def _leave(status: int) -> NoReturn:
    """End the process without waiting for threads or for what is still to be sent."""
    for handler in log.handlers:
        if isinstance(handler, LiveView):
            handler.stop()
    with suppress(Exception):
        stop_temporary_server()
    logging.shutdown()
    os._exit(status)


def _tell_server(run_log: RunLog) -> None:
    """Mark the flow run as cancelled, so that it does not stand at Running for ever.

    What was published of its stages is on its way for as long.
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


def _failed(error: BaseException, run_log: RunLog, store: Store) -> int:
    from tasks.engine.publish import is_lost_server

    log.debug("the run failed", exc_info=error)
    if isinstance(error, UserError):
        log.error("%s", error)
        return USER_ERROR
    if isinstance(error, CriteriaError):
        log.error("%s", error)
        return NO_SUCCESS
    if isinstance(error, FashionFlowError | OSError):
        log.error("%s", error)
    elif is_lost_server(error):
        log.error("the Prefect server can't be reached any more (%s)", _first_line(error))
    else:
        log.error("%s: %s", type(error).__name__, _first_line(error))
    log.error(
        "finished stages are kept in %s; start the same command again to go on. Details: %s",
        store.root,
        log_place(run_log.log),
    )
    return STAGE_FAILED


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


@contextmanager
def _logging(path: Place, level: int) -> Iterator[LiveView | None]:
    """Our lines to the terminal; those, TensorFlow's and Prefect's noise to the run's log file."""
    with local_log(path) as file, _stderr_to(file) as terminal:
        record = logging.StreamHandler(file)
        stamp = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
        stamp.converter = time.gmtime
        record.setFormatter(stamp)
        log.setLevel(logging.DEBUG)
        log.propagate = False
        live = level < logging.WARNING and _is_screen(terminal)
        console = LiveView(terminal, level) if live else _lines(terminal, level)
        handlers = (console, record)
        for handler in handlers:
            log.addHandler(handler)
        try:
            yield console if isinstance(console, LiveView) else None
        finally:
            if isinstance(console, LiveView):
                console.stop()
            for handler in handlers:
                log.removeHandler(handler)


def _is_screen(stream: TextIO) -> bool:
    """Whether lines on it can be taken back."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _lines(stream: TextIO, level: int) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    return handler


@contextmanager
def _stderr_to(file: TextIO) -> Iterator[TextIO]:
    """Send file descriptor 2 to `file`, C++ libraries included; yield the terminal's stream."""
    sys.stderr.flush()
    terminal = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        with os.fdopen(os.dup(terminal), "w", encoding="utf-8", buffering=1) as stream:
            yield stream
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
