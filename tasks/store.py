"""The store: the only module that knows paths, digests, keys, locks and atomic writes.

Layout below the store's folder (see artifacts/README.md):

    stages/<stage>/<first 16 digits of the key>/record.json and the files that it names
    runs/<run id>/          the log of one run, and its report
    locks/                  one lock a stage being computed
    test_scorings.jsonl     one line each time a model was scored on the test split
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import SealedError, StageError, UserError
from tasks.core.records import (
    FACTS,
    FORMAT_VERSION,
    Outcome,
    Record,
    Skipped,
    Stage,
    StoredFile,
    digest_of,
)
from tasks.fingerprint import code_of
from tasks.runtime import library_versions

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

RECORD = "record.json"
LOCK_POLL_S = 0.2


@dataclass(frozen=True)
class Miss:
    """Why a stage is not in the store."""

    reason: str


class Store:
    """A folder of stage results, each valid only while every byte of it is what it was.

    Args:
        url: a path, or a `file://` URL.
    """

    def __init__(self, url: str) -> None:
        if "://" in url and not url.startswith("file://"):
            raise UserError(f"store {url!r}: only local folders are supported; give a path.")
        self.root = Path(url.removeprefix("file://")).expanduser().absolute()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"store {self.root}: there is a file of that name; give a folder.")

    def key_of(
        self, stage: Stage, inputs: Mapping[str, Outcome], profile: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """The key of a stage on given inputs, and what the key stands for."""
        basis = {
            "format": FORMAT_VERSION,
            "stage": stage.name,
            "settings": dict(stage.settings),
            "inputs": {role: inputs[role].digest(files) for role, files in stage.reads.items()},
            # Where an outside file lies does not matter, what is in it does.
            "external": [_file_digest(Path(path))[0] for path in stage.external],
            "code": code_of(f"tasks.{stage.kind}"),
            "profile": dict(profile) if stage.numerical else library_versions(),
        }
        return digest_of(basis), basis

    def lookup(self, stage: Stage, key: str) -> Record | Miss:
        """The record of a stage if it and every file that it names are intact, else why not."""
        path = self._folder(stage.name, key) / RECORD
        try:
            record = Record.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Miss("not computed yet with these settings, inputs and code")
        except (OSError, ValueError) as error:
            return Miss(f"its record can't be used: {error}")
        if record.key != key or record.stage != stage.name:
            return Miss("its record belongs to another stage")
        for name, file in record.files.items():
            fault = self._fault(file)
            if fault:
                return Miss(f"{name} {fault}: {file.path}")
        return record

    def _fault(self, file: StoredFile) -> str | None:
        path = self.root / file.path
        try:
            if path.stat().st_size != file.size:
                return f"has {path.stat().st_size} bytes instead of {file.size}"
            return None if _file_digest(path)[0] == file.sha256 else "has other content"
        except OSError as error:
            return "is missing" if error.errno == errno.ENOENT else f"can't be read ({error})"

    def record(self, stage: str, key: str) -> Record:
        """The record of a stage that an earlier run left, its files not checked.

        Raises:
            StageError: it is not there or damaged.
        """
        path = self._folder(stage, key) / RECORD
        try:
            return Record.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StageError(
                f"the record of {stage} can't be read ({error}); run the flow again to restore it."
            ) from None

    def content(self, record: Record, name: str) -> bytes:
        """The bytes of a record's file.

        Raises:
            StageError: they are gone, or not those of the record any more.
        """
        file = record.files[name]
        try:
            content = (self.root / file.path).read_bytes()
        except OSError as error:
            raise StageError(f"{file.path} can't be read ({error}); run again.") from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise StageError(f"{file.path} is not what was written; run again to restore it.")
        return content

    def table(self, record: Record, name: str) -> pa.Table:
        """A record's Parquet table."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Arrow's threads now and then abort a process that ends soon after (apache/arrow#34314).
        return pq.read_table(pa.BufferReader(self.content(record, name)), use_threads=False)

    def writer(self, stage: Stage, key: str) -> Outputs:
        """Where a stage puts its files; nothing counts before `commit`."""
        folder = self._folder(stage.name, key)
        folder.mkdir(parents=True, exist_ok=True)
        return Outputs(self.root, folder)

    def commit(
        self,
        stage: Stage,
        key: str,
        basis: Mapping[str, Any],
        outputs: Outputs,
        facts: Mapping[str, Any],
    ) -> Record:
        """Write the record that makes a stage's files count, and read all of it back.

        Raises:
            StageError: what was written can't be read back.
        """
        record = Record(stage.name, stage.kind, key, dict(outputs.files), dict(facts), dict(basis))
        write_atomically(self._folder(stage.name, key) / RECORD, record.to_json().encode())
        found = self.lookup(stage, key)
        if isinstance(found, Miss):
            raise StageError(f"{stage.name}: what was written can't be read back: {found.reason}")
        return found

    def inputs(self, stage: Stage, given: Mapping[str, Outcome]) -> Inputs:
        """What a stage may open of what it was given."""
        return Inputs(self, stage, given)

    @contextmanager
    def lock(self, stage: Stage, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the stage's lock; it ends with the process, however that ends."""
        path = self.root / "locks" / f"{stage.name}-{key[:16]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as handle:
            waited = False
            while not try_lock(handle.fileno()):
                if not waited:
                    on_wait()
                    waited = True
                time.sleep(LOCK_POLL_S)
            yield

    def log_scoring(self, entry: Mapping[str, Any]) -> None:
        """Add one line to the log of what was scored on the test split."""
        append_line(self.root / "test_scorings.jsonl", entry)

    def scorings(self, test_digest: str) -> list[dict[str, Any]]:
        """Every scoring on the test data of that digest, oldest first."""
        lines = read_lines(self.root / "test_scorings.jsonl")
        return [entry for entry in lines if entry.get("test_data") == test_digest]

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / "stages" / stage / key[:16]


@dataclass
class Outputs:
    """The files of one stage in the making; each appears whole or not at all."""

    root: Path
    folder: Path
    files: dict[str, StoredFile] = field(default_factory=dict)

    def arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Store named arrays as `<name>.npz`; no array may hold Python objects."""
        import numpy as np

        schema = {key: f"{value.dtype} {list(value.shape)}" for key, value in arrays.items()}
        with self._file(name, "npz", schema) as path, path.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **arrays)

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

    @contextmanager
    def _file(self, name: str, kind: str, schema: Mapping[str, Any]) -> Iterator[Path]:
        target = self.folder / f"{name}.{kind}"
        with _replacing(target) as path:
            yield path
            sha256, size = _file_digest(path)
        relative = target.relative_to(self.root).as_posix()
        self.files[name] = StoredFile(relative, sha256, size, kind, dict(schema))


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
        import io

        import numpy as np

        with np.load(io.BytesIO(self.content(role, name)), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

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
        self.content(role, name)
        return self._store.root / self._record(role, name).files[name].path

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


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by a file with `content`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place, flushed to disk, if all went well."""
    # The suffix stays, since libraries choose the format by it.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as opened:
            os.fsync(opened.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one JSON line under a lock, so that lines of several processes do not mix.

    A line that a crash cut short is ended first, so that it does not spoil this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(entry, sort_keys=True) + "\n"
    with path.open("a+b", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if handle.seek(0, os.SEEK_END):
            handle.seek(-1, os.SEEK_END)
            line = line if handle.read(1) == b"\n" else "\n" + line
        handle.write(line.encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log; a line cut short by a crash is passed over."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take a `flock` if it is free; a shared one only to see whether somebody holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _file_digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, read in pieces."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return digest, handle.tell()
