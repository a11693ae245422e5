"""The recipe in this process: what is carried out, in which order, on what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flows.planning.stage_selection import StageSelection
from flows.running.direct_run import carry_out
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_specs import SPECS

calls: list[tuple[str, dict[str, str]]] = []


def fake(stage: Stage, inputs: dict[str, Outcome], _context: Any) -> SimpleNamespace:
    calls.append((stage.name, {role: given.stage for role, given in inputs.items()}))
    return SimpleNamespace(data=Record(stage.name, stage.kind, "", {}, {}, {}))


def carried_out(*only: str) -> list[str]:
    calls.clear()
    tasks: Any = {spec.kind: SimpleNamespace(fn=fake) for spec in SPECS}
    context: Any = SimpleNamespace(store_url="nowhere")
    choice = StageSelection(only=frozenset(only))
    outcomes = carry_out(Settings(dataset="synthetic"), tasks, context, choice)
    assert sorted(outcomes) == sorted(name for name, _ in calls)
    return [name for name, _ in calls]


def test_only_what_the_chosen_stages_need_is_carried_out_once() -> None:
    assert carried_out("look") == ["load", "subset", "guard", "look"]
    assert dict(calls)["look"] == {"raw": "load", "split": "subset", "guard": "guard"}


def test_a_stage_runs_after_those_that_it_waits_for() -> None:
    """`preprocess` does not read what `guard` stores."""
    assert carried_out("preprocess") == ["load", "subset", "guard", "preprocess"]
    assert carried_out("baseline", "explore") == [
        "load",
        "explore",
        "subset",
        "guard",
        "preprocess",
        "baseline",
    ]
