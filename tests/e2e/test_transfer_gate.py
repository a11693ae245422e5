"""A run in which transfer wins the last gate: its final model is VGG16, and works like others."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.core.networks.vgg16_layout import layer_shapes, random_weights
from tasks.storage.store import Store
from tests.processes import ONE_CHANGE, SMALL, Command, Finished, Server, latest_run

OFF = SMALL.index("--transfer-weights")
GATED = (
    *SMALL[:OFF], *SMALL[OFF + 2 :],
    "--rule", "validation", "--force", "2=forward",
    "--set", "transfer.variant=corrected", "--set", "transfer.corrected.features=block3_pool",
    "--set", "transfer.corrected.epochs=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """The options of the run, with a file of weights and a plan of one change."""
    folder = tmp_path_factory.mktemp("gated")
    weights = random_weights(0)
    with h5py.File(folder / "vgg16.weights.h5", "w") as file:
        for layer in layer_shapes():
            values = file.create_group(f"layers/{layer}/vars")
            for number, name in enumerate(("kernel", "bias")):
                values[str(number)] = weights[f"{layer}/{name}"]
    (folder / "plan.toml").write_text(ONE_CHANGE)
    place = ("--vgg16-weights", folder / "vgg16.weights.h5", "--store", folder / "store")
    return (*GATED, "--plan", folder / "plan.toml", *place)


@pytest.fixture(scope="module")
def store(command: tuple[str | Path, ...]) -> Path:
    return Path(command[-1])


@pytest.fixture(scope="module")
def done(command: tuple[str | Path, ...], fashion_flow: Command, shared_server: Server) -> Finished:
    finished = fashion_flow("run", *command, PREFECT_API_URL=shared_server.url)
    assert finished.status == 0, finished.err
    return finished


def test_the_run_says_what_the_last_gate_decided(
    done: Finished, store: Path, fashion_flow: Command
) -> None:
    said = "transfer learning: the last gate kept it, so the final model is VGG16, trained again."
    assert said in done.out
    shown = fashion_flow("verdicts", "--store", store)
    assert said in shown.out
    assert "2 transfer learning" in shown.out
    assert "FORCED forward" in shown.out
    first, last = json.loads(fashion_flow("verdicts", "--json", "--store", store).out)
    assert (first["gate"], last["gate"]) == (1, 2)
    assert last["candidate"] == "vgg16_fine_tuned_corrected"
    assert {first["level"], last["level"]} == {0.025}
    rows = json.loads(fashion_flow("results", "--json", "--store", store).out)
    by_name = {row["name"]: row for row in rows}
    assert by_name["vgg16_fine_tuned_corrected"]["state"] == "ForcedForward"
    assert by_name["final"]["params"] == by_name["vgg16_fine_tuned_corrected"]["params"]
    assert by_name["final"]["train_samples"] == 210
    page = latest_run(store).report.read_text()
    assert "Gate 2 (transfer learning) was forced\nforward by hand" in page


def test_predictions_are_those_that_were_scored(
    done: Finished, store: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    assert done.status == 0
    run = latest_run(store)
    test, split = run.record("test_final"), run.record("subset")
    assert test
    assert split
    stored = Store(str(store)).table(test, "test_predictions")
    folder = store / "runs" / run.run_id / "model"
    assert {path.name for path in folder.iterdir()} == {
        "model.keras", "fashion_mnist_final.h5", "usage.json", "README.md",
    }  # fmt: skip
    for name, model in (
        ("run.parquet", ()),
        ("h5.parquet", ("--model", folder / "fashion_mnist_final.h5")),
    ):
        images, out = store / split.files["test"].path, tmp_path / name
        found = fashion_flow("predict", images, *model, "--out", out, "--store", store)
        assert found.status == 0, found.err
        table = pq.read_table(out)
        assert table.num_rows == stored.num_rows == 60
        for index in range(10):
            ours, scored = table[f"p_{index}"].to_numpy(), stored[f"p{index}"].to_numpy()
            assert np.array_equal(ours, scored), name


@pytest.mark.usefixtures("tensorflow_ready")
def test_the_code_in_the_model_card_gives_these_predictions(done: Finished, store: Path) -> None:
    assert done.status == 0
    run = latest_run(store)
    folder = store / "runs" / run.run_id / "model"
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    test, split = run.record("test_final"), run.record("subset")
    assert test
    assert split
    images = np.load(store / split.files["test"].path, allow_pickle=False)["images"][:8]
    begin, end = "images = np.zeros(", "# your images"
    line = code[code.index(begin) : code.index(end)]
    names = {"given": images}
    exec(
        code.replace(line, "images = given  ").replace('Path(".")', f"Path({str(folder)!r})"), names
    )
    stored = Store(str(store)).table(test, "test_predictions")
    scored = np.stack([stored[f"p{index}"].to_numpy()[:8] for index in range(10)], axis=1)
    np.testing.assert_allclose(names["probabilities"], scored, rtol=0, atol=1e-5)


def test_a_plan_knows_that_everything_is_there(
    done: Finished, command: tuple[str | Path, ...], fashion_flow: Command
) -> None:
    assert done.status == 0
    planned = fashion_flow("plan", *command)
    assert "open" not in planned.out
    assert "will run" not in planned.out
    assert "gate_transfer" in planned.out
