"""Each table's schema is written once, and written so that documentation can be made of it."""

from __future__ import annotations

from typing import get_args

import pyarrow as pa
import pytest

from tasks.core.tables import images, quality, results, trainings, verdicts
from tasks.core.tables.schema import Column, ColumnType, Table

TABLES = [
    value
    for module in (images, quality, results, trainings, verdicts)
    for value in vars(module).values()
    if isinstance(value, Table)
]

ADVICE = (
    "The columns of a stored table changed. Raise FORMAT_VERSION in tasks/core/records.py if "
    "earlier results can no longer be read, and change this list."
)
COLUMNS = {
    "<split>_labels": "position label class",
    "origins": "split position name row",
    "class_counts": "class train test",
    "index": "split source_position label class",
    "pairs": "split position label other_split other_position other_label similarity exact",
    "findings": "kind level sentence advice",
    "affected": "finding split position class name",
    "folds": "fold label",
    "label_errors": (
        "rank split position source_position origin given suggested self_confidence "
        "suggested_probability"
    ),
    "label_error_counts": "given true images",
    "per_class": "model split class precision recall f1 support",
    "confusion": "model split label predicted count",
    "calibration": "model split above up_to count confidence accuracy",
    "results": (
        "name step params epochs batch_size train_samples trainings train_loss train_accuracy "
        "val_loss val_accuracy test_loss test_accuracy val_loss_sd val_accuracy_sd "
        "val_accuracy_low val_accuracy_high val_balanced_accuracy val_balanced_accuracy_low "
        "val_balanced_accuracy_high val_log_loss val_log_loss_low val_log_loss_high test_loss_sd "
        "test_accuracy_sd test_accuracy_low test_accuracy_high test_balanced_accuracy "
        "test_balanced_accuracy_low test_balanced_accuracy_high test_log_loss test_log_loss_low "
        "test_log_loss_high decision state reason notebook_test_loss notebook_test_accuracy"
    ),
    "replicates": (
        "model stage replicate fold seed epochs train_samples train_loss train_accuracy val_loss "
        "val_accuracy test_loss test_accuracy"
    ),
    "selection": (
        "looks models survivor metric val_score optimism best_corrected best_corrected_low "
        "best_corrected_high method"
    ),
    "criteria": "criterion met metric value low high threshold p_value alpha",
    "history": "epoch accuracy loss val_accuracy val_loss",
    "<split>_predictions": "label predicted",
    "verdict": (
        "gate incumbent candidate decision reason rule delta_accuracy ci_low ci_high metric gain "
        "gain_low gain_high p_value delta_loss replicates folds state forced level standard_error "
        "loss_ci_low loss_ci_high mcnemar_only_incumbent mcnemar_only_candidate mcnemar_p_value "
        "gap_incumbent gap_candidate by_validation by_significant by_one_standard_error"
    ),
}
# All verdicts of a run have one column more.
COLUMNS["verdicts"] = COLUMNS["verdict"].replace("p_value ", "p_value p_value_adjusted ", 1)


def ids(table: Table) -> str:
    return table.name


def test_the_columns_of_every_table() -> None:
    assert {table.name: " ".join(table.names) for table in TABLES} == COLUMNS, ADVICE


def test_each_table_has_a_name_of_its_own() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)


@pytest.mark.parametrize("table", TABLES, ids=ids)
def test_names_of_columns_are_unique(table: Table) -> None:
    names = [column.name for column in table.of_classes(12)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("table", TABLES, ids=ids)
def test_columns_have_types_of_arrow_and_meanings(table: Table) -> None:
    for column in table.of_classes(2):
        assert column.type in get_args(ColumnType)
        assert isinstance(pa.type_for_alias(column.type), pa.DataType)
        assert column.meaning.strip() == column.meaning != ""
        assert not column.meaning.endswith("."), "meanings are set in tables"


@pytest.mark.parametrize("table", TABLES, ids=ids)
def test_a_table_says_what_a_row_is(table: Table) -> None:
    assert table.row.split()[0] in ("each", "the"), "one row for ..."


def test_a_column_for_each_class() -> None:
    table = Table("t", "a row", (Column("a", "int64", "x"),), Column("p", "float32", "y"))
    assert table.names == ("a",)
    assert table.of_classes(0) == table.columns
    assert table.of_classes(2) == (
        Column("a", "int64", "x"),
        Column("p0", "float32", "y"),
        Column("p1", "float32", "y"),
    )


def test_tables_without_such_a_column_are_the_same_for_any_number_of_classes() -> None:
    assert trainings.EPOCHS.of_classes(10) == trainings.EPOCHS.columns
