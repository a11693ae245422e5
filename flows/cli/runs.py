"""`fashion-flow runs`: list all runs, their settings and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, StoreOption
from flows.cli.screen import add_row, sentence, shortened, show, show_json, table, warn
from flows.planning.differences import flat
from flows.recipe.presets import PRESETS
from flows.recipe.settle import logged_rule_words, logged_settings
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.storage.run_log import all_runs, damaged_runs, no_run
from tasks.storage.store import Store

SHOWN_CHANGES = 4


def runs(
    *,
    as_json: Annotated[
        bool, Parameter("--json", help="Print JSON, with the settings of each run.")
    ] = False,
    store: StoreOption = ARTIFACTS,
) -> None:
    """Print a row for each run.

    Raises:
        UserError: there is no run.
    """
    opened = Store(store)
    rows = run_rows(opened)
    if as_json:
        show_json(rows)
        return
    if not rows:
        raise UserError(f"{no_run(opened)}; start one with `fashion-flow run`.")
    made = table("run (UTC)", "status", "took", "new", "cached")
    made.add_column("preset, differences")
    for row in rows:
        add_row(
            made,
            row["run"],
            row["status"],
            _duration(row["started"], row["ended"]),
            str(row["stages"]["completed"]),
            str(row["stages"]["cached"]),
            ", ".join(_characteristics(row)),
        )
    show(made)
    for words in dict.fromkeys(logged_rule_words(row["settings"]) for row in rows):
        if words:
            sentence(words)
    damaged = damaged_runs(opened)
    if damaged:
        warn(f"The logs of {listed(damaged)} are damaged; delete their folders to forget them.")


def run_rows(store: Store) -> list[dict[str, Any]]:
    """The log of every run with its status and counts of stages, oldest first."""
    rows = []
    for run in all_runs(store):
        states = [entry["state"] for entry in run.stages()]
        counts = {state: states.count(state) for state in ("completed", "cached", "skipped")}
        rows.append(run.read() | {"status": run.status(), "stages": counts})
    return rows


def _characteristics(row: Mapping[str, Any]) -> list[str]:
    """The nearest preset, the rule, the settings that differ, and the stages if not all ran."""
    preset, changes = nearest_preset(row["settings"])
    if row["settings"]["plan"]:
        changes = {"rule": row["settings"]["rule"]} | changes
    shown = [
        "another plan" if name == "plan" else f"{name}={shortened(value)}"
        for name, value in changes.items()
    ]
    if len(shown) > SHOWN_CHANGES:
        rest = len(shown) - SHOWN_CHANGES + 1
        shown = [*shown[: SHOWN_CHANGES - 1], f"{rest} other settings"]
    only = [f"only {', '.join(row['only'])}"] if row["only"] else []
    return [preset, *shown, *only]


def nearest_preset(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The preset with the fewest settings that differ, and these settings by dotted name.

    The rule does not count: which one is usual depends on the other settings.
    """
    logged = logged_settings(settings)
    ours = flat({name: value for name, value in logged.items() if name != "rule"})
    compared = []
    for name, preset in PRESETS.items():
        for variant in filter(None, (preset.settings, preset.own)):
            theirs = flat(variant.model_dump(mode="json"))
            differences = {key: ours[key] for key in ours if ours[key] != theirs.get(key)}
            compared.append((name, differences))
    return min(compared, key=lambda one: len(one[1]))


def _duration(started: str, ended: str | None) -> str:
    if ended is None:
        return ""
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    # Negative if the clock was set back in between.
    return str(timedelta(seconds=round(took.total_seconds()))) if took >= timedelta() else ""
