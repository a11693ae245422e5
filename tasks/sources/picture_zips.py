"""Read the pictures in zip archives one at a time; nothing is unpacked to a disk."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from tasks.core.data.photographs import ImageFormat
from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources import bounded_files
from tasks.sources.archives import is_folder, path_of
from tasks.sources.folder_listing import in_junk, suffix_of
from tasks.sources.picture_decoding import (
    EMPTY,
    MOST_PIXELS,
    TOO_LARGE,
    Undecoded,
    decoded,
    printable,
    suffixes,
)

SUFFIX = ".zip"
# A picture has rarely more than four bytes per pixel, even if it is not compressed.
MOST_BYTES = 4 * MOST_PIXELS
# Pictures are compressed already, so an archive of many hardly unpacks to more than this.
MOST_BYTES_PER_BYTE = 100

_ENCRYPTED = 0x1
_CHUNK_BYTES = 2**20


def in_zip(
    path: Path, source: str, like: ImageFormat, left_out: Callable[[Counter[str]], None]
) -> Iterator[Undecoded]:
    """The pictures in an archive and its folders, in the order of their names.

    Args:
        path: the file.
        source: what it is called.
        like: the format of the images on which the model was trained.
        left_out: is given the number of other files by suffix.

    Raises:
        UserError: it is no zip archive, damaged, encrypted, made to exhaust memory, or has no
            pictures.
        OSError: it can't be read.
    """
    with _opened(path) as archive:
        taken, others = [], Counter[str]()
        for member in archive.infolist():
            name = path_of(member)
            if is_folder(member) or in_junk(name):
                continue
            suffix = suffix_of(name)
            if suffix in suffixes():
                taken.append((name, member))
            else:
                others[suffix] += 1
        left_out(others)
        _check([member for _, member in taken], path.stat().st_size)
        for name, member in sorted(taken, key=lambda pair: pair[0]):
            inside = printable(f"{source}/{name}")
            yield Undecoded(inside, partial(_picture, archive, member, like))


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(
            f"is not a zip archive, or is damaged ({first_line(error)}); get another copy."
        ) from None


def _check(members: list[zipfile.ZipInfo], size: int) -> None:
    if not members:
        raise UserError("contains no pictures; expected files like a.png or b.jpg.")
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise UserError("is encrypted; unpack it with its password, and give the folder.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(bounded_files.MAX_UNCOMPRESSED_BYTES, MOST_BYTES_PER_BYTE * size):
        raise UserError(
            f"unpacks to {unpacked:,} bytes, so it may be a file made to exhaust memory; leave it "
            "out."
        )


def _picture(archive: zipfile.ZipFile, member: zipfile.ZipInfo, like: ImageFormat) -> Image.Image:
    if member.file_size > MOST_BYTES:
        raise UserError(TOO_LARGE)
    content = io.BytesIO()
    try:
        with archive.open(member) as stream:
            # What is announced need not be true.
            while chunk := stream.read(_CHUNK_BYTES):
                if content.tell() + len(chunk) > MOST_BYTES:
                    raise UserError(TOO_LARGE)
                content.write(chunk)
    except NotImplementedError as error:
        raise UserError(
            f"is packed in a way that can't be read ({first_line(error)}); unpack the archive, and "
            "give the folder."
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"is damaged in the archive ({first_line(error)}); get another copy of the archive."
        ) from None
    if not content.tell():
        raise UserError(EMPTY)
    content.seek(0)
    return decoded(content, like)
