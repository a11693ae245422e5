"""The schema of a table: columns with names, types and meanings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["string", "bool", "int32", "int64", "float32", "float64"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name.
        type: Arrow's name for the type of its values.
        meaning: what the values are, with unit and range; for the documentation.
        optional: whether the table may lack it.
    """

    name: str
    type: ColumnType
    meaning: str
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: the stored file, without `.parquet`.
        row: what each row is about, e.g. `each training`.
        columns: the columns in order.
        per_class: a column that is repeated for each class, with the class's index appended to its
            name.
    """

    name: str
    row: str
    columns: tuple[Column, ...]
    per_class: Column | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, without those for each class."""
        return tuple(column.name for column in self.columns)

    def of_classes(self, classes: int) -> tuple[Column, ...]:
        """The columns of a table with `classes` classes."""
        if self.per_class is None:
            return self.columns
        repeated = (
            Column(f"{self.per_class.name}{index}", self.per_class.type, self.per_class.meaning)
            for index in range(classes)
        )
        return (*self.columns, *repeated)
