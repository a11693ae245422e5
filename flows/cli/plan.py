"""`fashion-flow plan`: what a run would do, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from flows.cli.common_options import ARTIFACTS, StoreOption
from flows.cli.options import RunnerOptions, SettingsOptions, StageOptions
from flows.cli.screen import add_row, line, sentence, show, table, warn
from flows.planning.plan import CACHED, Planned
from flows.planning.plan import plan as planned
from flows.recipe.own_code import read_codes
from flows.recipe.settle import rule_words
from flows.runners.choose import find_site
from flows.running.dataset_resolution import resolve
from tasks.core.own_code import short_digest
from tasks.core.settings.network import shown_function
from tasks.storage.store import Store


def plan(
    *,
    changes: SettingsOptions = SettingsOptions(),
    stages: StageOptions = StageOptions(),
    store: StoreOption = ARTIFACTS,
    runner: RunnerOptions = RunnerOptions(),
) -> None:
    """Print a row for each stage: what a run would do, why, and how long it took last time."""
    opened = Store(store)
    wanted = changes.settings()
    profile = find_site(runner.chosen(), wanted.execution).profile
    settings, notice = resolve(
        opened, wanted, profile, replaceable=changes.replaceable, fetch=False
    )
    _show(planned(opened, settings, profile, stages.selection()), rule_words(settings))
    for function, code in read_codes(settings).items():
        name, modules = shown_function(function), ", ".join(sorted(code.files.values()))
        line(f"{name} has code {short_digest(code.digests)} ({modules}).")
    if notice:
        warn(notice)


def _show(stages: Sequence[Planned], about_rule: str) -> None:
    made = table("stage")
    made.add_column("state", no_wrap=True)
    made.add_column("last time", justify="right", no_wrap=True)
    made.add_column("why")
    for stage in stages:
        seconds = f"{stage.last['seconds']:.1f} s" if stage.last else ""
        resumed = stage.last.get("resumed_after")
        more = f" (last time resumed after epoch {resumed})" if resumed else ""
        style = "dim" if stage.state == CACHED else None
        add_row(made, stage.stage, stage.state, seconds, stage.reason + more, style=style)
    show(made)
    ahead = [stage for stage in stages if stage.state != CACHED]
    if about_rule:
        sentence(about_rule)
    line(f"{len(stages) - len(ahead)} of {len(stages)} stages are cached.")
    known = [stage.last["seconds"] for stage in ahead if stage.last]
    if not known:
        return
    took = timedelta(seconds=round(sum(known)))
    unknown = len(ahead) - len(known)
    if not unknown:
        line(f"The others took {took} last time, with the settings used then.")
        return
    line(f"{len(known)} of the others took {took} last time, with the settings used then;")
    line(f"the other {unknown} never ran, so their duration is unknown.")
