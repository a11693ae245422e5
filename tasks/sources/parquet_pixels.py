"""Parquet tables with the pixels of an image in each row, as columns or as lists."""

from __future__ import annotations

from collections.abc import Iterator
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
from tasks.sources.parquet_files import class_names_of, labels_of, parquet_file
from tasks.sources.stored_arrays import rows_per_block

if TYPE_CHECKING:
    import pyarrow as pa

PIXEL_NAMES = {"image", "images", "img", "pixel", "pixels", "x", "data", "picture"}


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
    with parquet_file(path) as file:
        schema = file.schema_arrow
    lists = _lists(schema)
    return len(lists) == 1 or (not lists and bool(_numeric(schema)))


def columns(path: Path) -> Columns | Lists:
    """Where pixels and labels are, in a table that has pixels.

    Raises:
        UserError: it can't be read, there is no column of labels, or several can be it.
    """
    with parquet_file(path) as file:
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
    with parquet_file(path) as file:
        schema = file.schema_arrow
    return class_names_of(schema, _label(where, schema.names))


def _label(where: Columns | Lists, names: list[str]) -> str:
    if isinstance(where, Lists):
        return where.label
    assert where.label is not None, "columns of a table with names"
    return names[where.label]


def row_count(path: Path) -> int:
    """The number of rows, also of those without a class.

    Raises:
        UserError: it can't be read.
    """
    with parquet_file(path) as file:
        return int(file.metadata.num_rows)


def chunks(path: Path, where: Columns | Lists) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Labels `(m,)` as strings and pixels `(m, ...)` as numbers, of the rows with a class.

    Raises:
        UserError: the table is damaged, images have several sizes, or pixels or labels are missing.
    """
    import pyarrow as pa

    with parquet_file(path) as file:
        names = file.schema_arrow.names
        label = _label(where, names)
        if isinstance(where, Lists):
            pixels = [where.pixels]
        else:
            pixels = [names[position] for position in where.pixels]
        known = class_names_of(file.schema_arrow, label)
        # Without threads, since Arrow's threads can abort a process that ends soon after.
        batches = file.iter_batches(
            _rows(file.metadata), columns=[*pixels, label], use_threads=False
        )
        for batch in batches:
            labels = np.array(labels_of(batch.column(label), known), str)
            taken = labels != ""
            if not taken.any():
                continue
            batch = batch.filter(pa.array(taken))
            if isinstance(where, Lists):
                yield labels[taken], _from_lists(batch.column(where.pixels), path)
            else:
                parts = [_numbers(batch.column(name), path) for name in pixels]
                yield labels[taken], np.stack(parts, axis=1).reshape(-1, *where.shape)


def _rows(metadata: Any) -> int:
    """How many rows are read at a time: lists may hold any number of values."""
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    values = sum(
        group.column(at).num_values for group in groups for at in range(metadata.num_columns)
    )
    return rows_per_block((0, values // max(1, metadata.num_rows)), np.dtype(np.int64))


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
