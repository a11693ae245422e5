"""Temporary folders for data sets that are unpacked or fetched."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources import bounded_files
from tasks.sources.folder_listing import is_junk
from tasks.sources.split_names import split_of


@contextmanager
def temporary_folder(origin: str) -> Iterator[Path]:
    """An empty folder that is deleted when the context ends; `origin` is what will fill it.

    Raises:
        UserError: the disk is full.
    """
    with ExitStack() as stack:
        with filling(origin):
            made = tempfile.TemporaryDirectory(prefix="fashion-flow-")
            folder = stack.enter_context(made)
        yield Path(folder)


@contextmanager
def filling(origin: str) -> Iterator[None]:
    """Explain errors of the disk while a folder is filled.

    Raises:
        UserError: the disk became full inside the context, or something can't be read or written.
    """
    try:
        yield
    except OSError as error:
        where = tempfile.gettempdir()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{origin}: there is no space for its content in {where}; delete something, or set "
                "TMPDIR to a folder with more space."
            ) from None
        raise UserError(
            f"{origin}: can't be copied to {where} ({first_line(error)}); check both and their "
            "permissions."
        ) from None


def check_space(folder: Path, size: int, origin: str) -> None:
    """Refuse a content of so many bytes if it is too large.

    Raises:
        UserError: there is a limit on data sets.
        OSError: the disk has no space for it.
    """
    limit = bounded_files.MAX_UNCOMPRESSED_BYTES
    if size > limit:
        raise UserError(
            f"{origin}: holds {size >> 20:,} MB; expected at most {limit >> 20:,} MB. Leave out "
            "what is not needed, or give a folder."
        )
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def leads_out(path: PurePosixPath) -> bool:
    """Whether a relative path, e.g. of an archive's member, may lead out of a folder."""
    return path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", str(path)) is not None


def unwrapped(folder: Path) -> Path:
    """The first folder with a choice, or the only file; folders of splits are kept."""
    while True:
        entries = [entry for entry in folder.iterdir() if not is_junk(entry.name)]
        if len(entries) != 1 or split_of(entries[0].name):
            return folder
        if entries[0].is_file():
            return entries[0]
        folder = entries[0]
