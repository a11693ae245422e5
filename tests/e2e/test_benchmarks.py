"""The benchmarks run without errors at a size too small to measure anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--train", "40", "--validation", "20", "--test", "20", "--epochs", "1")

NETWORKS = ("baseline", "low_capacity", "overfitting", "final", "vgg16_frozen", "vgg16_fine_tuned")
MODELS = (*NETWORKS, *(f"iteration_{number}" for number in range(1, 10)))


def benchmark(
    name: str,
    *arguments: str | Path,
    environment: dict[str, str],
    folder: Path,
    size: tuple[str, ...] = TINY,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *size, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )


def test_both_sides_are_timed_and_the_last_line_is_the_ratio(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = benchmark("transfer.py", environment=environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for part in ("(features)", "frozen base", "fine-tuned", "in all"):
        assert sum(line.startswith(part) for line in lines) == 1, done.stdout
    assert re.fullmatch(r"ratio \d+\.\d", lines[-1])
    assert list(tmp_path.iterdir()) == [], "its store is removed"


def test_labels_that_were_made_wrong_are_counted_among_the_suspects(
    environment: dict[str, str], tmp_path: Path
) -> None:
    few = ("--train", "100", "--validation", "50", "--test", "20", "--epochs", "1")
    store = ("--store", tmp_path / "store")
    done = benchmark("label_errors.py", *store, environment=environment, folder=tmp_path, size=few)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [(row[1], row[2]) for row in rows[1:8]] == [
        ("none", "0"),
        *((kind, str(wrong)) for wrong in (2, 8, 15) for kind in ("uniform", "confused")),
    ]
    assert [line[:20].strip() for line in done.stdout.splitlines()[-4:]] == [
        "prune by class",
        "prune by noise rate",
        "both",
        "argmax differs",
    ]


@pytest.mark.usefixtures("full")
def test_accuracies_are_compared_and_few_models_are_scored_on_the_test_split(
    environment: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    grid = ("--sides", "32", "--weights", "random", "--store", store)
    done = benchmark("transfer_accuracy.py", *grid, environment=environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("vgg16_frozen_corrected ") for line in lines) == 2
    assert sum(line.startswith("test accuracy of ") for line in lines) == 4
    assert len((store / "test_scorings.jsonl").read_text().splitlines()) == 4


def test_without_weights_nothing_is_measured(environment: dict[str, str], tmp_path: Path) -> None:
    given = ("--weights", tmp_path / "none.h5", "--store", tmp_path / "store")
    done = benchmark("transfer_accuracy.py", *given, environment=environment, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "none.h5" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def titles(models: tuple[str, ...] = MODELS) -> set[str]:
    """The titles in the table of `run.py` of those parts of the notebook that train models."""
    words = {name: name.replace("_", " ") for name in models}
    vgg16 = {"vgg16_frozen": "VGG16 frozen", "vgg16_fine_tuned": "VGG16 fine-tuned"}
    return set((words | vgg16).values())


def first_columns(lines: list[str]) -> list[str]:
    return [re.split(r"  +", line)[0] for line in lines]


@pytest.mark.usefixtures("full")
def test_the_notebook_and_the_flow_do_the_same_work_and_the_last_line_is_the_ratio(
    environment: dict[str, str], tmp_path: Path
) -> None:
    given = ("--rounds", "1", "--save", tmp_path / "rounds.json")
    done = benchmark("run.py", *given, environment=environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    columns = first_columns(lines)
    for title in titles():
        assert columns.count(title) == 2, f"{title}: its seconds, its accuracy: {done.stdout}"
    assert {"data and plots", "the rest", "wall, s", "CPU, s", "peak, MiB"} <= set(columns)
    assert re.fullmatch(r"ratio \d+\.\d\d", lines[-1])
    assert list(tmp_path.iterdir()) == [tmp_path / "rounds.json"], "stores and plots are removed"
    rounds = json.loads((tmp_path / "rounds.json").read_text())["measurements"]
    assert [found["side"] for found in rounds] == ["script", "flow"]
    script, flow = rounds
    assert set(script["models"]) == set(flow["models"]) == set(MODELS)
    assert set(script["parts"]) == set(flow["parts"]) == {"data", "rest", *MODELS}
    # Every stage is counted once, and none computes outside the run.
    computing = flow["wall"] - sum(flow["idle"].values())
    assert all(seconds >= 0 for seconds in flow["idle"].values())
    assert computing <= sum(part["wall"] for part in flow["parts"].values()) <= 2 * computing


@pytest.mark.usefixtures("full")
def test_a_failing_side_is_reported_with_the_end_of_its_output(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"{name}-ubyte").write_bytes(b"")
    broken = environment | {"FASHION_MNIST_DIR": str(tmp_path)}
    done = benchmark("run.py", "--rounds", "1", environment=broken, folder=tmp_path)
    assert done.returncode == 1
    assert "error: the script ended with status 1 after" in done.stderr
    assert "ValueError: offset must be non-negative and no greater than buffer" in done.stderr


def saved_round(side: str, wall: float, **params: int) -> dict[str, Any]:
    """A round as `run.py --save` stores it; `params` overrides numbers of parameters."""
    trained = {"epochs": 1, "batch_size": 128, "train_samples": 40, "test_accuracy": 0.5}
    parts = ("data", *MODELS, "rest")
    idle = {"before": wall / 8, "between": 0.0, "after": wall / 8}
    costs = dict.fromkeys(("cpu", "peak", "peak_with_children"), wall)
    return {
        "side": side,
        "wall": wall,
        **costs,
        "code": "0123456789ab",
        "parts": {part: {"wall": wall / len(parts), **costs} for part in parts},
        "models": {model: {"params": params.get(model, 100), **trained} for model in MODELS},
    } | ({"idle": idle, "stages": 70} if side == "flow" else {})


def save(path: Path, *rounds: dict[str, Any]) -> Path:
    size = {"train": 40, "validation": 20, "test": 20, "epochs": 1, "transfer": True}
    known = {"size": size, "machine": {"prefect": "3"}, "data": "drawn images", "apart": {}}
    path.write_text(json.dumps(known | {"measurements": rounds}))
    return path


def test_saved_rounds_are_summarised_by_medians(
    environment: dict[str, str], tmp_path: Path
) -> None:
    rounds = [saved_round("script", wall) for wall in (100.0, 400.0, 200.0)]
    rounds += [saved_round("flow", wall) for wall in (50.0, 40.0, 90.0)]
    path = save(tmp_path / "rounds.json", *rounds)
    given = ("--rounds", "0", "--save", path)
    done = benchmark("run.py", *given, environment=environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "ratio 0.25"
    assert titles() <= set(first_columns(lines))
    assert any(re.fullmatch(r"wall, s +200\.0 +50\.0", line) for line in lines), done.stdout
    assert "no stage computes for 12.5 s of the flow's run, 25.0 % of it" in done.stdout


def test_rounds_that_cannot_be_compared_are_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    unlike = save(
        tmp_path / "unlike.json",
        saved_round("script", 100.0),
        saved_round("flow", 50.0, iteration_3=99),
    )
    # The machine's entry differs, since that of a real round has more fields.
    others = save(tmp_path / "others.json", saved_round("script", 100.0))
    for path, rounds, message in (
        (unlike, "0", "error: the sides have not done the same work: iteration_3 has"),
        (others, "1", f"error: {others} was measured with another machine:"),
        (tmp_path / "none.json", "0", "error: nothing was measured; expected"),
    ):
        given = ("--rounds", rounds, "--save", path)
        done = benchmark("run.py", *given, environment=environment, folder=tmp_path)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("full")
def test_start_up_is_timed(environment: dict[str, str], tmp_path: Path) -> None:
    done = benchmark(
        "startup.py", "--rounds", "1", environment=environment, folder=tmp_path, size=()
    )
    # Times depend on the machine; this test only checks that they are measured.
    assert done.returncode in (0, 1), done.stderr
    assert not done.stderr
    columns = first_columns(done.stdout.splitlines())
    assert {"--help", "plan", "results"} <= set(columns)
    assert sum(name.startswith("run, all cached") for name in columns) == 2


@pytest.mark.usefixtures("full")
def test_growth_has_a_slope_for_each_stage(environment: dict[str, str], tmp_path: Path) -> None:
    sizes = ("--images", "240", "360", "480")
    stages = ("--only", "load", "subset", "guard", "preprocess")
    done = benchmark("growth.py", *stages, environment=environment, folder=tmp_path, size=sizes)
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("then, for")[2].splitlines()[2:]
    assert [line.split()[0] for line in table] == [
        "load",
        "explore",
        "subset",
        "guard",
        "look",
        "preprocess",
    ]
    # Peaks and seconds for three numbers of images, then five columns about growth.
    assert all(len(line.split()) == 1 + 2 * 3 + 5 for line in table)
