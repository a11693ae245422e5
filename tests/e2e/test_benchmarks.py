"""The benchmarks of transfer run to their end at a size that measures nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--train", "40", "--validation", "20", "--test", "20", "--epochs", "1")


def benchmark(
    name: str, *arguments: str | Path, environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *TINY, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_two_ways_are_timed_and_the_last_line_is_the_ratio(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = benchmark("transfer.py", environment=environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for part in ("(features)", "frozen base", "fine-tuned", "in all"):
        assert sum(line.startswith(part) for line in lines) == 1, done.stdout
    assert re.fullmatch(r"ratio \d+\.\d", lines[-1])
    assert list(tmp_path.iterdir()) == [], "its store is gone"


@pytest.mark.usefixtures("full")
def test_accuracies_are_compared_and_the_test_split_opened_for_few(
    environment: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    grid = ("--sides", "32", "--weights", "random", "--store", store)
    done = benchmark("transfer_accuracy.py", *grid, environment=environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("vgg16_frozen_corrected ") for line in lines) == 2
    assert sum(line.startswith("test accuracy of ") for line in lines) == 3
    assert len((store / "test_scorings.jsonl").read_text().splitlines()) == 3


def test_without_weights_nothing_is_measured(environment: dict[str, str], tmp_path: Path) -> None:
    given = ("--weights", tmp_path / "none.h5", "--store", tmp_path / "store")
    done = benchmark("transfer_accuracy.py", *given, environment=environment, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "none.h5" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
