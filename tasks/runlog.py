"""The log of runs: when, where and how long, kept beside the results and never in them."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError, UserError
from tasks.core.records import Outcome, Record
from tasks.store import Store, append_line, read_lines, try_lock, write_atomically

RUNNING, DONE, FAILED, INTERRUPTED, KILLED = "running", "done", "failed", "interrupted", "killed"


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_run_id() -> str:
    """An identifier that sorts by time, e.g. `20260314-092653-5a8c`."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + f"{secrets.token_hex(2)}"


def checked_run_id(run_id: str) -> str:
    """A run's id as given, if it can be the name of a folder.

    Raises:
        UserError: it can't.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", run_id):
        raise UserError(
            f"run id {run_id!r}: expected up to 64 letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit."
        )
    return run_id


@dataclass(frozen=True)
class RunLog:
    """The log of one run in `runs/<run id>/` of a store."""

    store: Store
    run_id: str

    @property
    def folder(self) -> Path:
        """Where the log and the report of the run are."""
        return self.store.root / "runs" / self.run_id

    @property
    def report(self) -> Path:
        """Where the run's report is, once it is written."""
        return self.folder / "report.html"

    def begin(
        self, settings: Mapping[str, Any], profile: Mapping[str, Any], flow_run: str | None
    ) -> None:
        """Note what is about to run, and hold the run's lock for as long as the process lives."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "alive.lock", os.O_CREAT | os.O_RDWR, 0o644)
        try_lock(handle)
        _held.append(handle)
        self._write(
            {
                "run": self.run_id,
                "flow_run": flow_run,
                "status": RUNNING,
                "started": now(),
                "ended": None,
                "error": None,
                "settings": settings,
                "profile": profile,
                "machine": {
                    "system": platform.platform(),
                    "python": platform.python_version(),
                    "cpus": os.cpu_count(),
                },
            }
        )

    def end(self, status: str, error: str | None = None) -> None:
        """Note how the run ended. The first word counts."""
        with _lock:
            entry = self.read()
            if entry["status"] == RUNNING:
                self._write(entry | {"status": status, "ended": now(), "error": error})

    def stage(self, outcome: Outcome, state: str, seconds: float, started: str) -> None:
        """Note a finished stage: its state, key and duration."""
        key = outcome.key if isinstance(outcome, Record) else None
        append_line(
            self.folder / "stages.jsonl",
            {
                "stage": outcome.stage,
                "state": state,
                "key": key,
                "seconds": round(seconds, 3),
                "started": started,
                "reason": getattr(outcome, "reason", None),
            },
        )

    def stages(self) -> list[dict[str, Any]]:
        """The run's stages in the order in which they ended."""
        return read_lines(self.folder / "stages.jsonl")

    def read(self) -> dict[str, Any]:
        """What is known of the run; a run that stands at `running` without a process was killed."""
        path = self.folder / "run.json"
        try:
            entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StageError(f"{path} is damaged ({error}); delete its folder.") from None
        return entry

    def status(self) -> str:
        """`running`, `done`, `failed`, `interrupted`, or `killed` where nothing could be noted."""
        status: str = self.read()["status"]
        return KILLED if status == RUNNING and not self._alive() else status

    def record(self, stage: str) -> Record | None:
        """The record that a stage of the run left; None where it was skipped or never reached."""
        for entry in reversed(self.stages()):
            if entry["stage"] == stage and entry["key"]:
                return self.store.record(stage, entry["key"])
        return None

    def _alive(self) -> bool:
        try:
            handle = os.open(self.folder / "alive.lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(handle, shared=True)
        finally:
            os.close(handle)

    def _write(self, entry: Mapping[str, Any]) -> None:
        text = json.dumps(entry, indent=1, sort_keys=True) + "\n"
        write_atomically(self.folder / "run.json", text.encode())


_lock = threading.Lock()
_held: list[int] = []


def all_runs(store: Store) -> list[RunLog]:
    """Every run in the store, oldest first."""
    runs = [RunLog(store, path.parent.name) for path in (store.root / "runs").glob("*/run.json")]
    return sorted(runs, key=lambda run: (run.read()["started"], run.run_id))


def find_run(store: Store, run_id: str | None) -> RunLog:
    """The run of that id, or the latest one that is done.

    Raises:
        UserError: there is no such run.
    """
    runs = all_runs(store)
    if not runs:
        raise UserError(f"no run in {store.root} yet; start one with `fashion-flow run`.")
    if run_id is not None:
        runs = [run for run in runs if run.run_id == run_id]
        if not runs:
            raise UserError(f"no run {run_id!r} in {store.root}; `fashion-flow runs` lists them.")
        return runs[0]
    done = [run for run in runs if run.status() == DONE]
    if not done:
        raise UserError(
            f"no run in {store.root} has come to its end (the latest: {runs[-1].run_id}, "
            f"{runs[-1].status()}); start `fashion-flow run` again to go on."
        )
    return done[-1]
