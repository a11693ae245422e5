"""Write docs/tables.md, every stored table column by column, from the tables' schemas.

Usage: python -m docs.tables
"""

from __future__ import annotations

from pathlib import Path

from tasks.core.tables import images, quality, results, trainings, verdicts
from tasks.core.tables.schema import Column, Table

PAGE = Path(__file__).parent / "tables.md"
HEAD = """# Tables

Every table that a run stores, as Parquet, column by column. `python -m docs.tables` writes this
page from the schemas in `tasks/core/tables/`. [artifacts/README.md](../artifacts/README.md) says
where the files are.
"""
SECTIONS: dict[str, tuple[tuple[str, Table], ...]] = {
    "Images": (
        ("load", images.LABELS),
        ("load", images.IMAGE_ORIGINS),
        ("explore", images.COUNTS),
        ("subset", images.SPLIT_INDEX),
        ("guard", images.DUPLICATE_PAIRS),
        ("look", images.FOUND),
        ("look", images.AFFECTED_IMAGES),
        ("folds", images.FOLD_OF_IMAGE),
        ("label_check", images.SUSPECTS),
        ("label_check", images.ERRORS_BY_PAIR),
    ),
    "Trainings": (
        ("each training", trainings.EPOCHS),
        ("each training, test_<training>", trainings.PREDICTIONS),
    ),
    "Verdicts": (
        ("gate_<k>", verdicts.GATE_VERDICT),
        ("results", verdicts.ALL_VERDICTS),
    ),
    "Results": (
        ("results", results.MODELS),
        ("results", results.TRAININGS),
        ("selection", results.OPTIMISM),
        ("success", results.SUCCESS_CRITERIA),
    ),
    "Quality": (
        ("quality", quality.CLASS_SCORES),
        ("quality", quality.CONFUSIONS),
        ("quality", quality.RELIABILITY),
    ),
}


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for title, tables in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_section(stage, table) for stage, table in tables]
    return "\n".join(parts)


def _section(stage: str, table: Table) -> str:
    lines = [
        f"### `{table.name}.parquet` of `{stage}`\n",
        f"One row for {table.row}.\n",
        "| column | type | meaning |",
        "| --- | --- | --- |",
        *(_row(column) for column in table.columns),
    ]
    if table.per_class:
        repeated = Column(
            f"{table.per_class.name}0 ...", table.per_class.type, table.per_class.meaning
        )
        lines.append(_row(repeated))
    return "\n".join(lines) + "\n"


def _row(column: Column) -> str:
    meaning = column.meaning + ("; not in every table" if column.optional else "")
    return f"| `{column.name}` | {column.type} | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
