"""A user's mistake gives one clear message, exit status 2, and nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.processes import Command, Server, latest_run

MISTAKES = {
    "unknown preset": (["--preset", "huge"], "huge"),
    "unknown setting": (["--set", "overfitting.epoch=3"], "overfitting.epoch: no such setting"),
    "out of range": (["--set", "overfitting.dropout=1.5"], "overfitting.dropout"),
    "wrong type": (["--set", "baseline.epochs=many"], "baseline.epochs"),
    "no value": (["--set", "baseline.epochs"], "expected name=value"),
    "no such data set": (["--dataset", "nowhere.npz"], "nowhere.npz"),
    "no such plan": (["--plan", "plan.toml"], "plan.toml"),
    "no such weights": (["--vgg16-weights", "weights.h5"], "weights.h5"),
    "folder without images": (["--dataset", "."], "expected a folder with a folder of pictures"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_arguments_are_refused_before_anything_starts(
    mistake: str, fashion_flow: Command, tmp_path: Path
) -> None:
    arguments, named = MISTAKES[mistake]
    done = fashion_flow("run", *arguments, "--store", tmp_path / "store")
    assert done.status == 2, done.err
    assert named in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "store" / "stages").exists()


def write_archive(path: Path, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x_train": rng.integers(0, 256, (60, 12, 12), np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": rng.integers(0, 256, (30, 12, 12), np.uint8),
        "y_test": np.arange(30) % 3,
    }
    arrays |= changes
    np.savez(path, **arrays)
    return path


BAD_DATA: dict[str, tuple[dict[str, Any], str]] = {
    # tests/tasks/sources/test_datasets.py has more faults of data sets.
    "label outside": ({"class_names": np.array(["a", "b"])}, "has no class"),
    "class missing": ({"y_test": np.zeros(30, int)}, "has none of class"),
}


@pytest.mark.parametrize("fault", BAD_DATA)
def test_bad_data_are_refused_by_the_run(
    fault: str, fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    changes, named = BAD_DATA[fault]
    archive = write_archive(tmp_path / "data.npz", **changes)
    store = tmp_path / "store"
    url = shared_server.url
    done = fashion_flow("run", "--dataset", archive, "--store", store, PREFECT_API_URL=url)
    assert done.status == 2, done.err
    assert named in done.err
    assert "Traceback" not in done.err
    assert latest_run(store).status() == "failed"
    assert not list((store / "stages" / "load").rglob("record.json"))
    assert not list(store.rglob(".part-*"))


def test_the_users_own_data_set_runs(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "data.npz", class_names=np.array(["hat", "glove", "scarf"]))
    sizes = ("subset.train=40", "subset.validation=20", "subset.test=30", "plan=[]")
    tiny = ("overfitting.padding=same", "overfitting.epochs=1", "low_capacity.epochs=1")
    settings = [part for value in (*sizes, *tiny) for part in ("--set", value)]
    store = tmp_path / "store"
    done = fashion_flow(
        "run", "--dataset", archive, *settings, "--transfer-weights", "off", "--store", store,
        PREFECT_API_URL=shared_server.url,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "scarf" in latest_run(store).report.read_text()


def test_a_read_only_store_is_named(fashion_flow: Command, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        blocked = Path("/proc/store")
    else:
        blocked = tmp_path / "closed" / "store"
        blocked.parent.mkdir(mode=0o500)
    done = fashion_flow("run", "--preset", "smoke", "--store", blocked)
    assert done.status == 1
    assert "Traceback" not in done.err
    assert str(blocked) in done.err
