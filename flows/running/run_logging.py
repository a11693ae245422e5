"""Logging during a run: our lines go to the terminal, all lines to the run's log file."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from flows.running.live import LiveView
from tasks.core.messages import brief
from tasks.storage.run_log import local_log
from tasks.storage.store_path import StorePath

log = logging.getLogger("fashion_flow")


@contextmanager
def logging_run(path: StorePath, level: int) -> Iterator[LiveView | None]:
    """Show log lines from `level` on and write all of them, TensorFlow's and Prefect's to `path`.

    On the terminal, a long line is cut, and says where all of it is.

    Yields:
        The live view, if the terminal can show one and more than warnings are wanted.
    """
    with local_log(path) as file, _stderr_to(file) as terminal:
        to_file = logging.StreamHandler(file)
        stamp = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
        stamp.converter = time.gmtime
        to_file.setFormatter(stamp)
        log.setLevel(logging.DEBUG)
        log.propagate = False
        live = level < logging.WARNING and _erases(terminal)
        more = f" (all of it: {path.log_file()})"
        view = LiveView(terminal, level, more) if live else None
        handlers = (view or _plain_lines(terminal, level, more), to_file)
        for handler in handlers:
            log.addHandler(handler)
        try:
            yield view
        finally:
            if view:
                view.stop()
            for handler in handlers:
                log.removeHandler(handler)


def stop_views() -> None:
    """Remove live views from the terminal, for a process that ends without leaving the context."""
    for handler in log.handlers:
        if isinstance(handler, LiveView):
            handler.stop()


def _erases(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can erase lines."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


class _BriefLines(logging.Formatter):
    """Lines with the time of day that fit on a terminal; `more` ends those that were cut."""

    def __init__(self, more: str) -> None:
        super().__init__()
        self._more = more

    def format(self, record: logging.LogRecord) -> str:
        stamp = self.formatTime(record, "%H:%M:%S  ")
        return stamp + brief(record.getMessage(), taken=len(stamp), end=self._more)


def _plain_lines(stream: TextIO, level: int, more: str) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    handler.setFormatter(_BriefLines(more))
    return handler


@contextmanager
def _stderr_to(file: TextIO) -> Iterator[TextIO]:
    """Redirect file descriptor 2 to `file`, for C++ libraries, too; yield the original stream."""
    sys.stderr.flush()
    terminal = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        with os.fdopen(
            os.dup(terminal), "w", 1, sys.stderr.encoding, errors="backslashreplace"
        ) as stream:
            yield stream
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
