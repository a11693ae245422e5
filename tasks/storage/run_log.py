"""The log of runs: dates, durations and machines, which results never contain."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from tasks.core.errors import StageError, UserError
from tasks.core.messages import quoted
from tasks.core.records import Outcome, Record, digest_of
from tasks.storage.files import (
    CHECK,
    append_line,
    checked,
    damaged_lines,
    entries,
    read_lines,
)
from tasks.storage.locks import seems_locked
from tasks.storage.store import RUN_INDEX, RUNS, Store
from tasks.storage.store_path import Held, StorePath

RUNNING, DONE, FAILED, INTERRUPTED, KILLED = "running", "done", "failed", "interrupted", "killed"
TAKEN = "taken"
# A process that checks whether a run is alive holds the run's lock, for less than this.
LOOKING_S = 5.0
LOCAL_POLL_S = 0.01
# How many of the latest runs are looked for although a listing does not show them.
UNLISTED = 30
RUN, STAGE_LINES, ALIVE = "run.json", "stages.jsonl", "alive.lock"
RUN_LOG, REPORT, MODEL = "run.log", "report.html", "model"


def now() -> str:
    """The current time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_run_id() -> str:
    """An identifier that sorts by time, e.g. `20260314-092653-5a8c`."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + f"{secrets.token_hex(2)}"


def checked_run_id(run_id: str) -> str:
    """Return the id of a run, which must be usable as the name of a folder.

    Raises:
        UserError: it is not usable.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", run_id):
        raise UserError(
            f"run id {quoted(run_id)}: expected up to 64 letters, digits, dots, dashes or "
            "underscores, beginning with a letter or digit."
        )
    return run_id


@dataclass(frozen=True)
class RunLog:
    """The log of one run in `runs/<run id>/` of a store."""

    store: Store
    run_id: str

    @property
    def folder(self) -> StorePath:
        """The folder of the run's log and report."""
        return self.store.root / RUNS / self.run_id

    @property
    def log(self) -> StorePath:
        """The file of all lines that the run's process logged, complete when it ends."""
        return self.folder / RUN_LOG

    @property
    def report(self) -> StorePath:
        """The run's report, once it is written."""
        return self.folder / REPORT

    @property
    def model_folder(self) -> StorePath:
        """The folder of the run's final model and its card, once they are written."""
        return self.folder / MODEL

    def begin(
        self,
        settings: Mapping[str, Any],
        profile: Mapping[str, Any],
        flow_run: str | None,
        only: Sequence[str] = (),
    ) -> None:
        """Record that the run starts, and hold its lock until it or the process ends.

        Raises:
            UserError: a run with that id is still running in another process.
        """
        self._hold()
        append_line(self.store.root / RUN_INDEX, {"run": self.run_id, "began": now()})
        self._write(
            {
                "run": self.run_id,
                "flow_run": flow_run,
                "status": RUNNING,
                "started": now(),
                "ended": None,
                "error": None,
                "only": list(only),
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
        """Record how the run ended, unless that is recorded already, and release its lock."""
        with _lock:
            try:
                entry = self.read()
                if entry["status"] == RUNNING:
                    self._write(entry | {"status": status, "ended": now(), "error": error})
            finally:
                self._release()

    def forget(self) -> None:
        """Record in the index that the run's folder is removed; its lock must be held."""
        append_line(self.store.root / RUN_INDEX, {"run": self.run_id, "removed": now()})

    def taken(self, stage: str, key: str) -> None:
        """Record that the run is about to use or compute a result; its lock must be held."""
        append_line(
            self.folder / STAGE_LINES,
            {"stage": stage, "state": TAKEN, "key": key, "started": now()},
        )

    def stage(
        self,
        outcome: Outcome,
        state: str,
        started: str,
        seconds: float = 0.0,
        resumed_after: int = 0,
    ) -> None:
        """Record a finished stage.

        Args:
            outcome: its record, or why it was skipped.
            state: its final state, in lower case.
            started: when it started, as `now` gives it.
            seconds: how long it was computed.
            resumed_after: the number of epochs that were restored from a checkpoint.
        """
        key = outcome.key if isinstance(outcome, Record) else None
        append_line(
            self.folder / STAGE_LINES,
            {
                "stage": outcome.stage,
                "state": state,
                "key": key,
                "seconds": round(seconds, 3),
                "resumed_after": resumed_after,
                "started": started,
                "reason": getattr(outcome, "reason", None),
            },
        )

    def stages(self) -> list[dict[str, Any]]:
        """The lines of the run's finished stages, in the order in which they ended."""
        return [line for line in read_lines(self.folder / STAGE_LINES) if line["state"] != TAKEN]

    def results(self) -> set[tuple[str, str]]:
        """Stage and key of every result that the run used, computed, or started to compute."""
        lines = read_lines(self.folder / STAGE_LINES)
        return {(line["stage"], line["key"]) for line in lines if line["key"]}

    def fault(self) -> str | None:
        """The fault of the run's log; None if it is intact and complete."""
        try:
            done = self.read()["status"] == DONE
        except StageError:
            return f"{RUN} is missing or damaged"
        lines = self.folder / STAGE_LINES
        if damaged_lines(lines):
            numbers = ", ".join(map(str, damaged_lines(lines)))
            return f"{STAGE_LINES} is damaged (line {numbers})"
        return f"{STAGE_LINES} is missing" if done and not lines.is_file() else None

    def read(self) -> dict[str, Any]:
        """The entry of `run.json`; see `status` for runs that were killed.

        Raises:
            StageError: it is missing or damaged.
        """
        path = self.folder / RUN
        try:
            entry = checked(path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise StageError(
                f"{path} can't be read ({error.strerror}); check its permissions."
            ) from None
        if entry is None:
            raise StageError(f"{path} is damaged; delete its folder to remove the run.")
        return entry

    def status(self) -> str:
        """`running`, `done`, `failed`, `interrupted`, or `killed` if it ended unrecorded."""
        status: str = self.read()["status"]
        return KILLED if status == RUNNING and not self._alive() else status

    def record(self, stage: str) -> Record | None:
        """The record of a stage of the run; None if the stage was skipped or never reached."""
        for entry in reversed(self.stages()):
            if entry["stage"] == stage and entry["key"]:
                return self.store.record(stage, entry["key"])
        return None

    def _hold(self) -> None:
        path = self.folder / ALIVE
        if path in _held:
            return
        end = time.monotonic() + LOOKING_S + path.lease_s
        while (held := path.hold()) is None:
            if time.monotonic() > end:
                raise UserError(
                    f"run {quoted(self.run_id)} is still running in another process; choose "
                    "another run id."
                )
            # On a disk, another process that looks whether the run lives holds the lock briefly.
            time.sleep(path.poll_s if path.lease_s else LOCAL_POLL_S)
        _held[path] = held

    def _release(self) -> None:
        held = _held.pop(self.folder / ALIVE, None)
        if held is not None:
            held.release()

    def _alive(self) -> bool:
        # Where locks don't work, what the log says must do.
        return seems_locked(self.folder / ALIVE, otherwise=True)

    def _write(self, entry: Mapping[str, Any]) -> None:
        signed = {**entry, CHECK: digest_of(entry)[:16]}
        text = json.dumps(signed, indent=1, sort_keys=True) + "\n"
        (self.folder / RUN).write(text.encode())


@contextmanager
def local_log(path: StorePath) -> Iterator[TextIO]:
    """A local text file to which a run's log is appended, published at the end."""
    local = path.log_file()
    local.parent.mkdir(parents=True, exist_ok=True)
    with local.open("a", encoding="utf-8", buffering=1) as file:
        try:
            yield file
        finally:
            path.publish_log()


_lock = threading.Lock()
_held: dict[StorePath, Held] = {}


def begins(store: Store) -> dict[str, str]:
    """When each run in the index began last, the latest first, without those that were removed."""
    last: dict[str, str] = {}
    for line in reversed(read_lines(store.root / RUN_INDEX)):
        last.setdefault(line["run"], line.get("began", ""))
    return {run_id: began for run_id, began in last.items() if began}


def run_ids(store: Store) -> tuple[list[str], list[str]]:
    """The ids of all runs: those that only a listing shows, and those in the index, by begin.

    The index is current even where a listing is not: those of some buckets and network file systems
    lag. Runs of earlier versions are in no index. A run that was removed by hand may be in either.
    """
    listed = {path.name for path in entries(store.root / RUNS) if path.is_dir()}
    begun = begins(store)
    indexed = [run_id for place, run_id in enumerate(begun) if run_id in listed or place < UNLISTED]
    return sorted(listed - begun.keys()), indexed[::-1]


def all_runs(store: Store) -> list[RunLog]:
    """Every run in the store whose log is readable, oldest first.

    The index counts more than the dates in it: a clock may have been set back.
    """
    listed, indexed = run_ids(store)
    found, latest = [], ""
    for number, run_id in enumerate([*listed, *indexed]):
        run = RunLog(store, run_id)
        with suppress(StageError):
            started = run.read()["started"]
            latest = max(latest, started) if number >= len(listed) else ""
            found.append((latest or started, number, run))
    return [run for *_, run in sorted(found, key=lambda item: item[:2])]


def damaged_runs(store: Store) -> list[str]:
    """The ids of the runs whose log is damaged."""
    readable = {run.run_id for run in all_runs(store)}
    listed, indexed = run_ids(store)
    others = [RunLog(store, run_id) for run_id in {*listed, *indexed} - readable]
    return sorted(run.run_id for run in others if (run.folder / RUN).exists())


def no_run(store: Store) -> str:
    """The message that there is no run to show; it names runs whose log is damaged."""
    damaged = damaged_runs(store)
    beside = f" except those whose log is damaged ({', '.join(damaged)})" if damaged else ""
    return f"no run in {store.root} yet{beside}"


def computed(store: Store) -> dict[str, dict[str, Any]]:
    """By key, the log's line about the latest computation of a result."""
    return {
        line["key"]: line
        for run in all_runs(store)
        for line in run.stages()
        if line["state"] not in ("cached", "skipped")
    }


def find_run(store: Store, run_id: str | None) -> RunLog:
    """The run with that id, or the latest one that finished with all of its stages.

    Raises:
        UserError: there is no such run.
    """
    runs = all_runs(store)
    if not runs:
        raise UserError(
            f"{no_run(store)}; start one with `fashion-flow run`, or name another store with "
            "--store."
        )
    if run_id is not None:
        runs = [run for run in runs if run.run_id == run_id]
        if not runs:
            raise UserError(f"no run {quoted(run_id)} in {store.root}; see `fashion-flow runs`.")
        return runs[0]
    done = [run for run in runs if run.status() == DONE and not run.read()["only"]]
    if not done:
        raise UserError(
            f"no run in {store.root} has finished (the latest: {runs[-1].run_id}, "
            f"{runs[-1].status()}); start `fashion-flow run` again to continue it."
        )
    return done[-1]
