"""Loaded by each Dask worker of the tests (`--preload`): notes what it executes, and its size.

Writes a line whenever a task begins or ends: its key, the size in bytes of the task or of its
result (pickled, as Dask sends them), and the tasks that were executing at that time. The stage in
`DIES_OF` kills it after `DEATH_S` seconds.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin
from distributed.protocol.pickle import dumps

# Long enough for Prefect to send that the stage is running.
DEATH_S = 2.0


def size_of(value: Any) -> int:
    """The size in bytes of a value as Dask pickles it."""
    return len(dumps(value))  # type: ignore[no-untyped-call]


class Watch(WorkerPlugin):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._path = Path(os.environ["WATCH_FOLDER"]) / f"{os.getpid()}.jsonl"

    def transition(self, key: Any, start: Any, finish: Any, **_: Any) -> None:
        state = self._worker.state
        executing = sorted(str(task.key) for task in state.executing)
        if finish == "executing":
            size = size_of(state.tasks[key].run_spec)
            self._note(key=key, what="begins", size=size, executing=executing)
            if str(key)[:-37] == os.environ.get("DIES_OF"):
                threading.Timer(DEATH_S, os.kill, (os.getpid(), signal.SIGKILL)).start()
        elif start == "executing":
            left = self._worker.data.get(key)
            self._note(key=key, what="ends", size=size_of(left), executing=executing)

    def _note(self, **entry: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


async def dask_setup(worker: Worker) -> None:
    await worker.plugin_add(plugin=Watch(worker), name="watch")
