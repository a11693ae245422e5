"""Keeping a store in order: look at every file in it, and clear away what nobody needs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import StageError
from tasks.core.records import Record
from tasks.storage.checkpoints import content_fault, is_checkpoint, is_snapshot
from tasks.storage.files import (
    TEMPORARY,
    Held,
    HeldFile,
    Place,
    changed_at,
    check_held,
    damaged_lines,
    entries,
    file_digest,
    is_locked,
    locked_if_free,
    relative,
    remove_tree,
)
from tasks.storage.run_log import (
    ALIVE,
    DONE,
    MODEL,
    REPORT,
    RUN,
    RUN_LOG,
    RUNNING,
    STAGE_LINES,
    RunLog,
    all_runs,
)
from tasks.storage.s3 import S3Path
from tasks.storage.store import RECORD, RUNS, SCORINGS, STAGES, Store

# A run's folder is there some seconds before the run says that it lives.
STARTING_S = 600

NOBODY = HeldFile(-1)
KEY = re.compile("[0-9a-f]{16}")
# What a run writes into its folder of the final model.
MODEL_FILE = re.compile(r"README\.md|usage\.json|[^/]+\.(keras|h5)")

UNNAMED = "no record names it"
STRAY = "left by a write that was cut short"


@dataclass(frozen=True)
class Finding:
    """A file or folder, what is to be said of it, and its bytes on disk."""

    path: str
    what: str
    size: int


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        records: how many results are intact.
        files: how many files they name, and
        size: how many bytes those have.
        damaged: what is not what was written; the next run that needs it makes it anew.
        orphans: what no result names; `clean` removes it.
        unfinished: what stages that were stopped go on from, or are being computed.
    """

    records: int
    files: int
    size: int
    damaged: tuple[Finding, ...]
    orphans: tuple[Finding, ...]
    unfinished: tuple[Finding, ...]


@dataclass(frozen=True)
class Cleaning:
    """What `clean` removed or would remove, what it had to leave, and why it left all results."""

    removed: tuple[Finding, ...]
    locked: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    @property
    def freed(self) -> int:
        """Bytes on disk."""
        return sum(item.size for item in self.removed)


def verify(store: Store) -> Verification:
    """Compare every file in the store with its record, and find those that no record names.

    Nothing is written, so a store that is read-only can be verified.
    """
    intact: list[Record] = []
    damaged: list[Finding] = []
    orphans: list[Finding] = []
    unfinished: list[Finding] = []
    for folder in _stage_folders(store):
        if is_locked(store.lock_path(folder)):
            unfinished.append(_finding(store, folder, "is being computed"))
            continue
        record, faults = _inspect(store, folder)
        damaged += [_finding(store, folder, fault) for fault in faults]
        if record and not faults:
            intact.append(record)
        for path in _unnamed(folder, record):
            resumable = is_checkpoint(path) and path.is_file()
            fault = content_fault(path, path.read_bytes()) if resumable else None
            if fault:
                damaged.append(_finding(store, path, fault))
            elif resumable and record is None:
                unfinished.append(_finding(store, path, "a stopped training goes on from it"))
            elif not is_snapshot(path):
                orphans.append(_finding(store, path, _why_unnamed(path)))
    damaged += _damaged_logs(store)
    damaged += _damaged_models(store)
    orphans += [_finding(store, path, STRAY) for path in _strays(store)]
    files = [file for record in intact for file in record.files.values()]
    return Verification(
        records=len(intact),
        files=len(files),
        size=sum(file.size for file in files),
        damaged=tuple(damaged),
        orphans=tuple(orphans),
        unfinished=tuple(unfinished),
    )


def clean(store: Store, keep: int, *, dry_run: bool) -> Cleaning:
    """Remove what no kept run uses; with `dry_run` only say what that would be.

    Kept are the last `keep` runs, the latest that is done with all of its stages, those that are
    going on, those whose log is damaged, the results that any of these used, what is locked, and
    the log of test scorings. Where it is not known what a kept run used, all results are kept.
    """
    removed: list[Finding] = []
    locked: list[str] = []
    old = _old_runs(store, keep)
    doubtful = [
        run for run in _runs(store) if run.run_id not in old and _has_begun(run) and run.fault()
    ]
    settled = _Used(store, old)
    for folder in _stage_folders(store):
        with _free(store.lock_path(folder), dry_run=dry_run) as free:
            if free is None:
                locked.append(relative(folder, store.root))
            elif doubtful or settled.includes(folder):
                removed += _tidy(store, folder, dry_run=dry_run)
            else:
                removed.append(_finding(store, folder, "no kept run uses it"))
                if not dry_run:
                    check_held(free)
                    _remove_stage(folder)
                    store.lock_path(folder).unlink(missing_ok=True)
    for run in _runs(store):
        if run.run_id in old:
            removed.append(_finding(store, run.folder, "an older run"))
            if not dry_run:
                remove_tree(run.folder)
    for path in _strays(store):
        removed.append(_finding(store, path, STRAY))
        if not dry_run:
            path.unlink(missing_ok=True)
    doubts = tuple(f"{run.folder}: {run.fault()}" for run in doubtful)
    return Cleaning(tuple(removed), tuple(locked), doubts)


class _Used:
    """The results that runs use which are to stay, those included that begin meanwhile."""

    def __init__(self, store: Store, old: set[str]) -> None:
        self._store = store
        self._old = old
        self._ended: dict[str, set[tuple[str, str]]] = {}

    def includes(self, folder: Place) -> bool:
        """Whether a run uses the result in a stage's folder; its lock must be held.

        A run notes what it uses while it holds that lock, so nothing is missed.
        """
        return any(
            folder.parent.name == stage and key.startswith(folder.name)
            for run in _runs(self._store)
            if run.run_id not in self._old
            for stage, key in self._results(run)
        )

    def _results(self, run: RunLog) -> set[tuple[str, str]]:
        if run.run_id in self._ended:
            return self._ended[run.run_id]
        ended = not is_locked(run.folder / ALIVE)
        if isinstance(run.folder, S3Path):
            # A lease that ran out may be renewed still.
            ended = _has_ended(run)
        found = run.results()
        if ended:
            self._ended[run.run_id] = found
        return found


def _old_runs(store: Store, keep: int) -> set[str]:
    """The runs that are to go, as far as they are known now."""
    runs = all_runs(store)
    done = [run for run in runs if run.status() == DONE and not run.read()["only"]]
    kept = {run.run_id for run in [*runs[max(0, len(runs) - keep) :], *done[-1:]]}
    return {
        run.run_id
        for run in runs
        if run.run_id not in kept
        and not run.fault()
        and not is_locked(run.folder / ALIVE)
        and _is_only_ours(run.folder)
    } | {run.run_id for run in _runs(store) if _never_began(run)}


def _never_began(run: RunLog) -> bool:
    """Whether a run ended, or was ended, before anything was noted of it."""
    return not _has_begun(run) and time.time() - changed_at(run.folder) > STARTING_S


def _has_ended(run: RunLog) -> bool:
    """Whether a run noted that it ended."""
    with suppress(StageError):
        return bool(run.read()["status"] != RUNNING)
    return False


def _has_begun(run: RunLog) -> bool:
    return (run.folder / RUN).exists() or (run.folder / STAGE_LINES).exists()


def _runs(store: Store) -> list[RunLog]:
    """Every run that has a folder; a folder that somebody else put there is no run."""
    folders = _folders(store.root / RUNS)
    runs = [RunLog(store, folder.name) for folder in folders]
    return [run for run in runs if _has_begun(run) or _is_only_ours(run.folder)]


def _is_only_ours(folder: Place) -> bool:
    """Whether there is nothing in a run's folder but what runs leave there."""
    ours = {RUN, STAGE_LINES, ALIVE, RUN_LOG, REPORT}
    return all(
        path.name in ours or path.name.startswith(TEMPORARY) or _is_our_model(path)
        for path in folder.iterdir()
    )


def _is_our_model(folder: Place) -> bool:
    return (
        folder.name == MODEL
        and folder.is_dir()
        and all(
            MODEL_FILE.fullmatch(path.name) or path.name.startswith(TEMPORARY)
            for path in folder.iterdir()
        )
    )


def _inspect(store: Store, folder: Place) -> tuple[Record | None, list[str]]:
    """The record in a stage's folder, if it can be read, and what is wrong with it or its files."""
    try:
        record = store.read(folder)
    except FileNotFoundError:
        return None, []
    except (OSError, ValueError) as error:
        return None, [f"its record can't be used: {error}"]
    if store.folder(record.stage, record.key) != folder:
        return record, ["its record belongs to another stage"]
    return record, list(store.faults(record, thorough=True))


def _unnamed(folder: Place, record: Record | None) -> list[Place]:
    """The files in a stage's folder that its record does not name.

    Where there is a record that can't be read, nobody knows which those are.
    """
    if record is None and (folder / RECORD).exists():
        return []
    named = {Path(file.path).name for file in record.files.values()} if record else set()
    return [path for path in entries(folder) if path.name not in {*named, RECORD}]


def _why_unnamed(path: Place) -> str:
    return STRAY if path.name.startswith(TEMPORARY) else UNNAMED


def _damaged_logs(store: Store) -> Iterator[Finding]:
    for run in _runs(store):
        fault = run.fault() if (run.folder / RUN).exists() else None
        if fault:
            yield _finding(store, run.folder, fault)
    for number in damaged_lines(store.root / SCORINGS):
        yield _finding(store, store.root / SCORINGS, f"line {number} is not what was written")


def _damaged_models(store: Store) -> Iterator[Finding]:
    """Copies of a final model that are not as its record says; the card has no digest."""
    for run in _runs(store):
        if not run.model_folder.is_dir() or is_locked(run.folder / ALIVE):
            continue
        with suppress(StageError):
            final = run.record("final")
            for file in final.files.values() if final else ():
                copy = run.model_folder / Path(file.path).name
                if copy.is_file() and file_digest(copy)[0] != file.sha256:
                    yield _finding(store, copy, "is not the model that its card describes")


def _tidy(store: Store, folder: Place, *, dry_run: bool) -> list[Finding]:
    """Remove from a stage's folder what neither its record names nor a training can go on from."""
    record = None
    with suppress(OSError, ValueError):
        record = store.read(folder)
    removed = []
    for path in _unnamed(folder, record):
        of_use = is_checkpoint(path) if record is None else is_snapshot(path)
        if not of_use:
            removed.append(_finding(store, path, _why_unnamed(path)))
            if not dry_run:
                _remove(path)
    return removed


@contextmanager
def _free(lock: Place, *, dry_run: bool) -> Iterator[Held | None]:
    """A lock that nobody holds; it is held meanwhile, unless nothing is to be written."""
    if dry_run:
        yield None if is_locked(lock) else NOBODY
    else:
        with locked_if_free(lock) as held:
            yield held


def _remove_stage(folder: Place) -> None:
    # The record first: without it nothing counts, so that no half of a result ever does.
    (folder / RECORD).unlink(missing_ok=True)
    remove_tree(folder)


def _remove(path: Place) -> None:
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _strays(store: Store) -> list[Place]:
    """Half-written files outside the stages' folders."""
    found = [*store.root.glob(f"{TEMPORARY}*")]
    for run in _folders(store.root / RUNS):
        if not is_locked(run / ALIVE):
            found += [*run.glob(f"{TEMPORARY}*"), *run.glob(f"{MODEL}/{TEMPORARY}*")]
    return found


def _stage_folders(store: Store) -> list[Place]:
    """The folders of stages; what else somebody put beside them is left alone."""
    folders = [folder for stage in _folders(store.root / STAGES) for folder in _folders(stage)]
    return [folder for folder in folders if KEY.fullmatch(folder.name)]


def _folders(parent: Place) -> list[Place]:
    return [path for path in entries(parent) if path.is_dir()]


def _finding(store: Store, path: Place, what: str) -> Finding:
    size = 0
    if path.exists():
        files = path.rglob("*") if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files if file.is_file())
    return Finding(relative(path, store.root), what, size)
