"""Accuracies against seconds and the study of metrics, at sizes too small to measure anything."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.settings.evaluation import Metric
from tasks.core.statistics.evidence import Scored, gain
from tests.support import encode_idx

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the folder `benchmarks`."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in the files of Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("idx")
    rng = np.random.default_rng(0)
    for name, count in (("train", 150), ("t10k", 30)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(encode_idx(images))
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    return folder


def run(
    script: str, *arguments: str | Path, environment: dict[str, str], data: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *arguments],
        env=environment | {"FASHION_MNIST_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )


def made_row(module: Any, **fields: Any) -> Any:
    known = {
        "program": "Keras",
        "recipe": "convnet",
        "epochs": 3,
        "images": 10_000,
        "seed": 0,
        "budget": 60,
        "version": "1",
        "accuracy": 90.0,
        "seconds": 50.0,
        "parameters": 1_000,
        "speed": 100.0,
        "cores": 2,
    }
    return module("accuracy_rows").Row(**known | fields)


def test_rows_are_read_again_and_one_that_was_cut_off_is_written_again(
    module: Any, tmp_path: Path
) -> None:
    rows = module("accuracy_rows")
    path, first, second = (tmp_path / "rows.jsonl", *(made_row(module, seed=n) for n in (1, 2)))
    assert list(rows.rows(path)) == []
    rows.append(path, first)
    rows.append(path, second)
    assert list(rows.rows(path)) == [first, second]
    path.write_text(path.read_text()[:-20])
    assert list(rows.rows(path)) == [first]
    rows.append(path, second)
    assert list(rows.rows(path)) == [first, second]
    assert first.training != second.training
    assert first.training == replace(first, accuracy=1.0, seconds=2.0).training
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(SystemExit, match="line 1 is not a row"):
        list(rows.rows(path))


def test_points_are_means_over_seeds_of_the_rows_that_have_seconds(module: Any) -> None:
    found = [
        made_row(module, seed=0, accuracy=80.0),
        made_row(module, seed=0, accuracy=90.0, version="2"),
        made_row(module, seed=1, accuracy=91.0, seconds=70.0),
        made_row(module, seed=2, accuracy=10.0, seconds=None),
        made_row(module, seed=3, accuracy=10.0, images=60_000),
        made_row(module, epochs=9, budget=300, seconds=200.0, accuracy=92.0),
        made_row(module, program="scikit-learn SVM", parameters=None, budget=None),
    ]
    plot = module("accuracy_plot")
    points = plot.points(found, 10_000)
    assert [(p.program, p.seconds, p.accuracy, p.low, p.high, p.seeds) for p in points] == [
        ("Keras", 60.0, 90.5, 90.0, 91.0, 2),
        ("Keras", 200.0, 92.0, 92.0, 92.0, 1),
        ("scikit-learn SVM", 50.0, 90.0, 90.0, 90.0, 1),
    ]


def test_the_plot_is_drawn_and_its_figures_are_printed(
    module: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    rows, path = module("accuracy_rows"), tmp_path / "rows.jsonl"
    for program, accuracy in (("fashion-flow", 91.5), ("Keras", 91.4), ("fastai", 88.0)):
        rows.append(path, made_row(module, program=program, accuracy=accuracy))
    out = tmp_path / "plot.png"
    done = run("accuracy_plot.py", path, "--out", out, environment=environment, data=tmp_path)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "| fashion-flow | convnet | 1,000 | 1 | 50 | 91.50 | 91.50, 91.50 | 100 |" in done.stdout
    done = run(
        "accuracy_plot.py", tmp_path / "none", "--out", out, environment=environment, data=tmp_path
    )
    assert done.returncode == 2
    assert "no row with 10,000 images" in done.stderr


def test_training_images_are_the_slices_that_the_flow_trains_on(module: Any) -> None:
    assert module("fashion").chosen(10, 60).tolist() == [*range(8), 58, 59]


def test_plain_keras_is_measured_once_for_each_seed(
    environment: dict[str, str], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    given = ("keras", "--images", "40", "--epochs", "1", "--budgets", "60", "--out", out)
    done = run("peers.py", *given, "--seeds", "1", environment=environment, data=data)
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["program"] == "Keras"
    assert (row["images"], row["epochs"], row["seed"], row["budget"]) == (40, 1, 0, None)
    assert row["seconds"] > 0
    assert 0 <= row["accuracy"] <= 100
    before = out.read_bytes()
    done = run("peers.py", *given, "--seeds", "1", environment=environment, data=data)
    assert done.returncode == 0, done.stderr
    assert f"{row['seconds']:.1f} s" in done.stdout
    assert out.read_bytes() == before, "what is known is not measured again"


def scored(correct: np.ndarray, loss: np.ndarray) -> Scored:
    return Scored(np.zeros(len(loss), np.int64), correct, loss)


def trained(rng: np.random.Generator, count: int, better: float) -> list[Scored]:
    """Scores of trainings on the same 200 images."""
    image = rng.normal(size=200)
    losses = [np.exp(image + rng.normal(size=200) - better) for _ in range(count)]
    return [scored(loss < 1, loss) for loss in losses]


def test_gates_find_a_gain_by_the_metric_that_has_it(module: Any) -> None:
    power = module("metric_power")
    before = trained(np.random.default_rng(0), 6, 0.0)
    surer = [scored(one.correct, one.loss / 2 * (1 + 0.01 * k)) for k, one in enumerate(before)]
    for seeds in (1, 3):
        found = power.shares(before, before[::-1], seeds, 100, 20)
        assert max(found.values()) < 0.5
    better = trained(np.random.default_rng(0), 6, 1.0)
    assert power.shares(before, better, 3, 100, 20) == {"accuracy": 1.0, "log_loss": 1.0}
    assert power.shares(better, before, 3, 100, 20) == {"accuracy": 0.0, "log_loss": 0.0}
    assert power.shares(before, surer, 1, 100, 20) == {"accuracy": 0.0, "log_loss": 1.0}


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_p_values_are_those_of_gates(module: Any, metric: Metric, seeds: int) -> None:
    power = module("metric_power")
    rng = np.random.default_rng(seeds)
    pairs = [(trained(rng, seeds, 0.0), trained(rng, seeds, size)) for size in (-0.1, 0.0, 0.2)]
    found = power.p_values(metric, [power.differences(metric, *pair) for pair in pairs])
    expected = [gain(metric, *pair, None).p_value for pair in pairs]
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_study_of_metrics_resumes_from_its_predictions(
    environment: dict[str, str], data: Path, tmp_path: Path
) -> None:
    sizes = ("--train-images", "40", "--held-out", "60", "--replicates", "2", "--epochs", "1")
    changes = ("--changes", "views of both flips", "--workers", "1")
    gates = ("--images", "30", "--seeds", "1", "2", "--draws", "4")
    given = ("--store", tmp_path, *sizes, *changes, *gates)
    done = run("metric_power.py", *given, environment=environment, data=data)
    assert done.returncode == 0, done.stderr
    assert "6 trainings; to be done: 6" in done.stdout
    rows = [line for line in done.stdout.splitlines() if "views of both flips |" in line]
    assert len(rows) == 2
    assert rows[0].count("(") == 2, "both gains have an interval"
    again = run("metric_power.py", *given, environment=environment, data=data)
    assert "6 trainings; to be done: 0" in again.stdout
    assert again.stdout.partition("\n\n")[2] == done.stdout.partition("\n\n")[2]
