"""Run the flow in this process, with a live view, a log file, signals and an exit status."""

from __future__ import annotations

import logging
import textwrap
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from flows.planning.plan import CACHED, Planned, plan
from flows.planning.stage_selection import StageSelection
from flows.recipe.contents import stage_names
from flows.recipe.settle import rule_words
from flows.runners.base import LOCAL, ComputeSite, Runner
from flows.runners.choose import find_site
from flows.running.dataset_resolution import resolve
from flows.running.ending import OK, fail, interrupt, noting_signals
from flows.running.live import LiveView
from flows.running.run_logging import logging_run
from flows.running.server import (
    announce_run,
    announce_server,
    await_server,
    find_server,
    start_server,
)
from flows.running.server_check import import_prefect, require_settings
from tasks.core.settings.run_settings import Settings
from tasks.engine.fingerprint import remember_code
from tasks.engine.profile import configure
from tasks.storage.files import explaining
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

# Columns of the narrowest screen that the time and a few spaces leave.
_LINE = 68

log = logging.getLogger("fashion_flow")


@dataclass(frozen=True)
class RunRequest:
    """A run that a user asks for.

    Attributes:
        settings: everything that the results depend on.
        choice: which stages run, and which of them are recomputed even if they are cached.
        store: where all results are stored.
        run_id: the name of the run in the store's log.
        replaceable: whether synthetic images may replace Fashion-MNIST if it is not available.
        require_success: whether the run fails if a success criterion is not met.
        runner: where stages are computed.
    """

    settings: Settings
    choice: StageSelection
    store: Store
    run_id: str
    replaceable: bool
    require_success: bool = False
    runner: Runner = LOCAL


@dataclass
class Ending:
    """How the flow's thread ended: its error, the notice on the data set, whether it is done."""

    error: BaseException | None = None
    notice: str = ""
    done: threading.Event = field(default_factory=threading.Event)


def launch(request: RunRequest, level: int = logging.INFO) -> tuple[int, str]:
    """Run the flow; return the exit status, and a notice if the data set was replaced.

    Log lines from `level` on are shown. A terminal also shows what is in progress below them,
    unless only warnings are wanted. Ctrl-C, SIGTERM and SIGHUP end the process.

    Raises:
        StageError: the Prefect server that the user named can't be used, or the folder of a
            temporary one can't be written.
        StorageError: the store can't be used, or the run's log can't be written.
        UserError: Prefect's settings or a proxy are malformed.
    """
    request.store.check_usable()
    has_server = find_server()
    run_log = RunLog(request.store, request.run_id)
    with explaining(request.store.root), logging_run(run_log.log, level) as view:
        ending = Ending()
        thread = threading.Thread(
            target=_run, args=(request, view, ending), name="flow", daemon=True
        )
        with noting_signals() as received:
            # Started first because it takes longest. The loop below handles signals that arrive
            # meanwhile.
            if not has_server:
                start_server()
            thread.start()
            # Waiting with a time limit lets Python deliver signals to this, the main thread.
            while not ending.done.wait(0.2):
                if received:
                    interrupt(run_log)
        if ending.error is not None:
            return fail(ending.error, run_log), ending.notice
        announce_run(run_log)
        return OK, ending.notice


def _run(request: RunRequest, view: LiveView | None, ending: Ending) -> None:
    """Run the flow in its own thread and note how it ends."""
    try:
        remember_code()
        # Says what is wrong with them. A temporary server does not read them, and its address must
        # be known before Prefect is imported.
        require_settings()
        # Checked before a data set is downloaded for a run that can't start.
        request.choice.check(stage_names(request.settings))
        site = find_site(request.runner, request.settings.execution)
        settings, ending.notice = resolve(
            request.store,
            request.settings,
            site.profile,
            replaceable=request.replaceable,
            fetch=True,
        )
        if ending.notice:
            log.warning(ending.notice)
        # Finds mistakes in files and settings before Prefect is imported.
        stages = plan(request.store, settings, site.profile, request.choice)
        computing = [stage for stage in stages if stage.state != CACHED]
        log.info("%d of %d stages are cached", len(stages) - len(computing), len(stages))
        if settings.change_names:
            for part in textwrap.wrap(rule_words(settings), _LINE):
                log.info("%s", part)
        if view:
            _announce_work(view, stages, site, whole=not request.choice.only)
        if computing and request.runner.kind == "local":
            # Imports TensorFlow while Prefect waits for its server. The process waits for its end,
            # because it would abort if a thread were stopped in the middle of a C++ library.
            threading.Thread(target=_warm_up, args=(site.profile,)).start()
        announce_server()
        _call_flow(request, settings, computes=bool(computing))
    except BaseException as error:
        ending.error = error
    finally:
        ending.done.set()


def _announce_work(
    view: LiveView, stages: Sequence[Planned], site: ComputeSite, *, whole: bool
) -> None:
    """Tell the view which work to expect; the report counts as a stage of a whole run."""
    ahead = [stage for stage in stages if stage.state != CACHED]
    seconds = {stage.stage: stage.last["seconds"] for stage in ahead if stage.last}
    view.expect(len(stages) + whole, seconds, site.concurrency)


def _call_flow(request: RunRequest, settings: Settings, *, computes: bool) -> None:
    import_prefect()
    from flows.build_model import build_model

    await_server(RunLog(request.store, request.run_id).log.log_file())
    with explaining(request.store.root), _heartbeat(wanted=computes):
        build_model(
            settings=settings,
            store=str(request.store.root),
            run_id=request.run_id,
            choice=request.choice,
            require_success=request.require_success,
            runner=request.runner,
        )


def _heartbeat(*, wanted: bool) -> AbstractContextManager[Any]:
    """Prefect settings without the heartbeat thread, for a run that computes nothing.

    The thread checks once a second whether the flow has ended, and the flow waits for that check.
    """
    from tasks.engine.publish import prefect_settings

    return nullcontext() if wanted else prefect_settings("flows", heartbeat_frequency=None)


def _warm_up(profile: Mapping[str, Any]) -> None:
    # Errors are ignored here, because the first stage that needs TensorFlow reports them.
    with suppress(Exception):
        configure(profile)
