"""Unpack an archive that holds a data set into a temporary folder, and nothing outside of it."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources import bounded_files
from tasks.sources.folder_listing import is_junk
from tasks.sources.temporary_folders import (
    check_space,
    filling,
    leads_out,
    temporary_folder,
    unwrapped,
)

SUFFIXES = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Known, so that the message says what to do.
UNKNOWN_SUFFIXES = (".7z", ".rar", ".tar.zst")
# A zip of arrays, which has a reader of its own.
NOT_ARCHIVES = (".npz",)

MOST_MEMBERS = 2_000_000
# More than 200 times its size is suspicious in an archive that unpacks to more than a gigabyte.
MOST_RATIO, SMALL = 200, 2**30
# No name or header of a member is longer; files are copied in smaller pieces.
LONGEST_READ, CHUNK = 1 << 24, 1 << 20

LINK = "a link or device in the archive"
UNSAFE = "a member whose name leads out of the archive"
NO_NAME = "a member whose name can't be a file's"
# Bits of a zip member's flags.
_ENCRYPTED, _UTF8 = 0x1, 0x800

# By their first bytes.
_UNCOMPRESS: dict[bytes, Callable[..., IO[bytes]]] = {
    b"\x1f\x8b": cast("Callable[..., IO[bytes]]", gzip.open),
    b"BZh": cast("Callable[..., IO[bytes]]", bz2.open),
    b"\xfd7zXZ\0": cast("Callable[..., IO[bytes]]", lzma.open),
}
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Unpacked:
    """The content of an archive.

    Attributes:
        folder: the temporary folder.
        path: a folder in it; a file if the archive holds nothing else.
        left_out: members that were not unpacked, as counts by reason.
    """

    folder: Path
    path: Path
    left_out: Mapping[str, int]


@dataclass
class _Target:
    """The folder into which members are written, with the limits on them."""

    folder: Path
    origin: Path
    left_out: Counter[str] = field(default_factory=Counter)
    members: int = 0
    size: int = 0

    def counts(self) -> None:
        """Count a member.

        Raises:
            UserError: there are too many.
        """
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise UserError(
                f"{self.origin}: contains more than {MOST_MEMBERS:,} files; unpack it, and leave "
                "out what is not needed."
            )

    def grows(self, count: int) -> None:
        """Count unpacked bytes.

        Raises:
            UserError: there are too many.
        """
        self.size += count
        limit = bounded_files.MAX_UNCOMPRESSED_BYTES
        suspicious = self.size > SMALL and self.size > MOST_RATIO * self.origin.stat().st_size
        if self.size > limit or suspicious:
            raise UserError(
                f"{self.origin}: unpacks to more than {self.size >> 20:,} MB, so it may be a file "
                f"made to fill disks; expected at most {limit >> 20:,} MB, and {MOST_RATIO} times "
                "the archive. If it is not, unpack it yourself and give the folder."
            )

    def wants(self, path: PurePosixPath) -> bool:
        """Whether a member is to be written; counts those whose names lead elsewhere."""
        if leads_out(path):
            self.left_out[UNSAFE] += 1
            return False
        return bool(path.parts) and not any(map(is_junk, path.parts))

    def write(self, path: PurePosixPath, content: IO[bytes]) -> None:
        """Write a member, unless there can't be a file of that name."""
        target = self.folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            opened = target.open("wb")
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            # Too long, or at once a file and a folder.
            self.left_out[NO_NAME] += 1
            return
        with opened:
            while piece := content.read(CHUNK):
                self.grows(len(piece))
                opened.write(piece)


def accepts(path: Path) -> bool:
    """Whether a path is an archive by its name or its content."""
    name = path.name.lower()
    if not os.path.isfile(path) or name.endswith(NOT_ARCHIVES):
        return False
    return name.endswith(SUFFIXES + UNKNOWN_SUFFIXES) or _is_zip(path) or _is_tar(path)


@contextmanager
def unpacked(path: Path) -> Iterator[Unpacked]:
    """Unpack an archive into a folder that is deleted when the context ends.

    Links, devices, hidden files and members whose names lead elsewhere are left out. Folders in
    which the archive holds everything else are skipped, but for those of splits.

    Raises:
        UserError: it is no zip or tar, damaged, encrypted, too large, or the disk is full.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(str(path)))
        with _explained(path):
            target = _Target(folder, path)
            if _is_zip(path):
                _unzip(target)
            elif _is_tar(path):
                _untar(target)
            else:
                raise UserError(
                    f"{path}: is no zip or tar archive, or is cut off; get another copy, or unpack "
                    "it and give the folder."
                )
        yield Unpacked(folder, unwrapped(folder), target.left_out)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        with filling(str(path)):
            yield
    except _DAMAGE as error:
        raise UserError(
            f"{path}: is damaged ({first_line(error)}); get another copy, or unpack it and give "
            "the folder."
        ) from None


def _unzip(target: _Target) -> None:
    with zipfile.ZipFile(target.origin) as archive:
        size = sum(member.file_size for member in archive.infolist())
        check_space(target.folder, size, str(target.origin))
        for member in archive.infolist():
            target.counts()
            path = path_of(member)
            if is_folder(member) or not target.wants(path):
                continue
            # Unix systems store the type of a file in the upper half.
            if (member.external_attr >> 28) not in (0, 0o10):
                target.left_out[LINK] += 1
                continue
            if member.flag_bits & _ENCRYPTED:
                raise UserError(
                    f"{target.origin}: is encrypted; unpack it with its password and give the "
                    "folder."
                )
            with archive.open(member) as content:
                target.write(path, content)


def is_folder(member: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip is a folder, also with the signs of Windows."""
    return member.filename.endswith(("/", "\\"))


def path_of(member: zipfile.ZipInfo) -> PurePosixPath:
    """The path of a member of a zip, also with the signs of Windows and macOS."""
    name = member.filename
    if not member.flag_bits & _UTF8:
        # Macs write UTF-8 without saying so, which is then read as the code page of old PCs.
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return PurePosixPath(name.replace("\\", "/"))


def _untar(target: _Target) -> None:
    with ExitStack() as stack:
        file = stack.enter_context(_uncompressed(target.origin))
        limited = _Limited(file)
        archive = stack.enter_context(tarfile.open(fileobj=limited, mode="r:"))  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            # The archive remembers every member.
            archive.members = []
            target.counts()
            path = PurePosixPath(member.name)
            if member.isdir() or not target.wants(path):
                continue
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                target.left_out[LINK] += 1
                continue
            with closing(content):
                target.write(path, content)
        # A damaged header ends an archive like zeros do.
        limited.seek(archive.offset)
        if limited.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise EOFError("a header is damaged")


@dataclass
class _Limited:
    """A file for `tarfile`, which reads headers of any announced length at once."""

    file: IO[bytes]

    def read(self, size: int) -> bytes:
        """Read like a file.

        Raises:
            ValueError: so much can only be an attack.
        """
        if not 0 <= size <= LONGEST_READ:
            raise ValueError("a header of more than 16 MB")
        return self.file.read(size)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Move like a file."""
        return self.file.seek(position, whence)

    def tell(self) -> int:
        """The position in the file."""
        return self.file.tell()


def _is_zip(path: Path) -> bool:
    """Whether a file is a zip; one of arrays is if it is called so."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
    arrays = names and all(name.endswith(".npy") for name in names)
    return not arrays or path.suffix.lower() == ".zip"


def _is_tar(path: Path) -> bool:
    try:
        with _uncompressed(path) as file:
            # The first member's header has a checksum.
            tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except (OSError, *_DAMAGE):
        return False
    return True


def _uncompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        begin = file.read(8)
    for magic, uncompress in _UNCOMPRESS.items():
        if begin.startswith(magic):
            return uncompress(path, "rb")
    return path.open("rb")
