"""Verify a store: compare every file with its record, and write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.core.errors import StageError
from tasks.core.names import FINAL
from tasks.core.records import Record
from tasks.storage.checkpoints import content_fault, is_checkpoint, is_snapshot
from tasks.storage.files import damaged_lines
from tasks.storage.inventory import (
    STRAY,
    Finding,
    finding,
    run_folders,
    stage_folders,
    strays,
    unnamed,
    why_unnamed,
)
from tasks.storage.locks import seems_locked
from tasks.storage.run_log import ALIVE, RUN
from tasks.storage.store import RUN_INDEX, SCORINGS, Store
from tasks.storage.store_path import StorePath


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    Attributes:
        records: the number of intact results.
        files: the number of files that they name.
        size: the number of bytes in those files.
        damaged: files and folders that are damaged; the next run that needs them restores them.
        orphans: files that no result names; `clean` removes them.
        unfinished: checkpoints of stopped stages, and stages that are being computed.
    """

    records: int
    files: int
    size: int
    damaged: tuple[Finding, ...]
    orphans: tuple[Finding, ...]
    unfinished: tuple[Finding, ...]


def verify(store: Store) -> Verification:
    """Compare every file in the store with its record, and find those that no record names.

    Nothing is written, so a read-only store can be verified.
    """
    intact: list[Record] = []
    damaged: list[Finding] = []
    orphans: list[Finding] = []
    unfinished: list[Finding] = []
    for folder in stage_folders(store):
        if seems_locked(store.lock_path(folder), otherwise=False):
            unfinished.append(finding(store, folder, "is being computed"))
            continue
        record, faults = _inspect(store, folder)
        damaged += [finding(store, folder, fault) for fault in faults]
        if record and not faults:
            intact.append(record)
        for path in unnamed(folder, record):
            resumable = is_checkpoint(path) and path.is_file()
            try:
                fault = content_fault(path, path.read_bytes()) if resumable else None
            except FileNotFoundError:
                # A listing may show what was removed.
                continue
            if fault:
                damaged.append(finding(store, path, fault))
            elif resumable and record is None:
                unfinished.append(finding(store, path, "a stopped training continues from it"))
            elif not is_snapshot(path):
                orphans.append(finding(store, path, why_unnamed(path)))
    damaged += _damaged_logs(store)
    damaged += _damaged_models(store)
    orphans += [finding(store, path, STRAY) for path in strays(store)]
    files = [file for record in intact for file in record.files.values()]
    return Verification(
        records=len(intact),
        files=len(files),
        size=sum(file.size for file in files),
        damaged=tuple(damaged),
        orphans=tuple(orphans),
        unfinished=tuple(unfinished),
    )


def _inspect(store: Store, folder: StorePath) -> tuple[Record | None, list[str]]:
    """The record in a stage's folder, if it is readable, and the faults of it or its files."""
    try:
        record = store.read(folder)
    except FileNotFoundError:
        return None, []
    except (OSError, ValueError) as error:
        return None, [f"its record can't be used: {error}"]
    if store.folder(record.stage, record.key) != folder:
        return record, ["its record belongs to another stage"]
    return record, list(store.faults(record, thorough=True))


def _damaged_logs(store: Store) -> Iterator[Finding]:
    for run in run_folders(store):
        fault = run.fault() if (run.folder / RUN).exists() else None
        if fault:
            yield finding(store, run.folder, fault)
    for name in (RUN_INDEX, SCORINGS):
        for number in damaged_lines(store.root / name):
            yield finding(store, store.root / name, f"line {number} is damaged")


def _damaged_models(store: Store) -> Iterator[Finding]:
    """Copies of a final model that differ from its record; the card has no digest."""
    for run in run_folders(store):
        alive = seems_locked(run.folder / ALIVE, otherwise=False)
        if alive or not run.model_folder.is_dir():
            continue
        with suppress(StageError):
            final = run.record(FINAL)
            for file in final.files.values() if final else ():
                copy = run.model_folder / PurePosixPath(file.path).name
                if copy.is_file() and copy.digest()[0] != file.sha256:
                    yield finding(store, copy, "is not the model that its card describes")
