"""Cleaning a store: removing results and runs that are no longer needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tasks.core.errors import StageError, StorageError
from tasks.storage.checkpoints import is_checkpoint, is_snapshot
from tasks.storage.files import entries, relative
from tasks.storage.inventory import (
    STRAY,
    Finding,
    finding,
    has_begun,
    is_only_ours,
    run_folders,
    stage_folders,
    strays,
    unnamed,
    why_unnamed,
)
from tasks.storage.locks import HeldFile, check_held, locked_if_free
from tasks.storage.run_log import ALIVE, DONE, RUNNING, RunLog, all_runs, begins, run_ids
from tasks.storage.store import RECORD, Store
from tasks.storage.store_path import Held, StorePath

# A run's folder exists for some seconds before the run holds its lock.
STARTING_S = 600

# Replaces the lock in a dry run, which takes none.
NOT_TAKEN = HeldFile(-1)


@dataclass(frozen=True)
class Cleaning:
    """The result of `clean`.

    Attributes:
        removed: the files and folders that were removed, or would be in a dry run.
        locked: folders of stages that were kept because they are being computed.
        doubts: damaged logs of kept runs; if there are any, all results were kept.
    """

    removed: tuple[Finding, ...]
    locked: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    @property
    def freed(self) -> int:
        """The number of bytes in the removed files."""
        return sum(item.size for item in self.removed)


def clean(store: Store, keep: int, *, dry_run: bool) -> Cleaning:
    """Remove results that no kept run uses; with `dry_run`, only list them.

    It keeps the last `keep` runs, the latest that finished with all of its stages, those that are
    running, those whose log is damaged, all results that any of these used, locked stages, and the
    log of test scorings. If a kept run's log is damaged, it keeps all results.
    """
    removed: list[Finding] = []
    locked: list[str] = []
    # Known before it is decided which runs are kept, so that those that begin later are noticed.
    before = _begins(store)
    runs = run_folders(store)
    old = _old_runs(store, runs, keep)
    doubtful = [run for run in runs if run.run_id not in old and has_begun(run) and run.fault()]
    used = _Used(store, before, _kept(store, before, runs, old))
    for folder in stage_folders(store):
        with _free(store.lock_path(folder), dry_run=dry_run) as free:
            if free is None:
                locked.append(relative(folder, store.root))
            elif doubtful or used.includes(folder):
                removed += _tidy(store, folder, dry_run=dry_run)
            else:
                removed.append(finding(store, folder, "no kept run uses it"))
                if not dry_run:
                    check_held(free)
                    _remove_stage(folder)
                    store.lock_path(folder).unlink(missing_ok=True)
    removed += _remove_runs(
        store, {run_id: before.get(run_id, "") for run_id in old}, dry_run=dry_run
    )
    for path in strays(store):
        removed.append(finding(store, path, STRAY))
        if not dry_run:
            path.unlink(missing_ok=True)
    doubts = tuple(f"{run.folder}: {run.fault()}" for run in doubtful)
    return Cleaning(tuple(removed), tuple(locked), doubts)


class _Used:
    """The results used by the kept runs, including runs that begin during the cleaning.

    Args:
        store: the store.
        before: when each run began last, known before it was decided which are kept.
        kept: the ids of the kept runs.
    """

    def __init__(self, store: Store, before: Mapping[str, str], kept: set[str]) -> None:
        self._store = store
        self._before = before
        self._kept = kept
        self._ended: dict[tuple[str, str], set[tuple[str, str]]] = {}

    def includes(self, folder: StorePath) -> bool:
        """Whether a run uses the result in a stage's folder; its lock must be held.

        Runs record what they use while they hold that lock, so none is missed.
        """
        return any(
            folder.parent.name == stage and key.startswith(folder.name)
            for run_id, began in _begins(self._store).items()
            # One that is old may begin again.
            if run_id in self._kept or began != self._before.get(run_id)
            for stage, key in self._results(RunLog(self._store, run_id), began)
        )

    def _results(self, run: RunLog, began: str) -> set[tuple[str, str]]:
        if (run.run_id, began) in self._ended:
            return self._ended[run.run_id, began]
        alive = run.folder / ALIVE
        # An expired lease may still be renewed, so only the log shows whether that run has ended.
        ended = _has_ended(run) if alive.lease_s else not alive.is_locked()
        found = run.results()
        if ended:
            self._ended[run.run_id, began] = found
        return found


def _begins(store: Store) -> dict[str, str]:
    """When each run began last; empty for those that are in no index."""
    begun = begins(store)
    listed, indexed = run_ids(store)
    return {run_id: begun.get(run_id, "") for run_id in (*listed, *indexed)}


def _old_runs(store: Store, folders: list[RunLog], keep: int) -> set[str]:
    """The ids of the runs to remove, of those that have a folder."""
    runs = all_runs(store)
    done = [run for run in runs if run.status() == DONE and not run.read()["only"]]
    kept = {run.run_id for run in [*runs[max(0, len(runs) - keep) :], *done[-1:]]}
    return {
        run.run_id
        for run in runs
        if run.run_id not in kept
        and not run.fault()
        and not (run.folder / ALIVE).is_locked()
        and is_only_ours(run.folder)
    } | {run.run_id for run in folders if _never_began(run)}


def _kept(store: Store, before: Mapping[str, str], runs: list[RunLog], old: set[str]) -> set[str]:
    """The ids of the runs to keep, and of those that have only just begun and had no folder yet."""
    found = {run.run_id for run in runs}
    others = (RunLog(store, run_id) for run_id in before.keys() - found)
    began = {run.run_id for run in others if (run.folder / ALIVE).is_locked() or has_begun(run)}
    return (found | began) - old


def _never_began(run: RunLog) -> bool:
    """Whether a run ended or was killed before it recorded anything."""
    return (
        not has_begun(run)
        and time.time() - run.folder.changed_at() > STARTING_S
        and not (run.folder / ALIVE).is_locked()
    )


def _has_ended(run: RunLog) -> bool:
    """Whether a run has recorded its end."""
    with suppress(StageError):
        return bool(run.read()["status"] != RUNNING)
    return False


def _tidy(store: Store, folder: StorePath, *, dry_run: bool) -> list[Finding]:
    """Remove the files of a stage that its record does not name and no training continues from."""
    record = None
    with suppress(OSError, ValueError):
        record = store.read(folder)
    removed = []
    for path in unnamed(folder, record):
        needed = is_checkpoint(path) if record is None else is_snapshot(path)
        if not needed:
            removed.append(finding(store, path, why_unnamed(path)))
            if not dry_run:
                _remove(path)
    return removed


@contextmanager
def _free(lock: StorePath, *, dry_run: bool) -> Iterator[Held | None]:
    """Hold a lock if it is free, else yield None; a dry run only looks whether it is."""
    if dry_run:
        yield None if lock.is_locked() else NOT_TAKEN
    else:
        with locked_if_free(lock) as held:
            yield held


def _remove_stage(folder: StorePath) -> None:
    # The record first: without it, a partly removed result does not count.
    (folder / RECORD).unlink(missing_ok=True)
    folder.remove_tree()


def _remove_runs(store: Store, old: Mapping[str, str], *, dry_run: bool) -> list[Finding]:
    """Remove old runs, given with when they began, except those that have begun again since."""
    removed = []
    for run in run_folders(store):
        if run.run_id not in old:
            continue
        found, began = finding(store, run.folder, "an older run"), old[run.run_id]
        with _free(run.folder / ALIVE, dry_run=dry_run) as free:
            if free is None or begins(store).get(run.run_id, began) != began:
                continue
            removed.append(found)
            if not dry_run:
                _remove_run(run)
    return removed


def _remove_run(run: RunLog) -> None:
    for path in entries(run.folder):
        if path.name != ALIVE:
            _remove(path)
    # While the lock is there, since a run that begins again takes a line later than this one. If it
    # can't be written, later commands look for that run in vain.
    with suppress(OSError, StorageError):
        run.forget()
    run.folder.remove_tree()


def _remove(path: StorePath) -> None:
    if path.is_dir():
        path.remove_tree()
    else:
        path.unlink(missing_ok=True)
