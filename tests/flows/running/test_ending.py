"""How a run ends other than well: exit status and message of each kind of error, signals."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from flows.running import ending
from flows.running.ending import (
    INTERRUPTED_STATUS,
    NO_SUCCESS,
    STAGE_FAILED,
    USER_ERROR,
    fail,
    noting_signals,
)
from tasks.core.errors import CriteriaError, StageError, UserError
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

REFUSED = (
    "the system refuses this process more memory or threads ({}); raise its limits (`ulimit -v`, "
    "`ulimit -u`, the container's), or set execution.workers=1"
)
UNKNOWN = "see whether `fashion-flow doctor` finds what is wrong, else report it with the log"


class Left(BaseException):
    """In place of the process's end."""


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses with which the process would have ended."""
    found: list[int] = []

    def leave(status: int) -> NoReturn:
        found.append(status)
        raise Left

    monkeypatch.setattr(ending, "leave", leave)
    return found


@pytest.fixture
def run_log(tmp_path: Path) -> RunLog:
    return RunLog(Store(str(tmp_path / "store")), "run-1")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("no stage 'x'"), USER_ERROR, "no stage 'x'"),
        (CriteriaError("too weak"), NO_SUCCESS, "too weak"),
        (StageError("the disk is full"), STAGE_FAILED, "the disk is full"),
        (OSError("broken pipe"), STAGE_FAILED, "broken pipe"),
        (
            ValueError("odd\nmore"),
            STAGE_FAILED,
            f"ValueError: odd; {UNKNOWN}",
        ),
        (ValueError(), STAGE_FAILED, f"ValueError: no message; {UNKNOWN}"),
        (MemoryError(), STAGE_FAILED, REFUSED.format("MemoryError")),
        (
            RuntimeError("can't start new thread"),
            STAGE_FAILED,
            REFUSED.format("can't start new thread"),
        ),
    ],
)
def test_each_kind_of_error_has_a_status_and_one_line(
    error: Exception,
    status: int,
    said: str,
    run_log: RunLog,
    left: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="fashion_flow"):
        assert fail(error, run_log) == status
    shown = [record.getMessage() for record in caplog.records]
    assert shown[0] == said
    if status == STAGE_FAILED:
        (hint,) = shown[1:]
        assert f"kept in {run_log.store.root}; start the same command again" in hint
        assert str(run_log.log) in hint
    else:
        assert len(shown) == 1, "starting again would change nothing"
    assert left == []


def test_without_its_server_a_run_does_not_wait_for_prefect(
    run_log: RunLog, left: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="fashion_flow"), pytest.raises(Left):
        fail(httpx.ConnectError("refused"), run_log)
    assert left == [STAGE_FAILED]
    assert caplog.records[0].getMessage() == (
        "the Prefect server can no longer be reached (refused); check that it is running"
    )


def test_the_first_signal_is_noted_and_the_second_ends_the_process(left: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with noting_signals() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(Left):
            os.kill(os.getpid(), signal.SIGINT)
    assert left == [INTERRUPTED_STATUS]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_closed_terminal_stops_a_run_unless_it_should_survive_that(left: list[int]) -> None:
    # The tests themselves may run under `nohup`.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with noting_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == [signal.SIGHUP]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with noting_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert left == []
