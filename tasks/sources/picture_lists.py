"""Data sets as tables of paths and classes: CSV, TSV, JSON Lines and Parquet, beside pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.messages import listed, quoted
from tasks.sources.class_folders import has_class_folders
from tasks.sources.collection import MISSING, Collection, Entry
from tasks.sources.folder_listing import is_junk, listing
from tasks.sources.list_tables import SUFFIXES, has_pixels, header_of, read_table, without_points
from tasks.sources.listed_files import ListedFiles
from tasks.sources.picture_decoding import printable
from tasks.sources.picture_images import PictureImages
from tasks.sources.row_columns import Columns, columns_of, entry_of, path_column
from tasks.sources.split_names import split_in, split_of

# What Hugging Face's `imagefolder` calls its table, in the data set's folder or in those of splits.
METADATA = "metadata"
REPEATED, UNLISTED = "a repeated row", "a picture that no row names"

# By the path of a picture and its split, what a row says of it, and which row.
Known = dict[tuple[str, str | None], tuple[Entry, int]]


@dataclass(frozen=True)
class ListTable:
    """A table, and the split of all its rows if its name or folder says one."""

    path: Path
    split: str | None = None


@dataclass
class Found:
    """What the tables of a data set name.

    Attributes:
        entries: one for each picture that exists, and for each split in which it stands.
        files: their files.
        missing: the paths of those that do not exist.
        left_out: rows and files that were not taken, as counts by reason.
        unused: the columns without a meaning.
    """

    entries: list[Entry] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unused: list[str] = field(default_factory=list)


def accepts(path: Path) -> bool:
    """Whether a path is a table that may list files, or a folder that such a table describes."""
    if os.path.isdir(path):
        return bool(_in_folder(path))
    return _is_table(path) and _may_list(path)


def files(path: Path) -> list[Path]:
    """The tables and the pictures that they name, sorted.

    Raises:
        UserError: see `read`.
    """
    tables = _tables(path)
    return sorted({*(table.path for table in tables), *_found(tables, path).files})


def read(path: Path) -> Collection:
    """Read the tables and find the pictures; columns are told apart by their names.

    Raises:
        UserError: a table can't be read, its columns can't be told apart, a row is wrong, or none
            of the pictures exist.
    """
    found = _found(_tables(path), path)
    notes = []
    if found.missing:
        few = listed([quoted(name) for name in found.missing])
        notes.append(f"{len(found.missing):,} of the listed files are missing: {few}.")
    if found.unused:
        unused = listed([quoted(name) for name in dict.fromkeys(found.unused)])
        notes.append(f"Columns that are not used: {unused}.")
    return Collection(
        found.entries,
        PictureImages(lambda: found.files),
        notes=tuple(notes),
        left_out=found.left_out,
    )


def _tables(path: Path) -> list[ListTable]:
    if not os.path.isdir(path):
        return [ListTable(path)]
    tables = _in_folder(path)
    if len(tables) > 1 and len({table.split for table in tables} - {None}) < len(tables):
        names = listed([printable(table.path.name) for table in tables])
        raise UserError(
            f"{path}: has several tables of files and classes ({names}); name one of them, or "
            "call them train, validation and test."
        )
    return tables


def _in_folder(path: Path) -> list[ListTable]:
    """The tables that describe a folder's pictures."""
    if found := _metadata(path):
        return [ListTable(found)]
    folders = {entry: split_of(entry.name) for entry in _sorted(path) if os.path.isdir(entry)}
    inside = [
        ListTable(found, split)
        for folder, split in folders.items()
        if split and (found := _metadata(folder))
    ]
    if inside:
        return inside
    others = [entry for entry in _sorted(path) if _is_table(entry) and _may_list(entry)]
    content = listing(path)
    if not others or not content.pictures() or has_class_folders(content, path):
        return []
    tables = [entry for entry in others if _lists_files(entry)]
    if not tables and len(others) == 1:
        # Read for the message that says how to name its columns.
        return [ListTable(others[0])]
    if len(tables) == 1:
        return [ListTable(tables[0])]
    return [ListTable(table, split_in(table.stem)) for table in tables]


def _sorted(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not is_junk(entry.name))
    except OSError:
        return []


def _metadata(folder: Path) -> Path | None:
    named = (folder / f"{METADATA}{suffix}" for suffix in sorted(SUFFIXES))
    return next((path for path in named if _lists_files(path)), None)


def _lists_files(path: Path) -> bool:
    """Whether a file is a table with a column of paths and one of classes."""
    if not _is_table(path) or not _may_list(path):
        return False
    try:
        _columns(header_of(path) or [], path)
    except UserError:
        return False
    return True


def _has_paths(header: Sequence[str], path: Path) -> bool:
    try:
        path_column(header, str(path))
    except UserError:
        return False
    return True


def _columns(names: Sequence[str], path: Path) -> Columns:
    return columns_of(names, path_column(names, str(path)), str(path))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and os.path.isfile(path)


def _may_list(path: Path) -> bool:
    header = header_of(path)
    if not header or has_pixels(header):
        return False
    # Parquet tables without paths hold pixels, or pictures as bytes.
    return path.suffix.lower() != ".parquet" or _has_paths(header, path)


def _found(tables: list[ListTable], path: Path) -> Found:
    found = Found()
    root = path if os.path.isdir(path) else path.parent
    for table in tables:
        _add(found, table, root)
    if not found.entries:
        few = listed([quoted(name) for name in found.missing]) or "no rows"
        raise UserError(
            f"{path}: none of the listed files exist ({few}); expected paths relative to the "
            "folder of the table."
        )
    named = set(found.files)
    folders = {table.path.parent for table in tables}
    if unlisted := sum(ListedFiles(folder).unnamed(named) for folder in folders):
        found.left_out[UNLISTED] = unlisted
    return found


def _add(found: Found, table: ListTable, root: Path) -> None:
    """Add the pictures that a table names."""
    known = _rows(found, table)
    below = table.path.parent.relative_to(root)
    for (name, split), (entry, _) in known.items():
        whole = printable((below / name).as_posix())
        found.entries.append(replace(entry, name=whole, split=split))
        found.files.append(table.path.parent / name)


def _rows(found: Found, table: ListTable) -> Known:
    """What the rows say of the pictures that exist; counts the others."""
    cells = read_table(table.path)
    columns = _columns(list(cells.columns), table.path)
    found.unused += [
        name for name in cells.columns if name not in (columns.picture, *columns.described)
    ]
    texts = {name: without_points(cells.columns[name]) for name in columns.described}
    folder = ListedFiles(table.path.parent)
    likely = table.split or split_in(table.path.stem)
    known: Known = {}
    for at, number in enumerate(cells.rows):
        place = f"{table.path}: row {number:,}"
        text = cells.columns[columns.picture][at]
        row = {name: texts[name][at] for name in columns.described}
        entry = entry_of("", row, columns, place)
        name = folder.find(text, entry.split or likely, place)
        if name is None:
            found.missing.append(text)
            found.left_out[MISSING] += 1
            continue
        other, first = known.setdefault((name, entry.split or table.split), (entry, number))
        if other != entry:
            raise UserError(
                f"{place} names {quoted(name)} like row {first:,}, but with another class, group "
                "or weight; delete one of the rows."
            )
        if first != number:
            found.left_out[REPEATED] += 1
    return known if columns.split or table.split else _with_splits(known)


def _with_splits(known: Known) -> Known:
    """With the splits that folders name, if all pictures stand in such folders."""
    splits = {name: split_of(name.split("/")[0]) for name, _ in known if "/" in name}
    if len(splits) < len(known) or not all(splits.values()):
        return known
    return {(name, splits[name]): row for (name, _), row in known.items()}
