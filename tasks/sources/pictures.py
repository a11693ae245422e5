"""Read the pictures in files and folders, one at a time, and prepare them for a model."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from PIL import Image

from tasks.core.data.photographs import FILTER, ImageFormat, Invert, Prepared, prepared
from tasks.core.data.picture_modes import eight_bits, upright
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources.collection import as_picture
from tasks.sources.picture_decoding import (
    EMPTY,
    THUMBNAIL,
    Undecoded,
    decoded,
    printable,
    quiet,
    reason_of,
    suffixes,
)
from tasks.sources.picture_tables import in_npz, in_parquet

# In folders, files with these suffixes are read beside pictures.
TABLES = frozenset((".npz", ".parquet"))


@dataclass(frozen=True)
class Shown:
    """Two thumbnails as PNG: the picture as given, and as the model sees it."""

    given: bytes
    seen: bytes


@dataclass(frozen=True)
class Picture:
    """A picture that could be read; `shown` is None unless thumbnails were requested."""

    source: str
    prepared: Prepared
    shown: Shown | None


@dataclass(frozen=True)
class Unreadable:
    """A file, a folder or a picture in a file that could not be read, and what to do about it."""

    source: str
    reason: str


def read_pictures(
    paths: Iterable[Path],
    like: ImageFormat,
    invert: Invert = "auto",
    *,
    show: int = 0,
    exclude: Collection[Path] = (),
) -> Iterator[Picture | Unreadable]:
    """Read every picture in the paths, one at a time, and prepare it for a model.

    Args:
        paths: files and folders. In a folder and its subfolders, all pictures and `TABLES` are
            read in the order of their names. `.npz` and `.parquet` files contain many
            pictures, any other file one.
        like: the format of the images on which the model was trained.
        invert: see `tasks.core.data.photographs.prepared`.
        show: how many pictures get thumbnails, counted from the first.
        exclude: files in folders that are not read, since the caller is about to write them.
    """
    resolved = {os.path.realpath(path) for path in exclude}
    for found in chain.from_iterable(_in_path(path, like, resolved) for path in paths):
        item = _read(found, like, invert, show=show > 0) if isinstance(found, Undecoded) else found
        if isinstance(item, Picture):
            show -= 1
        yield item


def _read(
    found: Undecoded, like: ImageFormat, invert: Invert, *, show: bool
) -> Picture | Unreadable:
    with quiet():
        try:
            picture = found.decode()
            image = prepared(picture, like, invert)
            return Picture(found.source, image, _shown(picture, image) if show else None)
        except Exception as error:
            return Unreadable(found.source, reason_of(error))


def _shown(picture: Image.Image, image: Prepared) -> Shown:
    given = eight_bits(upright(picture)).copy()
    # Drop the metadata, which may tell where and when the picture was taken.
    given.info.clear()
    given.thumbnail((THUMBNAIL, THUMBNAIL), FILTER)
    return Shown(_png(given), _png(as_picture(image.pixels)))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _in_path(
    path: Path, like: ImageFormat, exclude: Collection[str]
) -> Iterator[Undecoded | Unreadable]:
    if not os.path.isdir(path):
        yield from _in_file(path, like)
        return
    unlisted: list[OSError] = []
    empty = True
    wanted_suffixes = suffixes() | TABLES
    for folder, folders, files in os.walk(path, onerror=unlisted.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(folder, name) for name in sorted(files)):
            wanted = file.suffix.lower() in wanted_suffixes and not file.name.startswith(".")
            if wanted and os.path.realpath(file) not in exclude:
                empty = False
                yield from _in_file(file, like)
    for error in unlisted:
        yield Unreadable(printable(error.filename), reason_of(error))
    if empty and not unlisted:
        found = listed(sorted(wanted_suffixes))
        yield Unreadable(
            printable(path), f"contains no pictures; expected files that end with {found}."
        )


def _in_file(path: Path, like: ImageFormat) -> Iterator[Undecoded | Unreadable]:
    source = printable(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError("is neither a file nor a folder; give one that is.")
        if status.st_size == 0:
            raise UserError(EMPTY)
        match path.suffix.lower():
            case ".npz":
                yield from in_npz(path, source, like)
            case ".parquet":
                yield from in_parquet(path, source, like)
            case _:
                yield Undecoded(source, partial(_from_file, path, like))
    except Exception as error:
        # zipfile, NumPy and Arrow raise all kinds of exceptions for damaged files.
        yield Unreadable(source, reason_of(error))


def _from_file(path: Path, like: ImageFormat) -> Image.Image:
    with path.open("rb") as file:
        return decoded(file, like)
