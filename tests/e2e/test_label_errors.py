"""Labels that were made wrong are found by a run with folds, shown in its report and printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tasks.core.data.synthetic import draw_dataset
from tests.processes import Command, Server, latest_run

WRONG = 15
NETWORK = (
    *("--set", "overfitting.filters=[]", "--set", "overfitting.kernel_sizes=[]"),
    *("--set", "overfitting.pooled=[]", "--set", "overfitting.dense=[64]"),
    *("--set", "overfitting.epochs=12", "--set", "low_capacity.epochs=1"),
    *("--set", "baseline.epochs=1", "--set", "plan=[]", "--transfer-weights", "off"),
)


def test_wrong_labels_are_the_first_suspects(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    drawn = draw_dataset(600, 60, seed=0)
    labels = drawn.train.labels.astype(np.int64)
    chosen = np.random.default_rng(0).permutation(len(labels))[:WRONG]
    labels[chosen] = (labels[chosen] + 3) % 10
    np.savez(
        tmp_path / "own.npz",
        x_train=drawn.train.images,
        y_train=labels,
        x_test=drawn.test.images,
        y_test=drawn.test.labels,
    )
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
    images = {drawn.train.images[at].tobytes() for at in chosen}
    names = ("train", "validation")
    split = {name: np.load(store / chosen_splits.files[name].path)["images"] for name in names}
    rows = pq.read_table(store / record.files["label_errors"].path).to_pylist()
    first = [split[row["split"]][row["position"]].tobytes() for row in rows[:WRONG]]
    assert len(images & set(first)) >= 8, "by chance, it would be none or one of 15"
    assert all(row["origin"] for row in rows)
    # Where the image comes from is where it was put.
    numbers = [int("".join(filter(str.isdigit, row["origin"]))) for row in rows[:WRONG]]
    assert [drawn.train.images[at].tobytes() for at in numbers] == first

    page = run.report.read_text()
    assert "Probable label errors" in page
    assert "suspects" in page
    printed = fashion_flow("labels", "--store", store, "--json")
    assert json.loads(printed.out) == rows
