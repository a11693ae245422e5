"""A watcher ends a process when the one that started the watcher is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from flows.running.watcher import watch
from tests.processes import alive, python, wait_for

# Starts a process and a watcher of it, prints its number, and waits.
STARTS = """
import subprocess, sys, time
from flows.running.watcher import watch
process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
watcher = watch(process.pid)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_the_process_when_its_own_starter_is_killed() -> None:
    starter = python(STARTS)
    assert starter.stdout
    with starter.stdout as said:
        watched = int(said.readline())
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    wait_for(lambda: not alive(watched), 30, "the watched process to end")


def test_it_leaves_the_process_alone_until_then() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watcher = watch(process.pid)
    assert process.poll() is None
    process.communicate(b"\n")
    assert process.returncode == 0
    watcher.communicate()
