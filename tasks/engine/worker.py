"""Stages on Dask workers: check that code and store are the flow's, and send it the log.

Dask is imported only on a worker.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tasks.core.errors import StageError
from tasks.core.messages import listed
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.events import EpochEvent, StageEvent
from tasks.engine.libraries import installation
from tasks.engine.profile import resolve_profile
from tasks.storage.proxies import spare_loopback

log = logging.getLogger("fashion_flow")

# For processes that our command line has not started: a cluster's workers, runs of a deployment.
spare_loopback()

EVENTS = {"stage": StageEvent, "epoch": EpochEvent}


def topic_of(run_id: str) -> str:
    """The Dask topic to which a run's workers send their log."""
    return f"fashion-flow-{run_id}"


def describe(execution: Mapping[str, Any]) -> dict[str, Any]:
    """A worker's installation, and its execution profile with these settings.

    Raises:
        UserError: a GPU is requested and the worker sees none.
    """
    settings = ExecutionSettings.model_validate(execution)
    return {"installation": installation(), "profile": resolve_profile(settings)}


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """The differences between two installations as text; empty if there are none."""
    return listed(
        [
            f"{name} {found.get(name, 'none')[:12]} instead of {expected.get(name, 'none')[:12]}"
            for name in sorted({*found, *expected})
            if found.get(name) != expected.get(name)
        ],
        160,
    )


def refuse_other_code(worker: str, differing: str) -> None:
    """Refuse a worker whose code or libraries could give other keys or other results.

    Raises:
        StageError: `differing` is not empty.
    """
    if differing:
        raise StageError(
            f"the worker {worker} has other code or libraries than the run: {differing}; install "
            "the run's versions there and restart the worker."
        )


@contextmanager
def on_worker(
    run_id: str, expected: Mapping[str, str], sees_run: Callable[[], bool]
) -> Iterator[None]:
    """Check that a Dask worker may compute a stage, and send its log to the flow meanwhile.

    Args:
        run_id: the run to which the stage belongs.
        expected: the flow's installation.
        sees_run: whether the store, as this worker sees it, contains the run.

    Raises:
        StageError: the worker has other code or libraries, or sees another store.
    """
    from distributed import get_worker

    worker = get_worker()
    refuse_other_code(worker.address, differences(installation(), expected))
    if not sees_run():
        raise StageError(
            f"the worker {worker.address} on {platform.node()} does not see the run's store; "
            "--store must name a folder or bucket that the flow and all workers share."
        )
    sender = _Sender(lambda message: worker.log_event(topic_of(run_id), message))
    # The flow decides which of these lines it shows.
    log.setLevel(logging.DEBUG)
    log.addHandler(sender)
    try:
        yield
    finally:
        log.removeHandler(sender)


class _Sender(logging.Handler):
    """Sends the log records of the thread that created it; a worker may have several threads."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(logging.DEBUG)
        self._send = send
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._send(packed(record))


def packed(record: logging.LogRecord) -> dict[str, Any]:
    """A log record as plain values, which Dask can send."""
    message: dict[str, Any] = {"level": record.levelno, "text": record.getMessage()}
    event = getattr(record, "event", None)
    for name, kind in EVENTS.items():
        if isinstance(event, kind):
            message |= {"kind": name, "event": dict(vars(event))}
    if isinstance(event, EpochEvent):
        message["event"]["row"] = {name: float(value) for name, value in event.row.items()}
    return message


def unpacked(message: Mapping[str, Any]) -> logging.LogRecord:
    """The log record from which `packed` made the message."""
    record = logging.LogRecord(
        log.name, message["level"], "", 0, "%s", (message["text"],), exc_info=None
    )
    if "kind" in message:
        record.event = EVENTS[message["kind"]](**message["event"])
    return record
