"""A user's own data set: which reader it needs, and the digest of its content.

To add a format, write a module with `accepts`, `files` and `read`, like
`class_folders`, and list it in `_readers`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.core.records import digest_of
from tasks.storage.files import file_digest

if TYPE_CHECKING:
    from tasks.sources.collection import Collection

_EXPECTED = (
    "a folder with a folder of pictures for each class, a table (CSV, JSON Lines, Parquet) of "
    "pictures or pixels, arrays (.npz, .npy), IDX files, or a .zip or .tar of these"
)


class Reader(Protocol):
    """A module that reads data sets of one form."""

    __name__: str

    def accepts(self, path: Path) -> bool:
        """Whether a path has this form; the content may still be wrong.

        Raises:
            UserError: it is a folder that can't be read.
        """

    def files(self, path: Path) -> list[Path]:
        """Every file whose content matters.

        Raises:
            UserError: some are missing, or a table that names them can't be read.
        """

    def read(self, path: Path) -> Collection:
        """What the data set consists of.

        Raises:
            UserError: something is missing, damaged or inconsistent.
        """


@contextmanager
def opened_data_set(data_set: str) -> Iterator[Collection]:
    """What a data set consists of; its images can be decoded within the context.

    What comes from a bucket or out of an archive is in a temporary folder until then.

    Raises:
        UserError: it does not exist, has no known form, or something is missing, damaged or
            inconsistent.
    """
    from tasks.sources import archives, remote

    if remote.is_remote(data_set):
        fetched = remote.fetched(remote.listed_dataset(data_set))
        with fetched as copy, _named(copy, data_set), opened_data_set(str(copy)) as found:
            yield found
        return
    path = existing(data_set)
    if not archives.accepts(path):
        yield _read(path)
        return
    with archives.unpacked(path) as content, _named(content.folder, data_set):
        found = _read(content.path)
        yield replace(found, left_out=Counter(found.left_out) + Counter(content.left_out))


@contextmanager
def _named(copy: Path, data_set: str) -> Iterator[None]:
    """Have messages name the data set in place of its temporary copy."""
    try:
        yield
    except UserError as error:
        raise UserError(error.whole.replace(str(copy), data_set)) from error


def data_set_digest(data_set: str) -> str:
    """A digest of a data set's files: of their names, relative to it, and their contents.

    Of other files in its folder, only the names count.

    An archive counts as one file. In a bucket, the service's own digests are used. Files that have
    not changed since they were read last are not read again.

    Raises:
        UserError: the data set does not exist, has no known form, or a file can't be read.
    """
    from tasks.sources import archives, remote
    from tasks.sources.folder_listing import one_view

    if remote.is_remote(data_set):
        return remote.listed_dataset(data_set).digest()
    path = existing(data_set)
    if archives.accepts(path):
        return digest_of(["archive", _file_digest(path)])
    with one_view():
        reader = _reader_of(path)
        files = reader.files(path)
        base = path if path.is_dir() else path.parent
        names = ["" if file == path else os.path.relpath(file, base) for file in files]
        # Beside a table may be anything, such as the store of this run.
        others = _others(path, names) if path.is_dir() else []
    with ThreadPoolExecutor() as threads:
        digests = list(threads.map(_file_digest, files))
    content = sorted(map(list, zip(names, digests, strict=True)))
    return digest_of([reader.__name__, content, others])


def _others(folder: Path, names: Iterable[str]) -> list[Any]:
    """What else is in a folder: it is counted, so it is part of what is said of the data set."""
    from tasks.sources.folder_listing import listing

    found = listing(folder)
    files = {path.as_posix() for path in found.files} - set(names)
    folders = sorted(path.as_posix() for path in found.folders)
    return [sorted(files), folders, sorted(found.left_out.items())]


def existing(data_set: str) -> Path:
    """The path of a data set on this machine.

    Raises:
        UserError: it does not exist.
    """
    if not data_set or "://" in data_set:
        what = f"{data_set} can't be read; download it first" if data_set else "the name is empty"
        raise UserError(f"data set: {what}. Expected {_EXPECTED}, or s3://bucket/prefix.")
    path = Path(data_set).expanduser()
    # Unlike `Path.exists`, this answers False if the path may not be accessed.
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist or can't be accessed; expected {_EXPECTED}.")
    return path


def _read(path: Path) -> Collection:
    from tasks.sources.folder_listing import one_view

    with one_view():
        return _reader_of(path).read(path)


def _reader_of(path: Path) -> Reader:
    found = next((reader for reader in _readers() if reader.accepts(path)), None)
    if found is None:
        _refuse(path)
    return found


def _refuse(path: Path) -> NoReturn:
    """Say why nothing can be read there."""
    from tasks.sources import archives
    from tasks.sources.folder_listing import heic_notes, listing
    from tasks.sources.mistaken_files import begin_of
    from tasks.sources.parquet_files import parquet_file

    hints = heic_notes(listing(path).others()) if path.is_dir() else ()
    if path.is_file():
        begin_of(path)
        if archives.accepts(path):
            raise UserError(f"{path} is an archive in an archive; unpack it and give the folder.")
        if path.suffix.lower() == ".parquet":
            # Raises an error if the file is damaged.
            with parquet_file(path):
                pass
    text = " ".join([f"{path} is not a data set in a known form; expected {_EXPECTED}.", *hints])
    raise UserError(text)


def _readers() -> Sequence[Reader]:
    """All readers, the most particular ones first."""
    # Imported late: keys are computed by commands that must start quickly.
    from tasks.sources import (
        array_files,
        class_folders,
        idx_folder,
        picture_lists,
        picture_parquet,
        pixel_tables,
    )

    return (idx_folder, array_files, pixel_tables, picture_parquet, picture_lists, class_folders)


def _file_digest(path: Path) -> str:
    try:
        state = path.stat()
        return _digest_in_state(
            path, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        )
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({first_line(error)}); check it and its permissions."
        ) from None


@cache
def _digest_in_state(path: Path, _state: tuple[int, ...]) -> str:
    return file_digest(path)[0]
