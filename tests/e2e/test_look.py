"""`fashion-flow look` by the real command: the screen, the page, and what a later run finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.core.data.synthetic import draw_dataset
from tests.processes import DEAD_PROXY, Command, latest_run

# A server that does not exist: nothing asks for it.
NO_SERVER = {"PREFECT_API_URL": "http://127.0.0.1:9/api", **DEAD_PROXY}


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Drawn images: the test images transposed, two training images with two labels."""
    drawn = draw_dataset(360, 120, 0)
    images = np.concatenate([drawn.train.images, drawn.train.images[:2]])
    labels = np.concatenate([drawn.train.labels, (drawn.train.labels[:2] + 1) % 10])
    path = tmp_path / "planted.npz"
    np.savez(
        path,
        allow_pickle=False,
        x_train=images,
        y_train=labels,
        x_test=drawn.test.images.swapaxes(1, 2),
        y_test=drawn.test.labels,
    )
    return path


def test_faults_are_shown_on_the_screen_and_on_a_page_without_a_server(
    planted: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    done = fashion_flow("look", planted, "--store", store, **NO_SERVER)
    assert done.status == 0, done.err
    assert done.out.startswith("planted.npz: 482 images of 10 classes\n")
    assert "fault: 2 images occur with different labels" in done.out
    assert "fault: The test images are transposed (rows and columns exchanged)" in done.out
    page = Path(done.out.splitlines()[-1].removeprefix("page: "))
    text = page.read_text()
    assert "The test images are transposed" in text
    assert "x_train[361]" in text
    assert text.count("data:image/png") == 3
    assert not {"<script", "http:", "https:", "<link"} & {*text.split()}
    run = latest_run(store)
    assert {entry["stage"]: entry["state"] for entry in run.stages()} == {
        "load": "completed",
        "subset": "completed",
        "guard": "completed",
        "look": "completed",
    }
    assert run.read()["status"] == "done"
    again = fashion_flow("look", "--dataset", planted, "--json", "--store", store, **NO_SERVER)
    assert again.status == 0, again.err
    found = json.loads(again.out)
    assert [row["kind"] for row in found["findings"]] == ["two_labels", "changed_split"]
    assert found["images"] == 482
    assert {entry["state"] for entry in latest_run(store).stages()} == {"cached"}
    plan = fashion_flow("plan", "--dataset", planted, "--store", store)
    states = dict(line.split()[:2] for line in plan.out.splitlines() if "cached" in line)
    assert {"load", "subset", "guard", "look"} <= states.keys()


def test_what_can_not_be_used_is_refused_in_a_sentence(
    fashion_flow: Command, tmp_path: Path
) -> None:
    drawn = draw_dataset(40, 20, 0)
    labels = np.where(drawn.train.labels == 4, 5, drawn.train.labels)
    labels[0] = 4
    path = tmp_path / "rare.npz"
    np.savez(path, allow_pickle=False, x=drawn.train.images, y=labels)
    done = fashion_flow("look", path, "--store", tmp_path / "store", **NO_SERVER)
    assert done.status == 2
    assert "none of class '4' (4); add images (the smallest class has 1)" in " ".join(
        done.err.split()
    )
    assert "Traceback" not in done.err
    twice = fashion_flow("look", path, "--dataset", path)
    assert twice.status == 2
    assert "given twice" in twice.err
    missing = fashion_flow("look", tmp_path / "nothing")
    assert missing.status == 2
    assert "no such path" in " ".join(missing.err.split())
