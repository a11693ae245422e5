"""The declared inputs of a stage, and its outputs until they are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import SealedError, StageError
from tasks.core.messages import listed
from tasks.core.names import FACTS
from tasks.core.records import Outcome, Record, Skipped, Stage, StoredFile, digest_of
from tasks.storage.checkpoints import Checkpoints
from tasks.storage.files import file_digest, relative
from tasks.storage.locks import check_held
from tasks.storage.npz import Rows, StoredRows, stored_arrays, write_npz
from tasks.storage.store_path import Held, StorePath
from tasks.storage.stored_files import content_of, local_file, opened, table_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

OnEpoch = Callable[[int, int, Mapping[str, float]], None]


def _accept() -> None:
    """Do nothing."""


def _ignore_epoch(_epoch: int, _epochs: int, _row: Mapping[str, float]) -> None:
    """Do nothing."""


@dataclass
class Outputs:
    """The files of a stage that is being computed; each appears whole or not at all.

    Attributes:
        root: the root of the store.
        folder: the stage's folder.
        stage: the stage.
        key: its key.
        basis: what the key covers.
        snapshot_folders: folders of other trainings from whose snapshots this one may begin.
        version: the version of the record that a commit replaces; None if there is none.
        held: the stage's lock.
        resumed_after: the number of epochs that a training restored from a checkpoint.
        check: called before a checkpoint is written; raises if it could not be trusted.
        on_epoch: called after each epoch with its number, the number of epochs, and its row of the
            history.
        files: the files written so far, by name.
    """

    root: StorePath
    folder: StorePath
    stage: Stage
    key: str
    basis: Mapping[str, Any]
    snapshot_folders: tuple[StorePath, ...] = ()
    version: str | None = None
    held: Held | None = None
    resumed_after: int = 0
    check: Callable[[], None] = _accept
    on_epoch: OnEpoch = _ignore_epoch
    files: dict[str, StoredFile] = field(default_factory=dict)

    def arrays(self, name: str, **arrays: np.ndarray | Rows) -> None:
        """Store named arrays as `<name>.npz`; arrays of Python objects are refused."""
        schema = {key: f"{value.dtype} {list(value.shape)}" for key, value in arrays.items()}
        with self._file(name, "npz", schema) as path, path.open("wb") as handle:
            write_npz(handle, arrays)

    def table(self, name: str, table: pa.Table) -> None:
        """Store a table as `<name>.parquet`."""
        import pyarrow.parquet as pq

        schema = {column.name: str(column.type) for column in table.schema}
        with self._file(name, "parquet", schema | {"rows": table.num_rows}) as path:
            pq.write_table(table, path)

    def blob(self, name: str, kind: str, content: bytes) -> None:
        """Store bytes as `<name>.<kind>`, e.g. a PNG."""
        with self._file(name, kind, {}) as path:
            path.write_bytes(content)

    def file(self, name: str, kind: str, write: Callable[[Path], None]) -> None:
        """Store the file that `write` makes at the path that it is given, e.g. a Keras model."""
        with self._file(name, kind, {}) as path:
            write(path)

    def checkpoints(self, settings: Mapping[str, Any], epochs: int) -> Checkpoints:
        """The checkpoints of a training; `settings` are without the number of epochs."""
        lineage = digest_of({**self.basis, "stage": self.stage.kind, "settings": dict(settings)})
        return Checkpoints(
            stage=self.stage.name,
            folder=self.folder,
            lineage=lineage,
            epochs=epochs,
            snapshots=self.stage.snapshots,
            snapshot_folders=self.snapshot_folders,
            check=self._check_checkpoint,
        )

    def epoch_done(self, epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        """Announce that a training has finished an epoch; `row` is its row of the history."""
        self.on_epoch(epoch, epochs, row)

    @property
    def precision(self) -> str:
        """The precision of trainings in the execution profile."""
        return str(self.basis.get("profile", {}).get("precision", "float32"))

    def check_held(self) -> None:
        """Refuse to write if the stage's lock was lost.

        Raises:
            StorageError: the lock was lost.
        """
        if self.held:
            check_held(self.held)

    def _check_checkpoint(self) -> None:
        self.check()
        self.check_held()

    @contextmanager
    def _file(self, name: str, kind: str, schema: Mapping[str, Any]) -> Iterator[Path]:
        target = self.folder / f"{name}.{kind}"
        with target.replacing() as path:
            yield path
            # If the lock was lost, its next holder may have written this file already.
            self.check_held()
            sha256, size = file_digest(path)
        where = relative(target, self.root)
        self.files[name] = StoredFile(where, sha256, size, kind, dict(schema))


class Inputs:
    """The inputs of a stage, which can read only the files that it declared.

    Each time a file is read, its digest is checked.
    """

    def __init__(self, root: StorePath, stage: Stage, given: Mapping[str, Outcome]) -> None:
        self._root = root
        self._stage = stage
        self._given = given

    @property
    def external(self) -> tuple[Path, ...]:
        """The files outside the store that the stage declared."""
        return tuple(Path(path) for path in self._stage.external)

    @property
    def data_set(self) -> str:
        """The path or address of the user's data set."""
        return self._stage.data_set

    def skipped(self, role: str) -> str | None:
        """Why the input was skipped; None if it was not."""
        outcome = self._given[role]
        return outcome.reason if isinstance(outcome, Skipped) else None

    def facts(self, role: str) -> Mapping[str, Any]:
        """The small values of an input's record."""
        return self._record(role, FACTS).facts

    def profile(self, role: str) -> Mapping[str, Any]:
        """The execution profile under which an input was computed."""
        outcome = self._given[role]
        return outcome.basis.get("profile", {}) if isinstance(outcome, Record) else {}

    def arrays(self, role: str, name: str) -> dict[str, np.ndarray]:
        """The arrays in an `.npz` of an input."""
        import numpy as np

        with (
            opened(self._root, self._file(role, name)) as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            return {key: archive[key] for key in archive.files}

    def by_rows(self, role: str, name: str) -> dict[str, np.ndarray | StoredRows]:
        """The arrays in an `.npz` of an input; those that are large are read by rows, when needed.

        Raises:
            SealedError: the stage did not declare that it reads the file.
            StageError: the file is missing or changed.
        """
        with opened(self._root, self._file(role, name)) as file:
            return stored_arrays(file)

    def table(self, role: str, name: str) -> pa.Table:
        """A Parquet table of an input."""
        return table_of(self._root, self._file(role, name))

    def content(self, role: str, name: str) -> bytes:
        """The bytes of a file of an input.

        Raises:
            SealedError: the stage did not declare that it reads the file.
            StageError: the file is missing or changed.
        """
        return content_of(self._root, self._file(role, name))

    def path(self, role: str, name: str) -> Path:
        """A file of an input on this machine, for libraries that open files themselves."""
        file = self._file(role, name)
        with opened(self._root, file):
            return local_file(self._root, file)

    def _file(self, role: str, name: str) -> StoredFile:
        return self._record(role, name).files[name]

    def _record(self, role: str, name: str) -> Record:
        if name not in self._stage.reads.get(role, ()):
            raise SealedError(
                f"stage {self._stage.name} asks for {name} of its input {role}, which its `reads` "
                f"do not declare; they have: {listed(self._stage.reads.get(role, ()))}. Add it "
                "there."
            )
        outcome = self._given[role]
        if isinstance(outcome, Skipped):
            raise StageError(f"input {role} of {self._stage.name} was skipped; see why in the log.")
        return outcome
