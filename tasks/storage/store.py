"""The store: results of stages under their keys, each valid only while every byte is intact.

Layout below the store's folder or prefix (see artifacts/README.md):

    stages/<stage>/<first 16 digits of the key>/record.json and the files that it names,
                            checkpoints of an unfinished training
    runs/<run id>/          the log of one run, and its report
    locks/                  one lock for each stage that is being computed
    runs.jsonl              one line for each run that began, and for each that `clean` removed
    test_scorings.jsonl     one line for each scoring of a model on the test split
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tasks.core.errors import StageError, StorageError, UserError
from tasks.core.messages import first_line, quoted
from tasks.core.records import Outcome, Record, Stage, StoredFile
from tasks.core.seal import UNMARKED, MarkedFiles
from tasks.storage.checkpoints import remove_checkpoints
from tasks.storage.exchange import Inputs, Outputs
from tasks.storage.files import TEMPORARY, append_line, entries, read_lines, write_over
from tasks.storage.health import check_usable
from tasks.storage.locks import locked
from tasks.storage.store_path import Held, StorePath
from tasks.storage.stored_files import content_of, local_file, opened, table_of
from tasks.storage.urls import path_of

if TYPE_CHECKING:
    import pyarrow as pa

RECORD = "record.json"
ABSENT = "not computed yet with these settings, inputs and code"
STAGES, RUNS, LOCKS = "stages", "runs", "locks"
SCORINGS, RUN_INDEX = "test_scorings.jsonl", "runs.jsonl"


@dataclass(frozen=True)
class Miss:
    """Why the store has no valid result of a stage."""

    reason: str


class Store:
    """A folder or bucket of stage results.

    Args:
        url: a path, a `file://` URL, or `s3://bucket/prefix`.

    Raises:
        UserError: the URL is not valid, or names a file.
    """

    def __init__(self, url: str) -> None:
        self.root = path_of(url)

    def check_exists(self) -> None:
        """Refuse a folder that contains no store.

        Raises:
            UserError: it is missing, or nothing in it belongs to a store.
        """
        if not any((self.root / name).exists() for name in (RUN_INDEX, SCORINGS, STAGES, RUNS)):
            raise UserError(f"there is no store in {self.root}; name it with --store.")

    def check_usable(self, *, space: bool = True) -> None:
        """Refuse a store in which runs could not be trusted, before anything is computed.

        Args:
            space: whether to refuse a full disk, too.

        Raises:
            StorageError: it can't be written or locked; see `tasks.storage.health`.
            UserError: its name is not UTF-8, so neither logs nor a Prefect server can hold it.
        """
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"store {quoted(str(self.root))}: its name is not valid UTF-8; rename it, "
                "or name another with --store."
            ) from None
        check_usable(self.root, space=space)

    # Paths

    def folder(self, stage: str, key: str) -> StorePath:
        """The folder of a stage's result with that key."""
        return self.root / STAGES / stage / key[:16]

    def lock_path(self, folder: StorePath) -> StorePath:
        """The lock of the result in that folder."""
        return self.root / LOCKS / f"{folder.parent.name}-{folder.name}.lock"

    # Records

    def lookup(self, stage: Stage, key: str) -> Record | Miss:
        """The record of a stage if it and all of its files are intact, else the reason.

        In a bucket, the digest stored with a file is compared, not its bytes.
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
        """The faults of the files that a record names, one after the other.

        Args:
            record: the record.
            thorough: whether files in a bucket are fetched to compare their bytes.
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
            digest = path.digest()[0] if thorough else path.stored_digest()
            return None if digest == file.sha256 else "has other content"
        except OSError as error:
            return (
                "is missing" if error.errno == errno.ENOENT else f"can't be read ({error.strerror})"
            )

    def record(self, stage: str, key: str) -> Record:
        """The record of a stage from an earlier run; its files are not checked.

        Raises:
            StageError: it is missing or damaged.
        """
        try:
            return self.read(self.folder(stage, key))
        except (OSError, ValueError) as error:
            raise StageError(
                f"the record of {stage} can't be read ({first_line(error)}); run the flow again "
                "to restore it."
            ) from None

    def records(self, stage: str) -> Iterator[Record]:
        """Every readable record of a stage, whatever its key; their files are not checked."""
        for folder in entries(self.root / STAGES / stage):
            with suppress(OSError, ValueError):
                yield self.read(folder)

    def read(self, folder: StorePath) -> Record:
        """The record in a stage's folder.

        Raises:
            OSError: it is missing or unreadable.
            ValueError: it is damaged.
        """
        return Record.from_json((folder / RECORD).read_text(encoding="utf-8"))

    # Files

    def content(self, record: Record, name: str) -> bytes:
        """The bytes of a record's file.

        Raises:
            StageError: they are missing or changed.
            OSError: they can't be read; this may pass.
        """
        return content_of(self.root, record.files[name])

    def opened(self, record: Record, name: str) -> AbstractContextManager[IO[bytes]]:
        """A record's file to read in pieces, after its digest was checked.

        Raises:
            StageError: it is missing or changed.
            OSError: it can't be read; this may pass.
        """
        return opened(self.root, record.files[name])

    def local(self, file: StoredFile) -> Path:
        """A local file with the bytes of a record's file; on a disk, its digest is not checked.

        Raises:
            StageError: it is missing; or it is in a bucket and changed.
        """
        return local_file(self.root, file)

    def table(self, record: Record, name: str) -> pa.Table:
        """A record's Parquet table."""
        return table_of(self.root, record.files[name])

    # Computing a stage

    def lock(
        self, stage: Stage, key: str, on_wait: Callable[[], None]
    ) -> AbstractContextManager[Held]:
        """Wait for the stage's lock and hold it; see `tasks.storage.locks.locked`."""
        return locked(self.lock_path(self.folder(stage.name, key)), on_wait)

    def inputs(self, stage: Stage, given: Mapping[str, Outcome]) -> Inputs:
        """The inputs of a stage, which can read only the files that it declared."""
        return Inputs(self.root, stage, given)

    def writer(
        self,
        stage: Stage,
        key: str,
        basis: Mapping[str, Any],
        inputs: Mapping[str, Outcome] | None = None,
        *,
        held: Held | None = None,
        from_scratch: bool = False,
    ) -> Outputs:
        """The outputs of a stage, which become valid by `commit`. The lock must be held.

        Args:
            stage: the stage that is computed.
            key: its key.
            basis: what the key covers.
            inputs: its inputs; a training may begin from snapshots of those that it does not read.
            held: the stage's lock; without it, a lost lock goes unnoticed.
            from_scratch: whether to remove the stage's checkpoints and ignore all snapshots.
        """
        folder = self.folder(stage.name, key)
        # A file, or a link that leads nowhere, which does not exist to `exists`.
        if (folder.is_symlink() or folder.exists()) and not folder.is_dir():
            folder.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        # The stage's lock is ours, so the process that wrote these was killed.
        for stray in folder.glob(f"{TEMPORARY}*"):
            stray.unlink()
        if from_scratch:
            remove_checkpoints(folder, snapshots=True)
        unread = [(inputs or {}).get(role) for role, files in stage.reads.items() if not files]
        others = [item for item in unread if isinstance(item, Record) and not from_scratch]
        return Outputs(
            root=self.root,
            folder=folder,
            stage=stage,
            key=key,
            basis=basis,
            snapshot_folders=tuple(self.folder(item.stage, item.key) for item in others),
            version=(folder / RECORD).version(),
            held=held,
        )

    def commit(
        self, outputs: Outputs, facts: Mapping[str, Any], marks: MarkedFiles = UNMARKED
    ) -> Record:
        """Write the record that makes a stage's files valid, and read everything back.

        Raises:
            StorageError: the lock was lost, or the result can't be read back.
        """
        stage, key, files = outputs.stage, outputs.key, dict(outputs.files)
        record = Record(stage.name, stage.kind, key, files, dict(facts), dict(outputs.basis))
        record = record.with_marks(marks)
        outputs.check_held()
        write_over(outputs.folder / RECORD, record.to_json().encode(), outputs.version)
        found = self.lookup(stage, key)
        if isinstance(found, Miss):
            raise StorageError(
                f"{stage.name}: the result can't be read back ({found.reason}). Check the "
                f"disk of {self.root}; start the run again, or name another store with --store.",
                transient=True,
            )
        self.settle(found)
        return found

    def settle(self, record: Record) -> None:
        """Remove the checkpoints of a stage whose result is committed. The lock must be held."""
        remove_checkpoints(self.folder(record.stage, record.key), snapshots=False)

    # Scorings on the test split

    def log_scoring(self, entry: Mapping[str, Any]) -> None:
        """Add one line to the log of scorings."""
        append_line(self.root / SCORINGS, entry)

    def scorings(self, test_digest: str) -> list[dict[str, Any]]:
        """Every scoring on the test data with that digest, oldest first."""
        lines = read_lines(self.root / SCORINGS)
        return [entry for entry in lines if entry.get("test_data") == test_digest]
