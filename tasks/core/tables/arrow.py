"""Build Arrow tables with the columns of a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.core.tables.schema import Column, Table

if TYPE_CHECKING:
    import pyarrow as pa


def from_rows(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """An Arrow table of rows; a missing value is null."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), _schema(table.columns))


def from_columns(table: Table, columns: Mapping[str, Any], classes: int = 0) -> pa.Table:
    """An Arrow table of columns, each a sequence or array; optional ones may be missing.

    Args:
        table: the schema.
        columns: the values by column.
        classes: the number of classes, for a table with a column for each.

    Raises:
        KeyError: a required column is missing.
    """
    import pyarrow as pa

    present = [
        column
        for column in table.of_classes(classes)
        if not column.optional or column.name in columns
    ]
    return pa.table([columns[column.name] for column in present], _schema(present))


def _schema(columns: Sequence[Column]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(column.name, pa.type_for_alias(column.type)) for column in columns])
