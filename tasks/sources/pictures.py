"""Read the pictures in files and folders, one at a time, and prepare them for a model."""

from __future__ import annotations

import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tasks.core.data.photographs import FILTER, ImageFormat, Invert, Prepared, prepared
from tasks.core.data.picture_modes import eight_bits, upright
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources import picture_arrays, picture_texts, picture_zips
from tasks.sources.collection import as_picture
from tasks.sources.folder_listing import UNREADABLE, heic_notes, listing
from tasks.sources.mistaken_files import begin_of
from tasks.sources.picture_decoding import (
    EMPTY,
    HEIC_ADVICE,
    HEIC_SUFFIXES,
    THUMBNAIL,
    Undecoded,
    decoded,
    printable,
    quiet,
    reads_heic,
    reason_of,
    suffixes,
)
from tasks.sources.picture_tables import in_parquet

# In folders, files with these suffixes are read beside pictures. Archives and tables of text are
# read only if they are named: beside pictures, they are copies of them, or labels.
TABLES = picture_arrays.SUFFIXES | {".parquet"}
_ONLY_IF_NAMED = (picture_zips.SUFFIX, ".csv", ".tsv")

# What to do about files that are often given, by suffix.
_UNPACK = "is an archive of a kind that is not read here; unpack it and give the folder."
_OTHERS = {
    **dict.fromkeys((".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"), _UNPACK),
    **dict.fromkeys(HEIC_SUFFIXES, HEIC_ADVICE),
    ".svg": "is a drawing of lines (SVG); save it as PNG.",
    ".pdf": "is a document (PDF); save its pages as PNG.",
}

Note = Callable[[str], None]


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
    note: Note = lambda _: None,
) -> Iterator[Picture | Unreadable]:
    """Read every picture in the paths, one at a time, and prepare it for a model.

    Args:
        paths: files and folders. In a folder and its subfolders, all pictures and `TABLES` are
            read in the order of their names. Arrays, tables and zip archives contain many
            pictures, any other file one.
        like: the format of the images on which the model was trained.
        invert: see `tasks.core.data.photographs.prepared`.
        show: how many pictures get thumbnails, counted from the first.
        exclude: files in folders that are not read, since the caller is about to write them.
        note: is given a sentence about what is left out or was converted, whenever that is found.
    """
    resolved = {os.path.realpath(path) for path in exclude}
    for found in chain.from_iterable(_in_path(path, like, resolved, note) for path in paths):
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
            return Unreadable(found.source, _without(found.source, reason_of(error)))


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
    path: Path, like: ImageFormat, exclude: Collection[str], note: Note
) -> Iterator[Undecoded | Unreadable]:
    if not os.path.isdir(path):
        yield from _in_file(path, like, note)
        return
    source = printable(path)
    try:
        os.scandir(path).close()
    except OSError as error:
        yield Unreadable(source, reason_of(error))
        return
    found = listing(path)
    files = [file for file in found.files if os.path.realpath(path / file) not in exclude]
    found = replace(found, files=files)
    wanted = suffixes() | TABLES
    taken = [path / file for file in files if file.suffix.lower() in wanted]
    others = Counter({suffix: n for suffix, n in found.others().items() if suffix not in wanted})
    closed = found.left_out.pop(UNREADABLE, 0)
    _note_left_out(source, others + found.left_out, note)
    named = sorted(suffix for suffix in others if suffix.endswith(_ONLY_IF_NAMED))
    if named:
        note(f"{source}: files with {listed(named)} are read only if they are named.")
    for file in taken:
        yield from _in_file(file, like, note)
    if closed:
        yield Unreadable(source, f"{closed:,} of its folders can't be read; check permissions.")
    elif not taken:
        ends = listed(sorted(wanted))
        yield Unreadable(source, f"contains no pictures; expected files that end with {ends}.")


def _note_left_out(source: str, counts: Counter[str], note: Note) -> None:
    """Say which files were not read, the most frequent ones first."""
    if counts:
        kinds = [f"{kind} ({count:,})" for kind, count in counts.most_common()]
        note(f"{source}: not read: {listed(kinds)}.")
    for text in heic_notes(counts):
        note(text)


def _in_file(path: Path, like: ImageFormat, note: Note) -> Iterator[Undecoded | Unreadable]:
    source = printable(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError("is neither a file nor a folder; give one that is.")
        if status.st_size == 0:
            raise UserError(EMPTY)
        suffix = path.suffix.lower()
        if suffix in picture_arrays.SUFFIXES:
            yield from picture_arrays.in_arrays(path, source, like, note)
        elif suffix == ".parquet":
            yield from in_parquet(path, source, like, note)
        elif path.name.lower().endswith(picture_texts.SUFFIXES):
            yield from picture_texts.in_text(path, source, like, note)
        elif suffix == picture_zips.SUFFIX:
            left_out = partial(_note_left_out, source, note=note)
            yield from picture_zips.in_zip(path, source, like, left_out)
        else:
            yield Undecoded(source, partial(_from_file, path, like))
    except Exception as error:
        # zipfile, NumPy and Arrow raise all kinds of exceptions for damaged files.
        yield Unreadable(source, _without(source, reason_of(error)))


def _without(source: str, reason: str) -> str:
    """A reason without the file's name at its beginning: readers of data sets put it there."""
    return reason.removeprefix(source).lstrip(": ") if reason.startswith(source) else reason


def _from_file(path: Path, like: ImageFormat) -> Image.Image:
    with path.open("rb") as file:
        try:
            return decoded(file, like)
        except UnidentifiedImageError:
            advice = _OTHERS.get(path.suffix.lower())
            if advice and not (path.suffix.lower() in HEIC_SUFFIXES and reads_heic()):
                raise UserError(advice) from None
            begin_of(path)
            raise
