"""Text tables with a row for each image: how they are written, and their rows in chunks."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.pixel_columns import (
    LEAST_PIXELS,
    Columns,
    columns_of,
    columns_without_names,
    pixel_positions,
)
from tasks.core.data.pixel_values import Span
from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources.stored_arrays import BLOCK_BYTES
from tasks.sources.unzipped import opened

DELIMITERS = ",;\t|"
# Enough for the first rows of the widest table.
_BEGIN_BYTES = 2**22
_NUMBER = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?\s*", re.IGNORECASE)
_WHOLE = re.compile(r"\s*[-+]?\d+\s*")
_PADDED = re.compile(r"\s*[-+]?0\d")

Chunk = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Attributes:
        delimiter: what separates fields.
        skipped: the number of lines before the first image.
        names: the names of columns; None if there are none.
        width: the number of columns.
    """

    delimiter: str
    skipped: int
    names: tuple[str, ...] | None
    width: int


def dialect(path: Path) -> Dialect | None:
    """How a table of pixels is written; None if the file is something else.

    Raises:
        UserError: it can't be read, or is obviously no file of data.
    """
    with _translated(path), opened(path) as stream:
        text = stream.read(_BEGIN_BYTES).decode("utf-8-sig", "replace")
    lines = re.split(r"\r\n|\r|\n", text)
    # Blank lines, or lines of nothing but delimiters.
    used = [number for number, line in enumerate(lines) if line.strip(DELIMITERS + " ")]
    if not used:
        return None
    delimiter = max(DELIMITERS, key=lines[used[0]].count)
    try:
        rows = [_fields(lines[number], delimiter) for number in used[:2]]
    except csv.Error:
        # A field longer than any of a table of pixels.
        return None
    first, width = rows[0], len(rows[0])
    numbers = sum(_NUMBER.fullmatch(field) is not None for field in first)
    if width > LEAST_PIXELS and numbers >= width - 2 and not _is_header(first, rows[1:]):
        return Dialect(delimiter, used[0], None, width)
    if len(used) < 2:
        return None
    # Names that are numbers with fractions are made of a row of numbers: they say nothing.
    named = not any(re.fullmatch(r"\d+\.\d+", field) for field in first)
    if named and not pixel_positions(first):
        return None
    return Dialect(delimiter, used[1], tuple(first) if named else None, width)


def _fields(line: str, delimiter: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]


def _is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether a row of numbers is a header: counted on, or with fractions that pandas adds."""
    whole = [int(field) for field in first if _WHOLE.fullmatch(field)]
    if len(whole) >= len(first) - 2:
        return whole[1:] == [number + 1 for number in whole[:-1]]
    return bool(others) and all(_WHOLE.fullmatch(field) for field in others[0][1:-1])


def columns(path: Path, how: Dialect) -> Columns:
    """The columns of a table.

    Raises:
        UserError: there is no column of labels, or several can be it.
    """
    if how.names is None:
        return columns_without_names(how.width, str(path))
    return columns_of(how.names, str(path))


def ends(path: Path, how: Dialect) -> tuple[list[str], list[str]]:
    """The first and the last column.

    Raises:
        UserError: a row can't be read.
    """
    found: tuple[list[str], list[str]] = ([], [])
    positions = (0, how.width - 1)
    for frame in _frames(path, how, positions):
        for position, values in zip(positions, found, strict=True):
            values += frame[position].fillna("").tolist()
    return found


def chunks(path: Path, how: Dialect, where: Columns) -> Iterator[Chunk]:
    """Labels `(m,)` as strings, empty if there are none, and pixels `(m, ...)` as numbers.

    Raises:
        UserError: a row can't be read, or a pixel is no number.
    """
    number = 0
    for frame in _frames(path, how, [] if where.label is None else [where.label]):
        if where.label is None:
            labels = np.full(len(frame), "")
        else:
            labels = frame[where.label].fillna("").to_numpy(str)
        pixels = frame[list(where.pixels)].to_numpy()
        if pixels.dtype.kind not in "biuf":
            raise UserError(
                f"{path}: rows {number} to {number + len(frame)} have pixels that are no numbers; "
                "expected numbers in all columns but the label's."
            )
        broken = np.flatnonzero(np.isnan(pixels).any(axis=1))
        if len(broken):
            raise UserError(
                f"{path}: image {number + broken[0]} has empty cells, or the file is cut off; "
                "expected a number for each pixel. Correct it or get it again."
            )
        number += len(frame)
        yield labels, pixels.reshape(len(frame), *where.shape)


def dtype_of(dtypes: Collection[np.dtype[Any]], span: Span) -> np.dtype[Any]:
    """The type that holds all pixels, of which some chunks may be whole by chance.

    A text has no type, so whole numbers of a byte are uint8, and nothing that was converted.
    """
    whole = all(dtype.kind in "iu" for dtype in dtypes)
    if not dtypes or (whole and 0 <= span.lowest <= span.highest <= 255):
        return np.dtype(np.uint8)
    return np.result_type(*dtypes)


def _frames(path: Path, how: Dialect, texts: Sequence[int]) -> Iterator[Any]:
    """The rows in chunks, as data frames with positions for names; some columns are text."""
    import pandas as pd

    with (
        _translated(path),
        opened(path) as stream,
        pd.read_csv(
            stream,
            sep=how.delimiter,
            header=None,
            # Without `usecols`, since it lets rows of too many fields pass.
            names=range(how.width),
            skiprows=how.skipped,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values=[""],
            encoding="utf-8-sig",
            chunksize=max(1, BLOCK_BYTES // (8 * how.width)),
        ) as reader,
    ):
        for frame in reader:
            if not isinstance(frame.index, pd.RangeIndex):
                raise UserError(
                    f"{path}: rows have more than the {how.width} fields of the first; expected "
                    "as many. Correct it."
                )
            yield frame.dropna(how="all")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise UserError(
            f"{path} can't be read as a table ({first_line(error)}); expected UTF-8 text with one "
            "image per row. Correct it or get it again."
        ) from error


def as_numbers(labels: NDArray[np.str_], *, have_names: bool) -> NDArray[Any]:
    """Labels as whole numbers, if all are; else as they are.

    Where classes have no other names, numbers with zeros before them, like `01`, are their names.
    """
    if not have_names and any(map(_PADDED.match, np.unique(labels))):
        return labels
    try:
        found = labels.astype(np.float64)
    except ValueError:
        return labels
    whole = np.isfinite(found).all() and (found == np.rint(found)).all()
    return found.astype(np.int64) if whole else labels
