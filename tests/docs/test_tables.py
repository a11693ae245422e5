"""The page on tables is the one that the schemas make."""

from __future__ import annotations

from docs.tables import PAGE, SECTIONS, page
from tasks.core.tables import images, quality, results, trainings, verdicts
from tasks.core.tables.schema import Table


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m docs.tables"


def test_every_table_is_on_the_page() -> None:
    modules = (images, quality, results, trainings, verdicts)
    declared = {
        id(value)
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Table)
    }
    shown = {id(table) for tables in SECTIONS.values() for _, table in tables}
    assert shown == declared
