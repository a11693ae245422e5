"""Checkpoints of a training in the making: private to its stage, and worth nothing unless intact.

A checkpoint is one file, `checkpoint-<epoch>-<SHA-256>.npz`, in the folder of the stage. Its name
tells its content, so one rename makes it count and no half of it ever does. One that another stage
begins from is called `snapshot-...` and stays when the stage is done; all others go.
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
from tasks.storage.files import Place, content_digest, entries, write_atomically

if TYPE_CHECKING:
    from tasks.core.training.progress import Progress

log = logging.getLogger("fashion_flow")

CHECKPOINT, SNAPSHOT = "checkpoint", "snapshot"
NAME = re.compile(rf"({CHECKPOINT}|{SNAPSHOT})-(\d{{6}})-([0-9a-f]{{64}})\.npz")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training.

    Attributes:
        stage: its name, for messages.
        folder: where its own are.
        lineage: digest of all that the state after an epoch depends on, so of everything in the
            stage's key but its name and its number of epochs. A checkpoint of another lineage is
            passed over.
        epochs: how many the training has.
        snapshots: the epochs that other stages begin from, the last one standing for all beyond
            it; `lowest_validation_loss` stands for the first epoch at which that was lowest.
        elsewhere: folders of stages whose snapshots this one may begin from.
        check: called before each writing; raises where a checkpoint could not be trusted.
    """

    stage: str
    folder: Place
    lineage: str
    epochs: int
    snapshots: tuple[int | str, ...]
    elsewhere: tuple[Place, ...]
    check: Callable[[], None]

    def latest(self) -> Progress | None:
        """The furthest intact state that the training passes through; None where there is none."""
        found = [path for folder in (self.folder, *self.elsewhere) for path in checkpoints(folder)]
        for path in sorted(found, key=_epoch, reverse=True):
            if _epoch(path) > self.epochs:
                continue
            progress = self._read(path)
            if isinstance(progress, str):
                log.warning("%-31s %-14s %s %s", self.stage, "Passed over", path.name, progress)
                continue
            origin = "" if path.parent == self.folder else f" of {path.parent.parent.name}"
            log.info(
                "%-31s %-14s goes on after epoch %d%s",
                self.stage,
                "Resumed",
                progress.epoch,
                origin,
            )
            return progress
        return None

    def save(self, progress: Progress) -> None:
        """Leave the state after an epoch; the one before goes unless another stage needs it."""
        self.check()
        wanted = self._wanted(progress)
        content = _packed(progress, self.lineage)
        word = SNAPSHOT if progress.epoch in wanted else CHECKPOINT
        name = f"{word}-{progress.epoch:06d}-{content_digest(content)}.npz"
        write_atomically(self.folder / name, content)
        for path in checkpoints(self.folder):
            if path.name != name and not (is_snapshot(path) and _epoch(path) in wanted):
                path.unlink()

    def _wanted(self, progress: Progress) -> set[int]:
        """The epochs among those done so far that other stages begin from."""
        wanted = {min(epoch, self.epochs) for epoch in self.snapshots if isinstance(epoch, int)}
        if LOWEST_VALIDATION_LOSS in self.snapshots:
            lowest = min(progress.history, key=lambda row: row["val_loss"])
            wanted.add(int(lowest["epoch"]))
        return wanted

    def _read(self, path: Place) -> Progress | str:
        """The state in a file, or why it is of no use."""
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
            return "is of another format"
        mine = lineage == self.lineage and progress.epoch == _epoch(path)
        return progress if mine else "belongs to another training"


def checkpoints(folder: Place) -> list[Place]:
    """Every checkpoint and snapshot in a stage's folder."""
    return [path for path in entries(folder) if is_checkpoint(path)]


def is_checkpoint(path: Place) -> bool:
    """Whether a file is called as checkpoints or snapshots are."""
    return NAME.fullmatch(path.name) is not None


def is_snapshot(path: Place) -> bool:
    """Whether a file is called as checkpoints are that other stages begin from."""
    match = NAME.fullmatch(path.name)
    return match is not None and match[1] == SNAPSHOT


def content_fault(path: Place, content: bytes) -> str | None:
    """What is wrong with a checkpoint's content; None where it is what was written."""
    return None if content_digest(content) == _match(path)[3] else "is not what was written"


def remove_checkpoints(folder: Place, *, snapshots: bool) -> None:
    """Remove what a training left: once its result is committed, or where it begins anew."""
    for path in checkpoints(folder):
        if snapshots or not is_snapshot(path):
            path.unlink()


def _match(path: Place) -> re.Match[str]:
    match = NAME.fullmatch(path.name)
    assert match is not None, "only checkpoints are asked for"
    return match


def _epoch(path: Place) -> int:
    return int(_match(path)[2])


def _packed(progress: Progress, lineage: str) -> bytes:
    """A training's state as the bytes of an `.npz`, in an order that its names tell."""
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
