"""The store: the only module that knows paths, digests, keys, locks and atomic writes.

Layout below the store's folder or prefix (see artifacts/README.md):

    stages/<stage>/<first 16 digits of the key>/record.json and the files that it names,
                            checkpoints of a training in the making
    runs/<run id>/          the log of one run, and its report
    locks/                  one lock a stage being computed
    test_scorings.jsonl     one line each time a model was scored on the test split
"""

from __future__ import annotations

import errno
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tasks.core.errors import SealedError, StageError, StorageError, UserError
from tasks.core.names import FACTS
from tasks.core.records import (
    FORMAT_VERSION,
    Outcome,
    Record,
    Skipped,
    Stage,
    StoredFile,
    digest_of,
)
from tasks.core.seal import UNMARKED, MarkedFiles
from tasks.engine.events import Watch, log_epoch
from tasks.engine.fingerprint import code_of, refuse_edits
from tasks.engine.profile import library_versions
from tasks.storage.checkpoints import Checkpoints, remove_checkpoints
from tasks.storage.files import (
    TEMPORARY,
    Held,
    Place,
    append_line,
    check_held,
    content_digest,
    entries,
    file_digest,
    local_file,
    locked,
    place,
    read_lines,
    relative,
    replacing,
    stored_digest,
    version_of,
    write_over,
)
from tasks.storage.npz import Rows, read_rows, write_npz

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

RECORD = "record.json"
ABSENT = "not computed yet with these settings, inputs and code"
STAGES, RUNS, LOCKS, SCORINGS = "stages", "runs", "locks", "test_scorings.jsonl"


@dataclass(frozen=True)
class Miss:
    """Why a stage is not in the store."""

    reason: str


class Store:
    """A folder of stage results, each valid only while every byte of it is what it was.

    Args:
        url: a path, a `file://` URL, or `s3://bucket/prefix`.
    """

    def __init__(self, url: str) -> None:
        self.root = place(url)
        if isinstance(self.root, Path) and self.root.exists() and not self.root.is_dir():
            raise UserError(f"store {self.root}: there is a file of that name; give a folder.")

    def check_exists(self) -> None:
        """Refuse a folder in which no run has ever been.

        Raises:
            UserError: it is not there, or has nothing of a store in it.
        """
        if not any((self.root / name).exists() for name in (STAGES, RUNS, SCORINGS)):
            raise UserError(f"there is no store in {self.root}; name it with --store.")

    def key_of(
        self, stage: Stage, inputs: Mapping[str, Outcome], profile: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """The key of a stage on given inputs, and what the key stands for."""
        basis = self.basis_of(stage, inputs, profile)
        return digest_of(basis), basis

    def basis_of(
        self, stage: Stage, inputs: Mapping[str, Outcome], profile: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the key of a stage stands for; inputs that are not known yet are left out."""
        return {
            "format": FORMAT_VERSION,
            "stage": stage.name,
            "settings": stage.spec.as_json(),
            # Of an input whose files are not read, nothing matters.
            "inputs": {
                role: inputs[role].digest(files)
                for role, files in stage.reads.items()
                if files and role in inputs
            },
            # Where an outside file lies does not matter, what is in it does.
            "external": _digests(stage.external),
            "code": code_of(f"tasks.stages.{stage.kind}"),
            "profile": dict(profile) if stage.spec.numerical else library_versions(),
        }

    def lookup(self, stage: Stage, key: str) -> Record | Miss:
        """The record of a stage if it and every file that it names are intact, else why not.

        In a bucket, a file is compared by the digest that was stored with it, not by its bytes.
        """
        try:
            record = self.read(self.folder(stage.name, key))
        except FileNotFoundError:
            return Miss(ABSENT)
        except OSError as error:
            return Miss(f"its record can't be read: {error.strerror}")
        except ValueError as error:
            return Miss(f"its record can't be used: {error}")
        if record.key != key or record.stage != stage.name:
            return Miss("its record belongs to another stage")
        fault = next(self.faults(record), None)
        return Miss(fault) if fault else record

    def faults(self, record: Record, *, thorough: bool = False) -> Iterator[str]:
        """What is wrong with the files that a record names, one after the other.

        Args:
            record: the record.
            thorough: whether files in a bucket are fetched to compare their bytes, too.
        """
        for name, file in record.files.items():
            fault = self._fault(file, thorough)
            if fault:
                yield f"{name} {fault}: {file.path}"

    def _fault(self, file: StoredFile, thorough: bool) -> str | None:
        path = self.root / file.path
        try:
            if (size := path.stat().st_size) != file.size:
                return f"has {size} bytes instead of {file.size}"
            digest = file_digest(path)[0] if thorough else stored_digest(path)
            return None if digest == file.sha256 else "has other content"
        except OSError as error:
            return (
                "is missing" if error.errno == errno.ENOENT else f"can't be read ({error.strerror})"
            )

    def record(self, stage: str, key: str) -> Record:
        """The record of a stage that an earlier run left, its files not checked.

        Raises:
            StageError: it is not there or damaged.
        """
        try:
            return self.read(self.folder(stage, key))
        except (OSError, ValueError) as error:
            raise StageError(
                f"the record of {stage} can't be read ({error}); run the flow again to restore it."
            ) from None

    def records(self, stage: str) -> Iterator[Record]:
        """Every record of a stage that can be read, whatever its key; their files not checked."""
        for folder in entries(self.root / STAGES / stage):
            with suppress(OSError, ValueError):
                yield self.read(folder)

    def read(self, folder: Place) -> Record:
        """The record in a stage's folder.

        Raises:
            OSError: it is not there or can't be read.
            ValueError: it is damaged.
        """
        return Record.from_json((folder / RECORD).read_text(encoding="utf-8"))

    def content(self, record: Record, name: str) -> bytes:
        """The bytes of a record's file.

        Raises:
            StageError: they are gone, or not those of the record any more.
            OSError: they can't be read; that may pass.
        """
        file = record.files[name]
        with self._open(file) as handle:
            content = handle.read()
        _check_digest(file, content_digest(content))
        return content

    @contextmanager
    def opened(self, record: Record, name: str) -> Iterator[IO[bytes]]:
        """A record's file, compared as a whole, for reading it in pieces.

        Raises:
            StageError: it is gone, or not what was written.
            OSError: it can't be read; that may pass.
        """
        file = record.files[name]
        with self._open(file) as handle:
            _check_digest(file, hashlib.file_digest(handle, "sha256").hexdigest())
            handle.seek(0)
            yield handle

    def _open(self, file: StoredFile) -> io.BufferedReader:
        return self.local(file).open("rb")

    def local(self, file: StoredFile) -> Path:
        """A file of this machine with the bytes of a record's file, not compared yet.

        Raises:
            StageError: it is gone; or it is in a bucket and not what was written.
        """
        try:
            path = local_file(self.root / file.path, file.sha256)
            path.stat()
        except FileNotFoundError:
            raise StageError(f"{file.path} is gone; run again to restore it.") from None
        return path

    def table(self, record: Record, name: str) -> pa.Table:
        """A record's Parquet table."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Arrow's threads now and then abort a process that ends soon after (apache/arrow#34314),
        # and `read_table` starts one for input even without `use_threads`.
        return pq.ParquetFile(pa.BufferReader(self.content(record, name))).read(use_threads=False)

    def writer(
        self,
        stage: Stage,
        key: str,
        basis: Mapping[str, Any],
        inputs: Mapping[str, Outcome] | None = None,
        *,
        held: Held | None = None,
        anew: bool = False,
    ) -> Outputs:
        """Where a stage puts its files; nothing counts before `commit`. The lock must be held.

        Args:
            stage: the stage that is computed.
            key: its key.
            basis: what the key stands for.
            inputs: what it was given; a training may begin from snapshots of those trainings.
            held: the stage's lock, for one that may be lost.
            anew: whether checkpoints of the stage are to be forgotten and no snapshot is used.
        """
        folder = self.folder(stage.name, key)
        if folder.exists() and not folder.is_dir():
            folder.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever left these was killed, since the stage's lock is ours.
        for stray in folder.glob(f"{TEMPORARY}*"):
            stray.unlink()
        if anew:
            remove_checkpoints(folder, snapshots=True)
        unread = [(inputs or {}).get(role) for role, files in stage.reads.items() if not files]
        others = [item for item in unread if isinstance(item, Record) and not anew]
        return Outputs(
            root=self.root,
            folder=folder,
            stage=stage,
            key=key,
            basis=basis,
            beginnings=tuple(self.folder(item.stage, item.key) for item in others),
            version=version_of(folder / RECORD),
            held=held,
        )

    def commit(
        self, outputs: Outputs, facts: Mapping[str, Any], marks: MarkedFiles = UNMARKED
    ) -> Record:
        """Write the record that makes a stage's files count, and look all of it up.

        Raises:
            StageError: the code or an outside file changed while the stage was computed.
            StorageError: the lock was lost, or what was written can't be read back.
        """
        stage, key, basis = outputs.stage, outputs.key, outputs.basis
        refuse_edits(stage.name, basis["code"])
        try:
            outside = _digests(stage.external)
        except OSError:
            outside = []
        if outside != basis["external"]:
            raise StageError(
                f"{', '.join(stage.external)} changed while {stage.name} read it, so the result "
                "is not kept; start the run again."
            )
        marked = {
            name: tuple(sorted(marks.of(name)))
            for name in (*outputs.files, FACTS)
            if marks.of(name)
        }
        record = Record(
            stage.name, stage.kind, key, dict(outputs.files), dict(facts), dict(basis), marked
        )
        outputs.check_held()
        write_over(outputs.folder / RECORD, record.to_json().encode(), outputs.version)
        found = self.lookup(stage, key)
        if isinstance(found, Miss):
            raise StorageError(
                f"{stage.name}: what was written can't be read back ({found.reason}). Check the "
                f"disk of {self.root}; start the run again, or name another store with --store.",
                may_pass=True,
            )
        self.settle(found)
        return found

    def settle(self, record: Record) -> None:
        """Remove the checkpoints of a stage whose result is committed. The lock must be held."""
        remove_checkpoints(self.folder(record.stage, record.key), snapshots=False)

    def inputs(self, stage: Stage, given: Mapping[str, Outcome]) -> Inputs:
        """What a stage may open of what it was given."""
        return Inputs(self, stage, given)

    @contextmanager
    def lock(self, stage: Stage, key: str, on_wait: Callable[[], None]) -> Iterator[Held]:
        """Hold the stage's lock; it ends with the process, however that ends."""
        with locked(self.lock_path(self.folder(stage.name, key)), on_wait) as held:
            yield held

    def folder(self, stage: str, key: str) -> Place:
        """Where the files of a stage with that key are."""
        return self.root / STAGES / stage / key[:16]

    def lock_path(self, folder: Place) -> Place:
        """The lock of the stage with that folder."""
        return self.root / LOCKS / f"{folder.parent.name}-{folder.name}.lock"

    def log_scoring(self, entry: Mapping[str, Any]) -> None:
        """Add one line to the log of what was scored on the test split."""
        append_line(self.root / SCORINGS, entry)

    def scorings(self, test_digest: str) -> list[dict[str, Any]]:
        """Every scoring on the test data of that digest, oldest first."""
        lines = read_lines(self.root / SCORINGS)
        return [entry for entry in lines if entry.get("test_data") == test_digest]


def _digests(paths: Sequence[str]) -> list[str]:
    return [file_digest(Path(path))[0] for path in paths]


def _check_digest(file: StoredFile, sha256: str) -> None:
    if sha256 != file.sha256:
        raise StageError(f"{file.path} is not what was written; run again to restore it.")


@dataclass
class Outputs:
    """The files of one stage in the making; each appears whole or not at all.

    `resumed_after` is the number of epochs that a training took from a checkpoint; `watch` is told
    of each epoch that is done.
    """

    root: Place
    folder: Place
    stage: Stage
    key: str
    basis: Mapping[str, Any]
    beginnings: tuple[Place, ...] = ()
    version: str | None = None
    held: Held | None = None
    resumed_after: int = 0
    watch: Watch | None = None
    files: dict[str, StoredFile] = field(default_factory=dict)

    def arrays(self, name: str, **arrays: np.ndarray | Rows) -> None:
        """Store named arrays as `<name>.npz`; no array may hold Python objects."""
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
        """Store what `write` puts at the path that it is given, e.g. a Keras model."""
        with self._file(name, kind, {}) as path:
            write(path)

    def checkpoints(self, settings: Mapping[str, Any], epochs: int) -> Checkpoints:
        """The checkpoints of a training; `settings` are the stage's without that number."""
        lineage = digest_of({**self.basis, "stage": self.stage.kind, "settings": dict(settings)})
        return Checkpoints(
            stage=self.stage.name,
            folder=self.folder,
            lineage=lineage,
            epochs=epochs,
            snapshots=self.stage.snapshots,
            elsewhere=self.beginnings,
            check=self._check,
        )

    def check_held(self) -> None:
        """Refuse to write where the stage's lock was lost.

        Raises:
            StorageError: it was.
        """
        if self.held:
            check_held(self.held)

    def _check(self) -> None:
        refuse_edits(self.stage.name, self.basis["code"])
        self.check_held()

    def epoch_done(self, epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        """Tell whoever looks on that a training has come so far; `row` is its history's last."""
        event = log_epoch(self.stage.name, epoch, epochs, row)
        if self.watch:
            self.watch(event)

    @contextmanager
    def _file(self, name: str, kind: str, schema: Mapping[str, Any]) -> Iterator[Path]:
        target = self.folder / f"{name}.{kind}"
        with replacing(target) as path:
            yield path
            # Whoever has the lock now may have put his files there.
            self.check_held()
            sha256, size = file_digest(path)
        where = relative(target, self.root)
        self.files[name] = StoredFile(where, sha256, size, kind, dict(schema))


class Inputs:
    """The declared part of a stage's inputs; anything else is refused.

    A file's digest is compared each time that it is read.
    """

    def __init__(self, store: Store, stage: Stage, given: Mapping[str, Outcome]) -> None:
        self._store = store
        self._stage = stage
        self._given = given

    @property
    def external(self) -> tuple[Path, ...]:
        """The files outside the store that the stage declared."""
        return tuple(Path(path) for path in self._stage.external)

    @property
    def roles(self) -> Sequence[str]:
        """The roles of the inputs, in the order in which they were declared."""
        return tuple(self._stage.reads)

    def skipped(self, role: str) -> str | None:
        """Why the input was skipped; None where it is there."""
        outcome = self._given[role]
        return outcome.reason if isinstance(outcome, Skipped) else None

    def facts(self, role: str) -> Mapping[str, Any]:
        """The small values of an input's record."""
        return self._record(role, FACTS).facts

    def arrays(self, role: str, name: str) -> dict[str, np.ndarray]:
        """The arrays in an `.npz` of an input."""
        import numpy as np

        with (
            self._store.opened(self._record(role, name), name) as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            return {key: archive[key] for key in archive.files}

    @contextmanager
    def rows(self, role: str, name: str, array: str, size: int) -> Iterator[Rows]:
        """One array in an `.npz` of an input, in batches of `size` rows, to be taken once.

        Raises:
            SealedError: the stage did not declare that it reads the file.
            StageError: the file is not what was written.
        """
        record = self._record(role, name)
        with self._store.opened(record, name) as file, read_rows(file, array, size) as rows:
            yield rows

    def table(self, role: str, name: str) -> pa.Table:
        """A Parquet table of an input."""
        return self._store.table(self._record(role, name), name)

    def content(self, role: str, name: str) -> bytes:
        """The bytes of a file of an input.

        Raises:
            SealedError: the stage did not declare that it reads the file.
            StageError: the bytes are not those of the record any more.
        """
        return self._store.content(self._record(role, name), name)

    def path(self, role: str, name: str) -> Path:
        """Where a file of an input is, for libraries that open files themselves."""
        record = self._record(role, name)
        with self._store.opened(record, name):
            return self._store.local(record.files[name])

    def _record(self, role: str, name: str) -> Record:
        if name not in self._stage.reads.get(role, ()):
            raise SealedError(
                f"stage {self._stage.name!r} asks for {name!r} of its input {role!r}, "
                f"but declared that it reads {list(self._stage.reads.get(role, ()))}."
            )
        outcome = self._given[role]
        if isinstance(outcome, Skipped):
            raise StageError(f"input {role!r} of {self._stage.name!r} was skipped.")
        return outcome
