"""A run with an own network: killed, edited and resumed; elsewhere, on Dask; compared."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from tasks.core.records import Record
from tasks.storage.run_log import all_runs
from tasks.storage.store import Store
from tests.own_nets import BLOCKS, NETS, written
from tests.processes import Command, Server, Start, latest_run

SETTINGS = (
    "--preset", "smoke", "--set", "plan=[]", "--transfer-weights", "off",
    "--set", "overfitting.network.options.width=6", "--set", "overfitting.network.views=flips",
    "--set", "overfitting.epochs=4", "--only", "overfitting",
)  # fmt: skip


def overfitting(store: Path) -> Record:
    record = latest_run(store).record("overfitting")
    assert record is not None
    return record


@pytest.mark.usefixtures("tensorflow_ready")
def test_it_resumes_to_the_bytes_that_another_machine_s_workers_compute(
    start: Start, fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    url = {"PREFECT_API_URL": shared_server.url}
    function = f"overfitting.network.function={written(tmp_path / 'here')}"
    command = ("run", *SETTINGS, "--set", function, "--store", store)
    process = start(*command, "--verbose", **url)
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(r"overfitting .*epoch 2/4", line):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # A comment is no other code.
    written(tmp_path / "here", f"# a comment\n{NETS}", BLOCKS)
    done = fashion_flow(*command, **url)
    assert done.status == 0, done.err
    (end,) = [line for line in latest_run(store).stages() if line["stage"] == "overfitting"]
    assert end["resumed_after"] >= 1

    elsewhere = f"overfitting.network.function={written(tmp_path / 'there')}"
    done = fashion_flow(
        "run", *SETTINGS, "--set", elsewhere, "--store", other, "--runner", "dask", **url
    )
    assert done.status == 0, done.err
    one, two = overfitting(store), overfitting(other)
    assert one.key == two.key
    assert one.files == two.files

    # Plain Keras predicts what was stored; edits are named, runs compared.
    import keras

    model = keras.models.load_model(str(store / one.files["model"].path), safe_mode=True)
    arrays = all_runs(Store(str(store)))[-1].record("preprocess")
    assert arrays is not None
    with np.load(store / arrays.files["validation"].path) as validation:
        found = model.predict(validation["x"].astype("float32") / 255, verbose=0)
    stored = Store(str(store)).table(one, "validation_predictions")
    assert (found.argmax(axis=1) == stored["predicted"].to_numpy()).all()
    written(tmp_path / "here", NETS, BLOCKS.replace("0.8", "0.7"))
    planned = fashion_flow("plan", *command[1:])
    assert "your code of blocks changed" in planned.out
    assert re.search(r"nets\.py:build has code [0-9a-f]{12} \(blocks\.py, nets\.py\)", planned.out)


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        (
            "def build(input_shape, classes): return 3",
            "build returned int instead of a keras.Model",
        ),
        ("def build(input_shape, classes):\n    raise ValueError('no')", "nets.py, line 2: Value"),
    ],
)
def test_a_wrong_function_is_one_message(
    nets: str, message: str, fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    function = f"overfitting.network.function={written(tmp_path, nets)}"
    done = fashion_flow(
        "run", "--preset", "smoke", "--set", "plan=[]", "--transfer-weights", "off",
        "--only", "overfitting", "--set", function, "--store", tmp_path / "store",
        PREFECT_API_URL=shared_server.url,
    )  # fmt: skip
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err
