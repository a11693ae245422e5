"""Parquet tables with the pixels of an image in each row, as columns or as lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.pixel_columns import (
    Columns,
    columns_of,
    label_position,
    pixel_positions,
    plain_name,
)
from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources.mistaken_files import begin_of

if TYPE_CHECKING:
    import pyarrow as pa

PIXEL_NAMES = {"image", "images", "img", "pixel", "pixels", "x", "data", "picture"}
_ROWS = 1024


@dataclass(frozen=True)
class Lists:
    """A table whose pixels are in one column of lists."""

    pixels: str
    label: str


def has_pixels(path: Path) -> bool:
    """Whether a table has pixels as numbers: in many columns, or in one column of lists.

    Raises:
        UserError: it can't be read.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
    lists = _lists(schema)
    return len(lists) == 1 or (not lists and bool(_numeric(schema)))


def columns(path: Path) -> Columns | Lists:
    """Where pixels and labels are, in a table that has pixels.

    Raises:
        UserError: it can't be read, there is no column of labels, or several can be it.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
    lists = _lists(schema)
    if not lists:
        found = columns_of(schema.names, str(path))
        if found.label is not None:
            return found
    rest = [position for position, name in enumerate(schema.names) if name not in lists]
    label = label_position(schema.names, rest, str(path)) if lists else None
    if label is None:
        raise UserError(f"{path}: there is no column of labels; add one called label.")
    return Lists(lists[0], schema.names[label])


def class_names(path: Path, where: Columns | Lists) -> tuple[str, ...] | None:
    """The names of classes that Hugging Face keeps with a table, in order."""
    with _opened(path) as file:
        schema = file.schema_arrow
    label = where.label if isinstance(where, Lists) else schema.names[where.label or 0]
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(names) if isinstance(names, list) and all(map(_is_text, names)) else None


def chunks(path: Path, where: Columns | Lists) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Labels `(m,)` as strings and pixels `(m, ...)` as numbers.

    Raises:
        UserError: the table is damaged, images have several sizes, or pixels or labels are missing.
    """
    with _opened(path) as file:
        names = file.schema_arrow.names
        if isinstance(where, Lists):
            used = [where.pixels, where.label]
        else:
            assert where.label is not None, "columns of a table with names"
            used = [names[position] for position in (*where.pixels, where.label)]
        # Without threads, since Arrow's threads can abort a process that ends soon after.
        for batch in file.iter_batches(_ROWS, columns=used, use_threads=False):
            labels = np.array([_text(value) for value in batch.column(used[-1]).to_pylist()], str)
            if isinstance(where, Lists):
                yield labels, _from_lists(batch.column(where.pixels), path)
            else:
                parts = [_numbers(batch.column(name), path) for name in used[:-1]]
                yield labels, np.stack(parts, axis=1).reshape(-1, *where.shape)


def _from_lists(column: pa.Array, path: Path) -> NDArray[Any]:
    """Lists of one length at each level, as an array."""
    shape = [len(column)]
    while _is_any_list(column.type):
        if column.null_count:
            raise UserError(f"{path}: some images are missing; remove their rows.")
        values = column.flatten()
        length = len(values) // max(1, len(column))
        sizes = np.unique(np.asarray(column.value_lengths()))
        if len(sizes) > 1:
            raise UserError(
                f"{path}: lists of {sizes[0]} to {sizes[-1]} pixels; expected images of one size. "
                "Save them as PNG files or as bytes instead."
            )
        shape.append(length)
        column = values
    return _numbers(column, path).reshape(shape)


def _numbers(column: pa.Array, path: Path) -> NDArray[Any]:
    if column.null_count:
        raise UserError(f"{path}: some pixels are missing; remove their rows.")
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found


def _lists(schema: pa.Schema) -> list[str]:
    """The columns of lists of numbers with names of images: others may be boxes or features."""
    return [
        name
        for name in schema.names
        if plain_name(name) in PIXEL_NAMES and _is_lists(schema.field(name).type)
    ]


def _numeric(schema: pa.Schema) -> list[int]:
    return [p for p in pixel_positions(schema.names) if _is_number(schema.field(p).type)]


def _is_lists(kind: pa.DataType) -> bool:
    """Whether a type is lists of numbers, nested or not."""
    if not _is_any_list(kind):
        return False
    while _is_any_list(kind):
        kind = kind.value_type
    return _is_number(kind)


def _is_any_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    begin_of(path)
    try:
        # Opened here, since Arrow cannot open a path that is not UTF-8.
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"{path} is not a Parquet file, or is damaged ({first_line(error)}); get it again."
        ) from error
