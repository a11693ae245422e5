"""A process ends when the one that started it is gone, whatever that one was just doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.running.watcher import start_watched
from tests.processes import alive, python, wait_for

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# Starts a watched process, prints its number, and waits.
STARTS = """
import os, sys, time
from pathlib import Path
from flows.running.watcher import start_watched
command = [sys.executable, "-c", "import time; time.sleep(600)"]
process, watcher = start_watched(command, env=os.environ, cwd=Path.cwd())
print(process.pid, flush=True)
time.sleep(600)
"""
# Ends, without a word to anything, as soon as the command's process exists: before the constructor
# of `Popen` returns.
ENDS_AT_ONCE = """
import os, subprocess, sys
from pathlib import Path
from flows.running.watcher import start_watched

class Ending(subprocess.Popen):
    def _execute_child(self, *given, **named):
        super()._execute_child(*given, **named)
        if "exec" in self.args[2]:
            print(self.pid, flush=True)
            os._exit(0)

subprocess.Popen = Ending
start_watched(
    [sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ, cwd=Path.cwd()
)
"""


def test_it_ends_when_its_starter_is_killed() -> None:
    starter = python(STARTS)
    assert starter.stdout
    with starter.stdout as said:
        watched = int(said.readline())
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    wait_for(lambda: not alive(watched), 30, "the watched process to end")


def test_it_ends_when_its_starter_ended_while_starting_it() -> None:
    starter = python(ENDS_AT_ONCE)
    assert starter.stdout
    with starter.stdout as said:
        watched = int(said.readline())
    starter.wait()
    wait_for(lambda: not alive(watched), 30, "the watched process to end")


def test_it_is_left_alone_until_then(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.getcwd(), os.environ['A'])"]
    process, watcher = start_watched(
        command, env=os.environ | {"A": "b"}, cwd=tmp_path, output=subprocess.PIPE
    )
    said, _ = process.communicate()
    assert said == f"{tmp_path} b\n".encode()
    assert process.returncode == 0
    watcher.communicate()


def test_closing_the_watchers_input_ends_it(tmp_path: Path) -> None:
    process, watcher = start_watched(SLEEP, env=os.environ, cwd=tmp_path)
    watcher.communicate()
    assert process.wait(30) == -signal.SIGTERM


def test_a_command_that_can_not_be_started_leaves_no_watcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noting(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noting)
    with pytest.raises(FileNotFoundError):
        start_watched(SLEEP, env=os.environ, cwd=tmp_path / "gone")
    (watcher,) = started
    assert watcher.returncode is not None
