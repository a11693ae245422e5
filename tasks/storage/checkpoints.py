"""Checkpoints of unfinished trainings; damaged ones are never used.

A checkpoint is one file, `checkpoint-<epoch>-<SHA-256>.npz`, in the folder of its stage. The digest
in the name is that of the content, so a partial file never counts. A checkpoint that another stage
begins from is called `snapshot-...` and is kept when the stage is done; all others are removed.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from tasks.core.settings.training import LOWEST_VALIDATION_LOSS
from tasks.storage.files import content_digest, entries
from tasks.storage.store_path import StorePath

if TYPE_CHECKING:
    from tasks.core.training.progress import Progress

log = logging.getLogger("fashion_flow")

CHECKPOINT, SNAPSHOT = "checkpoint", "snapshot"
NAME = re.compile(rf"({CHECKPOINT}|{SNAPSHOT})-(\d{{6}})-([0-9a-f]{{64}})\.npz")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training.

    Attributes:
        stage: the stage's name, for messages.
        folder: the stage's folder, to which checkpoints are written.
        lineage: digest of everything that the state after an epoch depends on: the stage's key
            without its name and its number of epochs. Checkpoints of another lineage are ignored.
        epochs: the number of epochs of the training.
        snapshots: the epochs that other stages begin from. An epoch beyond the last means the last,
            and `lowest_validation_loss` the first epoch with the lowest validation loss.
        snapshot_folders: folders of other stages from whose snapshots this one may begin.
        check: called before each write; raises if a checkpoint could not be trusted.
    """

    stage: str
    folder: StorePath
    lineage: str
    epochs: int
    snapshots: tuple[int | str, ...]
    snapshot_folders: tuple[StorePath, ...]
    check: Callable[[], None]

    def latest(self) -> Progress | None:
        """The intact state after the most epochs, at most `epochs`; None if there is none."""
        found = [
            path for folder in (self.folder, *self.snapshot_folders) for path in checkpoints(folder)
        ]
        for path in sorted(found, key=_epoch, reverse=True):
            if _epoch(path) > self.epochs:
                continue
            progress = self._read(path)
            if isinstance(progress, str):
                log.warning("%s ignores %s, which %s", self.stage, path.name, progress)
                continue
            origin = "" if path.parent == self.folder else f" of {path.parent.parent.name}"
            log.info("%s continues after epoch %d%s", self.stage, progress.epoch, origin)
            return progress
        return None

    def save(self, progress: Progress) -> None:
        """Write the state after an epoch; remove older ones that no other stage begins from."""
        self.check()
        wanted = self._wanted(progress)
        content = _packed(progress, self.lineage)
        word = SNAPSHOT if progress.epoch in wanted else CHECKPOINT
        name = f"{word}-{progress.epoch:06d}-{content_digest(content)}.npz"
        (self.folder / name).write(content)
        for path in checkpoints(self.folder):
            if path.name != name and not (is_snapshot(path) and _epoch(path) in wanted):
                path.unlink()

    def _wanted(self, progress: Progress) -> set[int]:
        """The epochs that other stages begin from, as far as they are known now."""
        wanted = {min(epoch, self.epochs) for epoch in self.snapshots if isinstance(epoch, int)}
        if LOWEST_VALIDATION_LOSS in self.snapshots:
            lowest = min(progress.history, key=lambda row: row["val_loss"])
            wanted.add(int(lowest["epoch"]))
        return wanted

    def _read(self, path: StorePath) -> Progress | str:
        """The state in a file, or the reason why it can't be used."""
        try:
            content = path.read_bytes()
        except OSError as error:
            return f"can't be read ({error.strerror})"
        fault = content_fault(path, content)
        if fault:
            return fault
        try:
            lineage, progress = _unpacked(content)
        except (KeyError, ValueError, EOFError, BadZipFile):
            return "has another format"
        mine = lineage == self.lineage and progress.epoch == _epoch(path)
        return progress if mine else "belongs to another training"


def checkpoints(folder: StorePath) -> list[StorePath]:
    """Every checkpoint and snapshot in a stage's folder."""
    return [path for path in entries(folder) if is_checkpoint(path)]


def is_checkpoint(path: StorePath) -> bool:
    """Whether a file has the name of a checkpoint or snapshot."""
    return NAME.fullmatch(path.name) is not None


def is_snapshot(path: StorePath) -> bool:
    """Whether a file has the name of a snapshot, which other stages begin from."""
    match = NAME.fullmatch(path.name)
    return match is not None and match[1] == SNAPSHOT


def content_fault(path: StorePath, content: bytes) -> str | None:
    """The fault of a checkpoint's content; None if it is intact."""
    return None if content_digest(content) == _match(path)[3] else "is damaged"


def remove_checkpoints(folder: StorePath, *, snapshots: bool) -> None:
    """Remove a training's checkpoints when its result is committed or it starts from scratch."""
    for path in checkpoints(folder):
        if snapshots or not is_snapshot(path):
            path.unlink()


def _match(path: StorePath) -> re.Match[str]:
    match = NAME.fullmatch(path.name)
    assert match is not None, "path must be that of a checkpoint"
    return match


def _epoch(path: StorePath) -> int:
    return int(_match(path)[2])


def _packed(progress: Progress, lineage: str) -> bytes:
    """A training's state as the bytes of an `.npz`; the names of its arrays give their order."""
    import numpy as np

    columns = {
        f"history/{name}": np.array([row[name] for row in progress.history])
        for name in progress.history[0]
    }
    variables = {
        f"variables/{number:06d}": value for number, value in enumerate(progress.variables)
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, lineage=np.array(lineage), **columns, **variables)
    return buffer.getvalue()


def _unpacked(content: bytes) -> tuple[str, Progress]:
    import numpy as np

    from tasks.core.training.progress import Progress

    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    columns = {
        name.removeprefix("history/"): values.tolist()
        for name, values in arrays.items()
        if name.startswith("history/")
    }
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    names = sorted(name for name in arrays if name.startswith("variables/"))
    return str(arrays["lineage"]), Progress(tuple(rows), tuple(arrays[name] for name in names))
