"""`fashion-flow look`: what is in a data set and what is wrong with it, before anything trains."""

from __future__ import annotations

import webbrowser
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, JsonFlag, StoreOption
from flows.cli.options import SettingsOptions
from flows.cli.screen import add_row, line, out, show, show_json, table, warn
from flows.runners.base import Runner
from flows.runners.choose import find_site
from flows.running.dataset_resolution import resolve
from flows.running.look_run import Looked, look_at
from tasks.core.errors import UserError
from tasks.storage.run_log import RunLog, new_run_id
from tasks.storage.store import Store

# More classes than these would scroll the findings off the screen.
MOST_CLASSES = 20


def look(
    given: Annotated[
        str | None,
        Parameter("DATASET", help="The data set, as with --dataset.", show_default=False),
    ] = None,
    /,
    *,
    changes: SettingsOptions = SettingsOptions(),
    store: StoreOption = ARTIFACTS,
    as_json: JsonFlag = False,
    open_: Annotated[bool, Parameter("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Print what was found, and where the page with pictures is.

    Raises:
        UserError: the data set is given twice or can't be used, or there is no browser.
    """
    if given is not None and changes.dataset is not None:
        raise UserError("the data set is given twice; leave out --dataset.")
    asked = changes if given is None else replace(changes, dataset=given)
    opened = Store(store)
    wanted = asked.settings()
    profile = find_site(Runner(), wanted.execution).profile
    settings, notice = resolve(opened, wanted, profile, replaceable=asked.replaceable, fetch=True)
    found = look_at(RunLog(opened, new_run_id()), settings, profile)
    if as_json:
        show_json(_as_json(found))
    else:
        _show(found)
    if notice:
        warn(notice)
    if open_ and not webbrowser.open(found.page.local().as_uri()):
        raise UserError("no browser was found; open the page yourself.")


def _as_json(found: Looked) -> dict[str, object]:
    view = found.view
    return {
        "dataset": view.dataset,
        "images": view.images,
        "shape": list(view.shape),
        "classes": list(view.class_names),
        "counts": {split: list(counts) for split, counts in view.counts.items()},
        "findings": [dict(row) for row in view.findings],
        "copies": [dict(row) for row in view.copies],
        "near": [dict(row) for row in view.near],
        "frames": dict(view.frames),
        "chosen": dict(view.chosen),
        "reading": list(view.reading.get("lines", ())),
        "costs": dict(found.costs),
        "page": str(found.page),
    }


def _show(found: Looked) -> None:
    view = found.view
    drawn = ", SYNTHETIC DATA" if view.synthetic else ""
    line(f"{view.dataset}: {view.images:,} images of {len(view.class_names):,} classes{drawn}")
    line("")
    _show_counts(found)
    line("")
    for name, value in (*view.chosen, *found.costs):
        out.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=False)
    for text in view.reading.get("lines", ())[1:]:
        out.print(text, markup=False, highlight=False)
    line("")
    if not view.findings:
        line("Nothing is wrong with the images, as far as this can tell.")
    for row in view.findings:
        style = "bold red" if row["level"] == "fault" else "yellow"
        out.print(f"{row['level']}: {row['sentence']}", style=style, markup=False, highlight=False)
        out.print(f"  {row['advice']}", markup=False, highlight=False)
    line("")
    line(f"page: {found.page}")


def _show_counts(found: Looked) -> None:
    view = found.view
    made = table("class", *view.counts, "together")
    for at, name in enumerate(view.class_names[:MOST_CLASSES]):
        counts = [of_class[at] for of_class in view.counts.values()]
        add_row(made, name, *(f"{count:,}" for count in (*counts, sum(counts))))
    sums = [sum(of_class) for of_class in view.counts.values()]
    more = len(view.class_names) - MOST_CLASSES
    add_row(
        made,
        f"all, {more:,} more classes included" if more > 0 else "all",
        *(f"{count:,}" for count in (*sums, sum(sums))),
        style="bold",
    )
    show(made)
