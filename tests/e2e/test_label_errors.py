"""Labels that were made wrong are found by a run with folds, shown in its report and printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.processes import Command, Server, latest_run

WRONG = 15
NETWORK = (
    *("--set", "overfitting.filters=[]", "--set", "overfitting.kernel_sizes=[]"),
    *("--set", "overfitting.pooled=[]", "--set", "overfitting.dense=[64]"),
    *("--set", "overfitting.epochs=12", "--set", "low_capacity.epochs=1"),
    *("--set", "baseline.epochs=1", "--set", "plan=[]", "--transfer-weights", "off"),
)


def corners(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images `(count, 12, 12)` of noise, brighter in one of four corners, which is the class."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 128, (count, 12, 12)).astype(np.uint8)
    labels = rng.permutation(np.arange(count) % 4)
    for image, label in zip(images, labels, strict=True):
        down, right = divmod(int(label), 2)
        image[6 * down : 6 * down + 6, 6 * right : 6 * right + 6] += 100
    return images, labels


def test_wrong_labels_are_the_first_suspects(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    images, labels = corners(360)
    given = labels.copy()
    given[:WRONG] = (given[:WRONG] + 1 + np.arange(WRONG) % 3) % 4
    np.savez(
        tmp_path / "own.npz", x_train=images[:300], y_train=given[:300], x_test=images[300:],
        y_test=given[300:],
    )  # fmt: skip
    store = tmp_path / "store"
    folds = ("--protocol", "kfold", "--set", "evaluation.folds=3")
    own = ("--preset", "smoke", "--dataset", tmp_path / "own.npz", "--store", store)
    every = ("--set", "subset.method=everything")
    url = shared_server.url
    done = fashion_flow("run", *own, *every, *NETWORK, *folds, PREFECT_API_URL=url)
    assert done.status == 0, done.err

    run = latest_run(store)
    record, chosen_splits = run.record("label_check"), run.record("subset")
    assert record is not None
    assert chosen_splits is not None
    rows = pq.read_table(store / record.files["label_errors"].path).to_pylist()
    found = [int(row["origin"].partition("[")[2].removesuffix("]")) for row in rows[:WRONG]]
    assert len(set(found) & set(range(WRONG))) >= WRONG - 1, "by chance, it would be none or one"
    names = ("train", "validation")
    split = {name: np.load(store / chosen_splits.files[name].path)["images"] for name in names}
    for row, number in zip(rows[:WRONG], found, strict=True):
        image = split[row["split"]][row["position"]]
        assert image.tobytes() == images[number].tobytes(), "the image is where the table says"
        assert number >= WRONG or row["suggested"] == str(labels[number])

    page = run.report.read_text()
    assert "Probable label errors" in page
    assert "suspects" in page
    printed = fashion_flow("labels", "--store", store, "--json")
    assert json.loads(printed.out) == rows
