"""A look at a data set: its stages in this process, its page, and no Prefect server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.planning.costs import estimated
from flows.planning.stage_selection import StageSelection
from flows.recipe.settle import rule_words
from flows.running.run_logging import logging_run
from flows.running.server_address import prepare_prefect
from tasks.core.names import LOAD, LOOK, SUBSET
from tasks.core.records import Outcome, Record
from tasks.core.settings.run_settings import Settings
from tasks.engine.fingerprint import remember_code
from tasks.reporting.look_page import render_look
from tasks.reporting.look_view import LookView, gather_look
from tasks.storage.files import explaining
from tasks.storage.run_log import RunLog
from tasks.storage.store_path import StorePath

# Runs on small photographs took up to so many times what docs/performance.md makes one expect.
SLOWER = 3


@dataclass(frozen=True)
class Looked:
    """What was found, what a run would cost and how it decides, and where the page is.

    `costs` are pairs of name and value.
    """

    view: LookView
    costs: list[tuple[str, str]]
    page: StorePath


def look_at(run_log: RunLog, settings: Settings, profile: Mapping[str, Any]) -> Looked:
    """Carry out the stage `look` and what it needs, as a run of its own, and write the page.

    A later run with the same settings finds these stages in the store.

    Raises:
        FashionFlowError: a stage failed, e.g. because the data set can't be used.
    """
    store = run_log.store
    store.check_usable()
    remember_code()
    # Prefect is imported, but no server is asked.
    prepare_prefect()
    with explaining(store.root), logging_run(run_log.log, logging.WARNING):
        outcomes = _carried_out(run_log, settings, profile)
        records = {name: item for name, item in outcomes.items() if isinstance(item, Record)}
        view = gather_look(settings, store, records)
        costs = _costs(settings, records)
        page = run_log.folder / "look.html"
        page.write(render_look(view, costs).encode())
    return Looked(view, costs, page)


def _carried_out(
    run_log: RunLog, settings: Settings, profile: Mapping[str, Any]
) -> dict[str, Outcome]:
    from flows.build_model import TASKS
    from flows.running.direct_run import carry_out
    from flows.running.flow_run import logged
    from tasks.engine.stage import RunContext

    choice = StageSelection(only=frozenset({LOOK}))
    context = RunContext(str(run_log.store.root), run_log.run_id, profile, workers=1)
    with logged(run_log, settings, profile, choice):
        return carry_out(settings, TASKS, context, choice)


def _costs(settings: Settings, records: Mapping[str, Record]) -> list[tuple[str, str]]:
    load, subset = records[LOAD].facts, records[SUBSET].facts
    height, width, channels = load["image_shape"]
    found = estimated(
        settings, subset["sizes"], load["train"] + load["test"], (height, width, channels)
    )
    rows = [("Time of a run", f"about {_span(found.seconds)}")]
    if found.vgg16_seconds:
        rows.append(("With VGG16's weights", f"about {_span(found.vgg16_seconds)} more"))
    if settings.change_names:
        rows.append(("Decisions of a run", rule_words(settings)))
    return [
        *rows,
        ("Memory", f"about {found.memory_mib / 1024:.1f} GiB"),
        ("Space of the images in the store", _space(found.disk_mib)),
    ]


def _span(seconds: float) -> str:
    """A time and `SLOWER` times as much, in words."""
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} to {SLOWER * seconds / size:.0f} {unit}"
    return "a minute or two"


def _space(mib: float) -> str:
    return f"{mib:,.0f} MiB" if mib < 1024 else f"{mib / 1024:,.1f} GiB"
