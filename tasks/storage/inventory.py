"""The contents of a store: the folders of stages and runs, and files that no record names."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.core.records import Record
from tasks.storage.files import TEMPORARY, entries, relative
from tasks.storage.locks import seems_locked
from tasks.storage.run_log import ALIVE, MODEL, REPORT, RUN, RUN_LOG, STAGE_LINES, RunLog, run_ids
from tasks.storage.store import RECORD, RUNS, STAGES, Store
from tasks.storage.store_path import StorePath

KEY = re.compile("[0-9a-f]{16}")
# The files that a run writes into the folder of its final model.
MODEL_FILE = re.compile(r"README\.md|usage\.json|[^/]+\.(keras|h5)")

# A file of this age in the store's root was left by a process that was killed.
TRIED_S = 600

UNNAMED = "no record names it"
STRAY = "left by an interrupted write"


@dataclass(frozen=True)
class Finding:
    """A file or folder, why it is listed, and its size in bytes."""

    path: str
    reason: str
    size: int


def finding(store: Store, path: StorePath, reason: str) -> Finding:
    """A finding about a file, or about a folder with all files in it."""
    size = 0
    if path.exists():
        files = path.rglob("*") if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files if file.is_file())
    return Finding(relative(path, store.root), reason, size)


def stage_folders(store: Store) -> list[StorePath]:
    """The folders of stages' results, without folders that other programs made."""
    folders = [folder for stage in _folders(store.root / STAGES) for folder in _folders(stage)]
    return [folder for folder in folders if KEY.fullmatch(folder.name)]


def unnamed(folder: StorePath, record: Record | None) -> list[StorePath]:
    """The files in a stage's folder that its record does not name.

    If the record can't be read, its files are unknown, and the list is empty.
    """
    if record is None and (folder / RECORD).exists():
        return []
    named = {PurePosixPath(file.path).name for file in record.files.values()} if record else set()
    return [path for path in entries(folder) if path.name not in {*named, RECORD}]


def why_unnamed(path: StorePath) -> str:
    """Why no record names a file."""
    return STRAY if path.name.startswith(TEMPORARY) else UNNAMED


def strays(store: Store) -> list[StorePath]:
    """Temporary files of interrupted writes outside the stages' folders."""
    # In the root, stores are tried (`tasks.storage.health`), which takes seconds and no lock.
    found = [path for path in store.root.glob(f"{TEMPORARY}*") if _is_old(path)]
    for run in _folders(store.root / RUNS):
        if not seems_locked(run / ALIVE, otherwise=True):
            found += [*run.glob(f"{TEMPORARY}*"), *run.glob(f"{MODEL}/{TEMPORARY}*")]
    return found


def run_folders(store: Store) -> list[RunLog]:
    """Every run that has a folder, readable or not, without folders that other programs made."""
    listed, indexed = run_ids(store)
    return [
        run
        for run in (RunLog(store, run_id) for run_id in sorted({*listed, *indexed}))
        if has_begun(run) or (run.folder.is_dir() and is_only_ours(run.folder))
    ]


def has_begun(run: RunLog) -> bool:
    """Whether a run has recorded anything."""
    return (run.folder / RUN).is_file() or (run.folder / STAGE_LINES).is_file()


def is_only_ours(folder: StorePath) -> bool:
    """Whether a run's folder contains only files that runs write."""
    ours = {RUN, STAGE_LINES, ALIVE, RUN_LOG, REPORT}
    return all(
        path.name in ours or path.name.startswith(TEMPORARY) or _is_our_model(path)
        for path in folder.iterdir()
    )


def _is_our_model(folder: StorePath) -> bool:
    return (
        folder.name == MODEL
        and folder.is_dir()
        and all(
            MODEL_FILE.fullmatch(path.name) or path.name.startswith(TEMPORARY)
            for path in folder.iterdir()
        )
    )


def _is_old(path: StorePath) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > TRIED_S
    return False


def _folders(parent: StorePath) -> list[StorePath]:
    # What a link leads to may be the store itself, or no part of it.
    return [path for path in entries(parent) if path.is_dir() and not path.is_symlink()]
