"""What is in a folder and its subfolders, without the files that systems leave there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePath

from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed
from tasks.sources.picture_decoding import HEIC_SUFFIXES, printable, suffixes
from tasks.storage.store import RUN_INDEX

# Written by Windows, macOS and storage devices; names that begin with a dot are left out, too.
JUNK = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir"))

BROKEN = "a broken link"
LOOP = "a link to a folder that is read already"
UNREADABLE = "a folder that can't be read"
NOT_A_FILE = "special files like pipes"


@dataclass(frozen=True)
class Listing:
    """The content of a folder, with paths relative to it.

    Attributes:
        files: every regular file, sorted.
        folders: every subfolder, sorted.
        left_out: what could not be followed or read, as counts by reason.
    """

    files: list[Path]
    folders: list[Path]
    left_out: Counter[str]

    def pictures(self) -> list[Path]:
        """The files whose suffixes are those of pictures."""
        wanted = suffixes()
        return [file for file in self.files if file.suffix.lower() in wanted]

    def others(self) -> Counter[str]:
        """How many files are no pictures, by suffix."""
        wanted = suffixes()
        return Counter(suffix for file in self.files if (suffix := suffix_of(file)) not in wanted)


_VIEW: ContextVar[dict[Path, Listing] | None] = ContextVar("view", default=None)


@contextmanager
def one_view() -> Iterator[None]:
    """Within it each folder is listed once, so that all who ask see the same."""
    token = _VIEW.set({})
    try:
        yield
    finally:
        _VIEW.reset(token)


def listing(folder: Path) -> Listing:
    """List a folder; links are followed, but no folder is read twice, and no store of results."""
    seen = _VIEW.get()
    if seen is None:
        return _listing(folder)
    if folder not in seen:
        seen[folder] = _listing(folder)
    return seen[folder]


def _listing(folder: Path) -> Listing:
    files: list[Path] = []
    folders: list[Path] = []
    left_out: Counter[str] = Counter()
    read: set[tuple[int, int]] = set()
    pending = [Path()]
    while pending:
        part = pending.pop()
        try:
            status = os.stat(folder / part)
            entries = sorted(os.scandir(folder / part), key=lambda entry: entry.name)
        except OSError:
            left_out[UNREADABLE] += 1
            continue
        if (status.st_dev, status.st_ino) in read:
            left_out[LOOP] += 1
            continue
        read.add((status.st_dev, status.st_ino))
        # A run in the folder of its data keeps its results there.
        if any(entry.name == RUN_INDEX for entry in entries):
            continue
        if part.parts:
            folders.append(part)
        below = []
        for entry in entries:
            if is_junk(entry.name):
                continue
            kind = _kind(entry)
            if kind == "folder":
                # Folders before links to them, so that a file has its own name.
                below.append((entry.is_symlink(), part / entry.name))
            elif kind == "file":
                files.append(part / entry.name)
            else:
                left_out[kind] += 1
        pending += [path for _, path in sorted(below, reverse=True)]
    return Listing(sorted(files), sorted(folders), left_out)


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted, without hidden ones; none if it is no folder.

    Raises:
        UserError: it can't be read.
    """
    if not os.path.isdir(folder):
        return []
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UserError(
            f"{folder}: can't be read ({first_line(error)}); check it and its permissions."
        ) from None


def suffix_of(path: PurePath) -> str:
    """The suffix in lower case, or words for none."""
    return printable(path.suffix.lower()) or "no suffix"


def is_junk(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or left there by a system."""
    return name.startswith(".") or name.casefold() in JUNK


def in_junk(path: PurePath) -> bool:
    """Whether a part of a relative path is hidden, or left there by a system."""
    return any(map(is_junk, path.parts))


def heic_notes(left_out: Iterable[str]) -> tuple[str, ...]:
    """How to have HEIC read, if such files were left out for want of the package."""
    found = sorted(HEIC_SUFFIXES & set(left_out))
    if not found:
        return ()
    return (
        f"Files with {listed(found)} are left out; to read them, install the extra `heic` "
        "(pip install 'fashion-flow[heic]').",
    )


def _kind(entry: os.DirEntry[str]) -> str:
    """`folder`, `file`, or why it is neither."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return BROKEN if entry.is_symlink() else NOT_A_FILE
    except OSError:
        # Links that lead in a circle, or where nobody may look.
        return BROKEN
