"""What is stored has the declared columns and types, whatever the values come as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.tables.arrow import from_columns, from_rows
from tasks.core.tables.images import COUNTS, DUPLICATE_PAIRS, FOLD_OF_IMAGE, LABELS
from tasks.core.tables.quality import CLASS_SCORES
from tasks.core.tables.results import MODELS, SUCCESS_CRITERIA
from tasks.core.tables.schema import Column, Table
from tasks.core.tables.trainings import EPOCHS, PREDICTIONS
from tasks.core.tables.verdicts import GATE_VERDICT

ALL_TYPES = Table(
    "all",
    "a row",
    (
        Column("text", "string", "x"),
        Column("yes", "bool", "x"),
        Column("short", "int32", "x"),
        Column("long", "int64", "x"),
        Column("single", "float32", "x"),
        Column("double", "float64", "x"),
    ),
)
TYPES = [
    ("text", "string"),
    ("yes", "bool"),
    ("short", "int32"),
    ("long", "int64"),
    ("single", "float"),
    ("double", "double"),
]
ROW = {
    "text": "a",
    "yes": True,
    "short": -1,
    "long": 2**40,
    "single": 0.5,
    "double": 0.1,
}


def types(table: pa.Table) -> list[tuple[str, str]]:
    return [(column.name, str(column.type)) for column in table.schema]


def test_rows_become_a_table_of_the_declared_schema() -> None:
    table = from_rows(ALL_TYPES, [ROW, ROW])
    assert types(table) == TYPES
    assert table.to_pylist() == [ROW, ROW]


def test_columns_become_a_table_of_the_declared_schema() -> None:
    table = from_columns(ALL_TYPES, {name: [value] for name, value in ROW.items()})
    assert types(table) == TYPES
    assert table.to_pylist() == [ROW]


def test_the_order_is_the_schema_s() -> None:
    backwards = dict(reversed(ROW.items()))
    assert types(from_rows(ALL_TYPES, [backwards])) == TYPES
    columns = {name: [value] for name, value in backwards.items()}
    assert types(from_columns(ALL_TYPES, columns)) == TYPES


@pytest.mark.parametrize(
    "table", [LABELS, COUNTS, DUPLICATE_PAIRS, CLASS_SCORES, MODELS, SUCCESS_CRITERIA, GATE_VERDICT]
)
def test_a_table_without_rows_has_all_columns(table: Table) -> None:
    for made in (from_rows(table, []), from_columns(table, {name: [] for name in table.names})):
        assert made.column_names == list(table.names)
        assert made.num_rows == 0
        expected = [pa.type_for_alias(column.type) for column in table.columns]
        assert made.schema.types == expected


def test_values_of_other_types_are_converted() -> None:
    found = from_columns(
        FOLD_OF_IMAGE, {"fold": np.array([1, 2], np.int16), "label": np.array([3, 300])}
    )
    assert types(found) == [("fold", "int64"), ("label", "int32")]
    assert found.to_pydict() == {"fold": [1, 2], "label": [3, 300]}
    assert from_columns(FOLD_OF_IMAGE, {"fold": range(1, 3), "label": [0, 0]})[
        "fold"
    ].to_pylist() == [1, 2]


def test_values_that_a_type_can_t_hold_are_refused() -> None:
    with pytest.raises((pa.ArrowInvalid, OverflowError)):
        from_columns(FOLD_OF_IMAGE, {"fold": [1], "label": [2**31]})
    with pytest.raises(pa.ArrowInvalid):
        from_rows(FOLD_OF_IMAGE, [{"fold": 1, "label": "coat"}])


def test_a_value_that_a_row_lacks_is_null() -> None:
    table = from_rows(ALL_TYPES, [{"text": "a"}, {"double": None}])
    assert table["text"].to_pylist() == ["a", None]
    assert table["double"].null_count == 2


def test_a_value_of_a_row_that_the_schema_lacks_is_left_out() -> None:
    assert from_rows(ALL_TYPES, [ROW | {"another": 1}]).column_names == [name for name, _ in TYPES]


@pytest.mark.parametrize("missing", ROW)
def test_a_missing_column_is_an_error(missing: str) -> None:
    columns = {name: [value] for name, value in ROW.items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        from_columns(ALL_TYPES, columns)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        from_columns(FOLD_OF_IMAGE, {"fold": [1, 2], "label": [0]})


def test_optional_columns_may_be_missing() -> None:
    final: dict[str, Any] = {"epoch": [1, 2], "accuracy": [0.5, 0.6], "loss": [1.0, 0.9]}
    assert types(from_columns(EPOCHS, final)) == [
        ("epoch", "int32"),
        ("accuracy", "double"),
        ("loss", "double"),
    ]
    validated = final | {"val_loss": [1.1, 1.0], "val_accuracy": [0.4, 0.5]}
    found = from_columns(EPOCHS, validated)
    assert found.column_names == list(EPOCHS.names)
    assert found["val_loss"].to_pylist() == [1.1, 1.0]
    del validated["loss"]
    with pytest.raises(KeyError, match="loss"):
        from_columns(EPOCHS, validated)


def test_a_column_for_each_class() -> None:
    probabilities = np.array([[0.25, 0.75, 0], [1, 0, 0]], np.float32)
    columns: dict[str, Any] = {"label": [1, 0], "predicted": [1, 0]}
    columns |= {f"p{index}": probabilities[:, index] for index in range(3)}
    found = from_columns(PREDICTIONS, columns, 3)
    assert types(found) == [
        ("label", "int32"),
        ("predicted", "int32"),
        ("p0", "float"),
        ("p1", "float"),
        ("p2", "float"),
    ]
    assert found["p1"].to_pylist() == [0.75, 0]
    with pytest.raises(KeyError, match="p3"):
        from_columns(PREDICTIONS, columns, 4)
