"""Read the files that a record names, and check their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tasks.core.errors import StageError
from tasks.core.records import StoredFile
from tasks.storage.files import content_digest, naming
from tasks.storage.store_path import StorePath

if TYPE_CHECKING:
    import pyarrow as pa


def content_of(root: StorePath, file: StoredFile) -> bytes:
    """The bytes of a file in the store at `root`.

    Raises:
        StageError: they are missing or changed.
        OSError: they can't be read; this may pass.
    """
    path = local_file(root, file)
    with naming(path), path.open("rb") as handle:
        content = handle.read()
    _check_digest(file, content_digest(content))
    return content


@contextmanager
def opened(root: StorePath, file: StoredFile) -> Iterator[IO[bytes]]:
    """A file to read in pieces, after its digest was checked.

    Raises:
        StageError: it is missing or changed.
        OSError: it can't be read; this may pass.
    """
    path = local_file(root, file)
    with naming(path), path.open("rb") as handle:
        _check_digest(file, hashlib.file_digest(handle, "sha256").hexdigest())
        handle.seek(0)
        yield handle


def local_file(root: StorePath, file: StoredFile) -> Path:
    """A local file with the bytes of a stored file; on a disk, its digest is not checked.

    Raises:
        StageError: it is missing; or it is in a bucket and changed.
    """
    try:
        path = (root / file.path).local(file.sha256)
        path.stat()
    except FileNotFoundError:
        raise StageError(f"{file.path} is missing; run again to restore it.") from None
    return path


def table_of(root: StorePath, file: StoredFile) -> pa.Table:
    """A Parquet table.

    Raises:
        StageError: the file is missing or changed.
        OSError: it can't be read; this may pass.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Arrow's threads occasionally abort a process that ends soon after (apache/arrow#34314), and
    # `read_table` starts one for input even without `use_threads`.
    return pq.ParquetFile(pa.BufferReader(content_of(root, file))).read(use_threads=False)


def _check_digest(file: StoredFile, sha256: str) -> None:
    if sha256 != file.sha256:
        raise StageError(f"{file.path} does not match its SHA-256; run again to restore it.")
