"""A temporary server that ends while it starts is started again, but not for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.running import server
from flows.running.prefect_home import server_environment
from flows.running.server import (
    STARTS,
    TEMPORARY_SETTINGS,
    TemporaryServer,
    await_server,
    stop_temporary_server,
)
from flows.running.ui_server import SERVER_SETTINGS
from flows.running.watcher import start_watched
from tasks.core.errors import StageError
from tests.processes import free_port


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Servers that end at once, but for the last one that may be started; their process ids."""
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "health").touch()
    listed: list[int] = []

    def start(port: int) -> TemporaryServer:
        answers = (sys.executable, "-m", "http.server", str(port), "--directory", str(tmp_path))
        command = answers if len(listed) == STARTS - 1 else ("false",)
        process, watcher = start_watched(
            command,
            env=os.environ,
            cwd=tmp_path,
            output=subprocess.DEVNULL,
            errors=subprocess.DEVNULL,
        )
        listed.append(process.pid)
        return TemporaryServer(port, process, watcher)

    monkeypatch.setattr(server, "_started", start)
    monkeypatch.setattr(server, "_temporary", [start(free_port())])
    return listed


def test_a_server_that_ends_is_started_again(started: list[int], tmp_path: Path) -> None:
    # As when runs that start together create the same database.
    try:
        await_server(tmp_path / "run.log")
        assert len(started) == STARTS
    finally:
        stop_temporary_server()


def test_a_server_that_always_ends_is_given_up(
    started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STARTS", STARTS - 1)
    with pytest.raises(
        StageError, match=r"did not start \(exit status 1\); start the command again"
    ):
        await_server(tmp_path / "run.log")
    assert len(started) == STARTS - 1
    stop_temporary_server()


def test_a_module_of_the_working_folder_does_not_stand_in_for_a_library(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise ImportError('not this one')")
    settings = server_environment(TEMPORARY_SETTINGS | SERVER_SETTINGS)
    asked = [sys.executable, "-m", "uvicorn", "--version"]
    done = subprocess.run(asked, cwd=tmp_path, env=settings, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
