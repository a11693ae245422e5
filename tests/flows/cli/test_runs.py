"""`runs` names the preset of each run and what differs from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import main
from flows.cli.runs import nearest_preset
from flows.cli.screen import out
from flows.recipe.compose import compose
from flows.recipe.presets import PRESETS
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store


def logged(preset: str, *assignments: str) -> dict[str, Any]:
    """The settings as a run's log has them."""
    text = json.dumps(compose(preset, None, {}, assignments).model_dump(mode="json"))
    settings: dict[str, Any] = json.loads(text)
    return settings


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_is_found(preset: str) -> None:
    assert nearest_preset(logged(preset)) == (preset, {})


@pytest.mark.parametrize(
    ("preset", "assignments", "changes"),
    [
        ("notebook", ["seed=3"], {"seed": 3}),
        ("notebook", ["dataset=synthetic"], {"dataset": "synthetic"}),
        ("full", ["rule=notebook"], {}),
        ("notebook", ["rule=validation", "alpha=0.1"], {"alpha": 0.1}),
        (
            "smoke",
            ["overfitting.epochs=3", "transfer.weights=off", "plan=[]"],
            {"overfitting.epochs": 3, "transfer.weights": "off", "plan": []},
        ),
    ],
)
def test_the_settings_that_differ_are_found(
    preset: str, assignments: list[str], changes: dict[str, Any]
) -> None:
    assert nearest_preset(logged(preset, *assignments)) == (preset, changes)


def test_settings_that_an_earlier_version_did_not_have_are_no_difference() -> None:
    settings = logged("smoke", "seed=3")
    del settings["alpha"]
    for entry in settings["plan"]:
        del entry["evidence"]
    assert nearest_preset(settings) == ("smoke", {"seed": 3})


def shown(store: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """For each run, what is said of its settings."""
    assert main(["runs", "--store", str(store)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run-")]
    return [" ".join(row.split()[4:]) for row in rows]


def test_a_run_is_described_by_its_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rich reads COLUMNS only once, when the console is made.
    monkeypatch.setattr(out, "_width", 200)
    many = [f"{name}.epochs=9" for name in ("baseline", "low_capacity", "overfitting")]
    for number, (given, only) in enumerate(
        [
            (logged("smoke"), []),
            (logged("notebook", "seed=3"), []),
            (logged("full", "plan=[]", "rule=one_standard_error"), ["load", "explore"]),
            (logged("full", "rule=one_standard_error"), ["load", "explore"]),
            (logged("notebook", *many, "alpha=0.1"), []),
            (logged("notebook", *many, "seed=3", "alpha=0.1"), []),
        ],
        start=1,
    ):
        RunLog(Store(str(tmp_path)), f"run-{number}").begin(given, {}, None, only)
    assert shown(tmp_path, capsys) == [
        "smoke, rule=notebook",
        "notebook, rule=notebook, seed=3",
        "full, another plan, only load, explore",
        "full, rule=one_standard_error, only load, explore",
        "notebook, rule=validation, baseline.epochs=9, low_capacity.epochs=9, 2 other settings",
        "notebook, rule=validation, baseline.epochs=9, low_capacity.epochs=9, 3 other settings",
    ]


def test_the_list_says_what_the_rules_in_it_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "_width", 200)
    old = logged("notebook", "rule=validation") | {"a setting of another version": 1}
    given = [logged("smoke"), logged("notebook"), logged("full"), logged("full", "plan=[]"), old]
    for number, settings in enumerate(given):
        RunLog(Store(str(tmp_path)), f"run-{number}").begin(settings, {}, None, [])
    assert main(["runs", "--store", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert " ".join(shown[shown.index("rule notebook: ") :].split()) == (
        "rule notebook: replays the notebook's decisions; --rule validation decides by this run's "
        "evidence rule validation: decides by this run's evidence, as by default on all images of "
        "the data set"
    )
