"""The cache follows the code: an edit recomputes what depends on it, a comment nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.processes import Command, Server
from tests.reliability.support import Size

TRAININGS = {"baseline", "low_capacity", "overfitting", "final"}
TESTS = {f"test_{name}" for name in TRAININGS}

Planned = dict[str, tuple[str, str]]


@pytest.fixture
def planned(
    size: Size, undisturbed: Path, environment: dict[str, str], tmp_path: Path
) -> Callable[[], Planned]:
    """Run `plan` in a copy of the project; return state and reason by stage."""
    for package in ("flows", "tasks"):
        shutil.copytree(ROOT / package, tmp_path / package)

    def plan() -> Planned:
        shown = subprocess.run(
            [sys.executable, "-m", "flows", "plan", *size.settings, "--store", str(undisturbed)],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rows = [line.split("  ") for line in shown.splitlines()[2:-1]]
        cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
        return {row[0]: (row[1], row[-1]) for row in cells if len(row) > 2}

    return plan


def edit(folder: Path, module: str, old: str, new: str) -> None:
    path = folder / module
    text = path.read_text()
    assert old in text, f"{module} has changed; this test needs another edit"
    path.write_text(text.replace(old, new, 1))


def add_code(folder: Path, module: str) -> None:
    with (folder / module).open("a") as file:
        file.write("\n\nADDED = 1\n")


def of_state(planned: Planned, state: str) -> set[str]:
    return {stage for stage, (found, _) in planned.items() if found == state}


def test_comments_and_docstrings_recompute_nothing(
    planned: Callable[[], Planned], tmp_path: Path
) -> None:
    stages = set(planned())
    assert of_state(planned(), "cached") == stages
    edit(tmp_path, "tasks/core/training/loop.py", "def train(", "# A remark.\n\n\ndef train(")
    edit(tmp_path, "tasks/core/training/augment.py", '"""', '"""Other words. ')
    edit(tmp_path, "tasks/models/fit.py", "def fit_network(", "\n\ndef fit_network(")
    assert of_state(planned(), "cached") == stages


def test_an_edited_helper_recomputes_what_depends_on_it_and_plan_names_it(
    planned: Callable[[], Planned], tmp_path: Path
) -> None:
    before = planned()
    add_code(tmp_path, "tasks/core/training/augment.py")
    after = planned()
    # Stages after a gate are undecided as long as the gate is.
    trained = of_state(after, "will run")
    assert trained >= TRAININGS - {"final"}
    assert {after[name][1] for name in trained} == {"code of tasks.core.training.augment changed"}
    assert after["final"][0] in ("will run", "open")
    # The figures show augmented images, too.
    assert "figures" in trained or after["figures"][0] == "open"
    assert not trained & {"load", "explore", "subset", "preprocess", "results"}
    assert set(after) == set(before)
    assert {"load", "explore", "subset", "preprocess"} <= of_state(after, "cached")


def test_edits_to_figures_or_the_report_train_nothing(
    planned: Callable[[], Planned], tmp_path: Path
) -> None:
    before = planned()
    add_code(tmp_path, "tasks/reporting/page.py")
    assert of_state(planned(), "cached") == set(before)
    add_code(tmp_path, "tasks/core/drawing/canvas.py")
    drawing = {"explore", "guard", "look", "quality", "figures"}
    drawing |= {name for name in before if name.startswith("curves_")}
    assert of_state(planned(), "will run") == drawing
    assert of_state(planned(), "cached") == set(before) - drawing


@pytest.mark.usefixtures("full")
def test_two_versions_of_the_program_share_a_store_and_each_finds_its_own_results(
    size: Size,
    undisturbed: Path,
    fashion_flow: Command,
    reliability_server: Server,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    shutil.copytree(undisturbed, store)
    for package in ("flows", "tasks"):
        shutil.copytree(ROOT / package, other / package)
    add_code(other, "tasks/core/data/splitting.py")

    def call_other(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "flows", *arguments, "--store", str(store)],
            cwd=other,
            env=environment | {"PYTHONPATH": str(other), "PREFECT_API_URL": reliability_server.url},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    only = (*size.settings, "--only", "subset")
    assert "code of tasks.core.data.splitting changed" in call_other("plan", *only)
    call_other("run", *only)
    assert "2 of 2 stages are cached" in call_other("plan", *only)
    # This version's results are all still there, and both versions read both runs.
    assert "will run" not in fashion_flow("plan", *size.settings, "--store", store).out
    assert "0 damaged, 0 orphans, 0 unfinished" in fashion_flow("verify", "--store", store).out
    listed = fashion_flow("runs", "--store", store).out
    assert listed.count(" done ") == 2
    assert call_other("runs") == listed
    fashion_flow("clean", "--store", store)
    assert "2 of 2 stages are cached" in call_other("plan", *only)
