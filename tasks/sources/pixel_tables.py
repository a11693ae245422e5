"""Data sets as tables with a row for each image: a label and its pixels, as Kaggle has them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.pixel_columns import Columns, label_end
from tasks.core.data.pixel_values import Span, is_number, span_of
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources import csv_pixels, parquet_pixels
from tasks.sources.array_collection import Part, Pixels, collected
from tasks.sources.class_folders import has_class_folders
from tasks.sources.class_names import class_names_beside, read_class_names
from tasks.sources.collection import Collection
from tasks.sources.folder_listing import listing, names_in
from tasks.sources.parquet_files import WITHOUT_CLASS
from tasks.sources.split_names import split_in

# Parts of one split, as Hugging Face writes them.
_SHARD = re.compile(r"-\d{5}-of-\d{5}\b")
_TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq")

Chunks = Callable[[], Iterator[tuple[NDArray[Any], NDArray[Any]]]]


@dataclass(frozen=True)
class _Table:
    """A table whose columns are known; `rows` counts those of Parquet, also without a class."""

    path: Path
    chunks: Chunks
    others: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    rows: int = 0


@dataclass(frozen=True)
class _Contents:
    """What one pass over a table tells: labels `(n,)`, and what its pixels are."""

    labels: NDArray[np.str_]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    span: Span


def accepts(path: Path) -> bool:
    """Whether a path is a table of pixels, or a folder with one and without classes of pictures.

    Raises:
        UserError: it is a folder that can't be read.
    """
    tables = _tables_in(path)
    # Beside pictures, numbers describe them.
    return bool(tables) and not (os.path.isdir(path) and has_class_folders(listing(path), path))


def files(path: Path) -> list[Path]:
    """The tables; in a folder, also `class_names.txt`."""
    names = class_names_beside(path)
    return sorted([*_tables_in(path), *([names] if names else [])])


def read(path: Path) -> Collection:
    """Read all labels, and the least and greatest pixel.

    Raises:
        UserError: a table is damaged, or its columns or pixels have no or several meanings.
    """
    tables = [_table(file) for file in _resolved(_tables_in(path))]
    splits = _splits([table.path for table in tables], path)
    found = [
        (split, table, contents)
        for split, table in zip(splits, tables, strict=True)
        if (contents := _contents(table))
    ]
    if not found:
        raise UserError(f"{path}: no row has a class; write one into the column of labels.")
    names = class_names_beside(path)
    known = read_class_names(names) if names else tables[0].class_names
    labels = np.concatenate([contents.labels for *_, contents in found])
    labels = csv_pixels.as_numbers(labels, have_names=known is not None)
    ends = np.cumsum([len(contents.labels) for *_, contents in found])[:-1]
    span = reduce(Span.joined, [contents.span for *_, contents in found])
    joint = csv_pixels.dtype_of({contents.dtype for *_, contents in found}, span)
    parts = [
        Part(
            split,
            _pixels(table, contents, joint if joint == np.uint8 else contents.dtype),
            own,
            str(table.path),
        )
        for (split, table, contents), own in zip(found, np.split(labels, ends), strict=True)
    ]
    others = sorted({name for table in tables for name in table.others})
    collection = collected(
        parts, known, [f"columns that were not taken: {listed(others)}."] if others else []
    )
    rows = sum(table.rows for table in tables)
    missing = rows - sum(len(contents.labels) for _, table, contents in found if table.rows)
    return replace(collection, left_out={WITHOUT_CLASS: missing} if missing else {})


def _tables_in(path: Path) -> list[Path]:
    if os.path.isfile(path):
        return [path] if _is_pixels(path) else []
    found = (path / name for name in names_in(path))
    return [file for file in found if os.path.isfile(file) and _is_pixels(file)]


def _is_pixels(path: Path) -> bool:
    name = path.name.lower()
    try:
        if name.endswith(_TEXT):
            return csv_pixels.dialect(path) is not None
        return name.endswith(_PARQUET) and parquet_pixels.has_pixels(path)
    except UserError:
        return False


def _splits(paths: Sequence[Path], origin: Path) -> list[str | None]:
    """The splits that the names of files tell; None for a single file."""
    if len(paths) == 1:
        return [None]
    found = [split_in(path.name) for path in paths]
    several = len(set(found)) < len(found) and not all(_SHARD.search(p.name) for p in paths)
    if None in found or several:
        raise UserError(
            f"{origin}: the tables {listed([path.name for path in paths])} are not one for each "
            "split; call them train.csv, validation.csv and test.csv, or name one file."
        )
    return found


def _resolved(paths: Sequence[Path]) -> list[tuple[Path, csv_pixels.Dialect | None, Any]]:
    """The columns of each table; one label for all that don't tell it themselves."""
    found: list[tuple[Path, csv_pixels.Dialect | None, Any]] = []
    first: list[str] = []
    last: list[str] = []
    for path in paths:
        if path.name.lower().endswith(_PARQUET):
            found.append((path, None, parquet_pixels.columns(path)))
            continue
        how = csv_pixels.dialect(path)
        assert how, "the table was accepted"
        where = csv_pixels.columns(path, how)
        found.append((path, how, where))
        if where.label is None:
            ends = csv_pixels.ends(path, how)
            first += ends[0]
            last += ends[1]
    if not first:
        return found
    end = label_end(first, last, str(paths[0]))
    return [
        (path, how, _decided(where, how, end) if how and where.label is None else where)
        for path, how, where in found
    ]


def _decided(where: Columns, how: csv_pixels.Dialect, end: int) -> Columns:
    positions = tuple(range(how.width))
    label = positions[end]
    return replace(where, label=label, pixels=tuple(p for p in positions if p != label))


def _table(found: tuple[Path, csv_pixels.Dialect | None, Any]) -> _Table:
    path, how, where = found
    if how:
        return _Table(path, partial(csv_pixels.chunks, path, how, where), where.others)
    others = where.others if isinstance(where, Columns) else ()
    return _Table(
        path,
        partial(parquet_pixels.chunks, path, where),
        others,
        parquet_pixels.class_names(path, where),
        parquet_pixels.row_count(path),
    )


def _contents(table: _Table) -> _Contents | None:
    """What a table holds; None if all of its rows are without a class."""
    labels, dtypes, shapes, span = [], set(), set(), Span()
    for own, pixels in table.chunks():
        if not is_number(pixels.dtype):
            raise UserError(f"{table.path}: pixels are {pixels.dtype}; expected numbers.")
        labels.append(own)
        dtypes.add(pixels.dtype)
        shapes.add(pixels.shape[1:])
        span = span.joined(span_of(pixels))
    if table.rows and not shapes:
        return None
    if len(shapes) != 1:
        what = "images of several sizes" if shapes else "no images"
        raise UserError(f"{table.path}: there are {what}; expected images of one size.")
    named = np.concatenate(labels)
    return _Contents(named, (len(named), *shapes.pop()), np.result_type(*dtypes), span)


def _pixels(table: _Table, contents: _Contents, dtype: np.dtype[Any]) -> Pixels:
    return Pixels(
        table.path.name,
        str(table.path),
        contents.shape,
        dtype,
        lambda: (pixels.astype(dtype, copy=False) for _, pixels in table.chunks()),
        contents.span,
    )
