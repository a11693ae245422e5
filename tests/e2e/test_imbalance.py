"""A drawn set with 394, 3 and 3 images in three classes, from the files to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.processes import SMALL, Command, Server, latest_run

SIZES = {"common": 394, "rare": 3, "scarce": 3}
PLAN = """
[[iteration]]
name = "dropout"
change = {dropout = 0.25}

[[iteration]]
name = "more units"
change = {dense = [32]}
"""
HOLDOUT = ("--protocol", "holdout")
FOLDS = ("--protocol", "kfold", "--set", "evaluation.folds=2")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of noise; the rare classes are brighter in one half each."""
    folder = tmp_path_factory.mktemp("imbalance") / "set"
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        (folder / name).mkdir(parents=True)
        for number in range(size):
            pixels = rng.integers(0, 90, (12, 12)).astype(np.uint8)
            if name == "rare":
                pixels[:6] += 120
            elif name == "scarce":
                pixels[:, :6] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN)
    return path


@pytest.mark.parametrize(
    ("metric", "protocol", "replicates", "rule"),
    [
        ("balanced_accuracy", HOLDOUT, 1, "validation"),
        ("balanced_accuracy", HOLDOUT, 3, "significant"),
        ("balanced_accuracy", FOLDS, 1, "validation"),
        ("balanced_accuracy", FOLDS, 2, "significant"),
        ("log_loss", FOLDS, 1, "one_standard_error"),
    ],
    ids=["hold-out", "hold-out, replicates", "folds", "folds, replicates", "log loss"],
)
def test_rare_classes_pass_from_the_files_to_the_report(
    metric: str,
    protocol: tuple[str, ...],
    replicates: int,
    rule: str,
    images: Path,
    plan: Path,
    fashion_flow: Command,
    shared_server: Server,
    tmp_path: Path,
) -> None:
    done = fashion_flow(
        "run", *SMALL, "--dataset", images, "--plan", plan, "--store", tmp_path, *protocol,
        "--replicates", str(replicates), "--rule", rule, "--metric", metric,
        "--set", "class_weight=balanced", "--set", "subset.method=everything",
        PREFECT_API_URL=shared_server.url,
    )  # fmt: skip
    assert done.status == 0, done.err
    shown = fashion_flow("results", "--json", "--store", tmp_path)
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in json.loads(shown.out)}
    commonest, final = rows["commonest_class"], rows["final"]
    assert commonest["test_balanced_accuracy"] == pytest.approx(1 / 3)
    assert commonest["test_accuracy"] > 0.95, "accuracy hides the rare classes"
    for row in rows.values():
        for name in ("balanced_accuracy", "log_loss"):
            low, value, high = (row[f"test_{name}{end}"] for end in ("_low", "", "_high"))
            assert value is not None
            assert row["name"] == "commonest_class" or low <= value <= high
    # One image of each rare class proves nothing.
    assert final["test_balanced_accuracy_high"] - final["test_balanced_accuracy_low"] > 0.4
    gates = json.loads(fashion_flow("verdicts", "--json", "--store", tmp_path).out)
    for gate in gates:
        assert gate["metric"] == metric
        assert gate["gain_low"] <= gate["gain"] <= gate["gain_high"]
        before, after = (rows[gate[role]][f"val_{metric}"] for role in ("incumbent", "candidate"))
        sign = -1 if metric == "log_loss" else 1
        assert gate["gain"] == pytest.approx(sign * (after - before), abs=1e-9)
    page = " ".join(latest_run(tmp_path).report.read_text().split())
    words = metric.replace("_", " ")
    assert f"The final model’s {words}" in page
    assert "Always naming the commonest class needs no training." in page
    assert "The test split has 1 image of rare" in page
    assert "weight in training" in page


def test_an_unknown_class_is_named_with_the_known_ones(
    images: Path, plan: Path, fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    done = fashion_flow(
        "run", *SMALL, "--dataset", images, "--plan", plan, "--store", tmp_path,
        "--only", "baseline", "--set", "class_weight.rar=5", PREFECT_API_URL=shared_server.url,
    )  # fmt: skip
    assert done.status != 0
    words = " ".join(done.err.replace("│", " ").split())
    assert "class_weight names rar, which is no class" in words
    assert "common, rare, scarce" in words
    assert "Traceback" not in done.err
