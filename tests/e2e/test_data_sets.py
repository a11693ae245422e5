"""Runs without a network, and on the real images where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tests.processes import DEAD_PROXY, Command, Server, latest_run

# The notebook's preset, cut down to what shows how data sets are chosen.
QUICK = [
    part
    for value in (
        "subset.train=600", "subset.validation=200", "subset.test=200", "plan=[]",
        "synthetic.train=1000", "synthetic.test=300", "baseline.epochs=1", "low_capacity.epochs=1",
        "overfitting.epochs=1",
    )
    for part in ("--set", value)
]  # fmt: skip


@pytest.fixture(scope="module")
def offline_store(
    fashion_flow: Command, shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store after a run with neither a network nor data."""
    store = tmp_path_factory.mktemp("offline") / "store"
    address = {"PREFECT_API_URL": shared_server.url}
    done = fashion_flow("run", *QUICK, "--store", store, **DEAD_PROXY, **address)
    assert done.status == 0, done.err
    assert done.err.count("SYNTHETIC DATA") == 2, "said before and after the run"
    assert "VGG16 skipped" in done.out
    assert "--vgg16-weights FILE" in done.out
    return store


def test_without_data_and_network_a_run_draws_its_images_and_says_so(offline_store: Path) -> None:
    run = latest_run(offline_store)
    assert run.read()["settings"]["dataset"] == "synthetic"
    page = run.report.read_text()
    assert "SYNTHETIC DATA" in page
    assert "--vgg16-weights FILE" in page


def test_the_transfer_branch_is_skipped_and_all_else_is_there(
    offline_store: Path, fashion_flow: Command
) -> None:
    states = {entry["stage"]: entry["state"] for entry in latest_run(offline_store).stages()}
    skipped = {stage for stage, state in states.items() if state == "skipped"}
    assert skipped == {
        "vgg16_weights", "vgg16_block4", "vgg16_block5", "vgg16_frozen", "vgg16_fine_tuned",
        "vgg16_block4_corrected", "vgg16_block5_corrected", "vgg16_frozen_corrected",
        "vgg16_fine_tuned_corrected", "test_vgg16_frozen_corrected",
        "test_vgg16_fine_tuned_corrected",
        "test_vgg16_frozen", "test_vgg16_fine_tuned",
        "curves_vgg16_frozen", "curves_vgg16_fine_tuned",
        "curves_vgg16_frozen_corrected", "curves_vgg16_fine_tuned_corrected",
    }  # fmt: skip
    rows = json.loads(fashion_flow("results", "--json", "--store", offline_store).out)
    models = ["commonest_class", "baseline", "low_capacity", "overfitting", "final"]
    assert [row["name"] for row in rows] == models


def test_fashion_mnist_asked_for_by_name_is_never_replaced(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    address = {"PREFECT_API_URL": shared_server.url}
    done = fashion_flow(
        "run", *QUICK, "--dataset", "fashion-mnist", "--store", tmp_path, **DEAD_PROXY, **address
    )
    assert done.status == 1
    assert "could not be downloaded" in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("record.json"))


def test_weights_that_are_required_and_missing_fail_the_run(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    address = {"PREFECT_API_URL": shared_server.url}
    required = ("--dataset", "synthetic", "--transfer-weights", "required", "--store", tmp_path)
    done = fashion_flow("run", *QUICK, *required, **DEAD_PROXY, **address)
    assert done.status == 1
    assert "--vgg16-weights FILE" in done.err


@pytest.mark.skipif(
    "FASHION_MNIST_DIR" not in os.environ, reason="FASHION_MNIST_DIR does not name the real files"
)
def test_the_real_images_stand_beside_the_notebooks_figures(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    done = fashion_flow(
        "run", *QUICK, "--transfer-weights", "off", "--store", tmp_path,
        PREFECT_API_URL=shared_server.url, FASHION_MNIST_DIR=os.environ["FASHION_MNIST_DIR"],
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "SYNTHETIC" not in done.err
    _, *rows = json.loads(fashion_flow("results", "--json", "--store", tmp_path).out)
    # The overfitting model is smaller than the notebook's, so it is not compared.
    compared = {row["name"]: row["notebook_test_accuracy"] for row in rows}
    for name in ("baseline", "low_capacity", "final"):
        assert compared.pop(name) == NOTEBOOK_RESULTS[name].test_accuracy
    assert set(compared.values()) == {None}
    assert rows[0]["name"] == "baseline"
    assert rows[0]["test_accuracy"] > 0.3, "one epoch suffices to be well above guessing"
    assert "SYNTHETIC DATA" not in latest_run(tmp_path).report.read_text()
