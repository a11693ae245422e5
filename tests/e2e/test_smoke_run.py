"""The whole workflow at its smallest, run, run again, changed and damaged."""

from __future__ import annotations

import html
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.recipe.contents import recipe_models, stage_names
from flows.recipe.presets import SMOKE
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tests.processes import DEAD_PROXY, Command, Finished, Server, latest_run
from tests.support import on_disk

RESULT_COLUMNS = [
    "name", "step", "params", "epochs", "batch_size", "train_samples", "trainings", "train_loss",
    "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
    "val_loss_sd", "val_accuracy_sd", "val_accuracy_low", "val_accuracy_high",
    "val_balanced_accuracy", "val_balanced_accuracy_low", "val_balanced_accuracy_high",
    "val_log_loss", "val_log_loss_low", "val_log_loss_high", "test_loss_sd",
    "test_accuracy_sd", "test_accuracy_low", "test_accuracy_high",
    "test_balanced_accuracy", "test_balanced_accuracy_low", "test_balanced_accuracy_high",
    "test_log_loss", "test_log_loss_low", "test_log_loss_high", "decision", "state", "reason",
    "notebook_test_loss", "notebook_test_accuracy",
]  # fmt: skip


@pytest.fixture(scope="module")
def smoke(fashion_flow: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store after one smoke run with a temporary Prefect server, behind a proxy."""
    store = tmp_path_factory.mktemp("smoke") / "store"
    done = fashion_flow("run", "--preset", "smoke", "--store", store, **DEAD_PROXY)
    assert done.status == 0, done.err
    return store


def states(store: Path) -> dict[str, str]:
    return {entry["stage"]: entry["state"] for entry in latest_run(store).stages()}


def computed(store: Path) -> set[str]:
    return {stage for stage, state in states(store).items() if state == "completed"}


def result_rows(fashion_flow: Command, store: Path) -> list[dict[str, Any]]:
    shown = fashion_flow("results", "--json", "--store", store)
    assert shown.status == 0, shown.err
    rows: list[dict[str, Any]] = json.loads(shown.out)
    return rows


TRANSFER_STEPS = (("frozen", "3d"), ("fine_tuned", "3e"))


def test_every_stage_of_the_notebook_runs_once(smoke: Path) -> None:
    assert states(smoke) == dict.fromkeys(stage_names(SMOKE), "completed")


def test_the_table_has_a_row_for_each_of_the_notebooks_models(
    smoke: Path, fashion_flow: Command
) -> None:
    rows = result_rows(fashion_flow, smoke)
    corrected = {f"vgg16_{name}_corrected": step for name, step in TRANSFER_STEPS}
    steps = (
        {"commonest_class": "5"}
        | {name: reported.step for name, reported in NOTEBOOK_RESULTS.items()}
        | corrected
    )
    assert {row["name"]: row["step"] for row in rows} == steps
    assert [row["name"] for row in rows] == list(steps)
    assert all(list(row) == RESULT_COLUMNS for row in rows)
    final = next(row for row in rows if row["name"] == "final")
    assert final["val_loss"] is None
    assert final["val_accuracy"] is None
    assert final["train_samples"] == 400 + 200
    for row in rows:
        assert row["notebook_test_accuracy"] is None, "synthetic images have no notebook figures"
        assert 0 <= row["test_accuracy"] <= 1
        assert (row["decision"] is None) == (not row["name"].startswith("iteration"))
        assert ("random weights" in (row["reason"] or "")) == row["name"].startswith("vgg16")


def better(candidate: dict[str, Any], incumbent: dict[str, Any]) -> bool:
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in (candidate, incumbent)]
    return bool(scores[0] > scores[1])


def test_the_notebook_s_decisions_are_replayed_beside_the_run_s_own_evidence(
    smoke: Path, fashion_flow: Command
) -> None:
    rows = {row["name"]: row for row in result_rows(fashion_flow, smoke)}
    shown = fashion_flow("verdicts", "--json", "--store", smoke)
    verdicts = json.loads(shown.out)
    assert [row["decision"] for row in verdicts] == [entry.replay for entry in SMOKE.plan]
    incumbent, otherwise = "overfitting", []
    for row, entry in zip(verdicts, SMOKE.plan, strict=True):
        assert (row["rule"], row["incumbent"]) == ("notebook", incumbent)
        own = "forward" if better(rows[row["candidate"]], rows[incumbent]) else "back"
        assert row["by_validation"] == own
        if own != row["decision"]:
            otherwise.append(f"{row['gate']} {entry.name} ({own})")
        incumbent = row["candidate"] if row["decision"] == "forward" else incumbent
    listed = f"{len(otherwise)} of 9 differently: {', '.join(otherwise)}."
    if not otherwise:
        listed = "none of 9 differently."
    said = f"The run's own evidence would decide {listed}"
    assert said in fashion_flow("verdicts", "--store", smoke).out
    report = on_disk(latest_run(smoke).report).read_text()
    assert said in html.unescape(report)


def test_verdicts_follow_from_validation_scores_if_they_are_asked_for(
    smoke: Path, fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    # Of the copy, so that the runs of other tests stay the latest.
    store = tmp_path / "store"
    shutil.copytree(smoke, store)
    anew = ("--preset", "smoke", "--rule", "validation", "--transfer-weights", "off")
    done = fashion_flow("run", *anew, "--store", store, PREFECT_API_URL=shared_server.url)
    assert done.status == 0, done.err
    assert "would decide" not in done.out
    rows = {row["name"]: row for row in result_rows(fashion_flow, store)}
    incumbent = rows["overfitting"]
    for number in range(1, 10):
        candidate = rows[f"iteration_{number}"]
        keep = better(candidate, incumbent)
        assert candidate["decision"] == ("forward" if keep else "back")
        incumbent = candidate if keep else incumbent


def test_nothing_stored_is_pickled(smoke: Path) -> None:
    archives = list(smoke.rglob("*.npz"))
    tables = list(smoke.rglob("*.parquet"))
    assert len(archives) >= 9
    assert len(tables) >= 30
    for path in archives:
        with np.load(path, allow_pickle=False) as archive:
            assert all(archive[name].dtype != object for name in archive.files)
    for path in tables:
        # There need not be images that are alike.
        # Nothing may have been found.
        assert pq.read_table(path).num_rows > 0 or path.parts[-3] in ("guard", "look")
    assert not [path for path in smoke.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]


def test_no_stray_temporary_files(smoke: Path) -> None:
    assert not list(smoke.rglob(".part-*"))


@pytest.mark.usefixtures("tensorflow_ready")
def test_the_final_model_needs_only_plain_keras_and_its_description(smoke: Path) -> None:
    import keras

    record = latest_run(smoke).record("final")
    assert record is not None
    folder = (smoke / record.files["model"].path).parent
    usage = json.loads((folder / "usage.json").read_text())
    with np.load(next((smoke / "stages" / "subset").glob("*/test.npz"))) as split:
        x = split["images"].astype("float32") / 255
    from_keras = keras.models.load_model(folder / usage["files"]["keras"])
    from_h5 = keras.models.load_model(folder / usage["files"]["hdf5"], compile=False)
    predictions = from_keras.predict(x, verbose=0)
    assert predictions.shape == (len(x), len(usage["class_names"]))
    np.testing.assert_array_equal(predictions, from_h5.predict(x, verbose=0))


class _Page(HTMLParser):
    """What a browser would fetch, and what a reader would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"src", "href"} if tag in ("img", "script", "link", "iframe") else set()
        self.fetched += [value or "" for name, value in attrs if name in wanted]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_page_that_says_the_data_are_synthetic(
    smoke: Path, fashion_flow: Command
) -> None:
    shown = fashion_flow("report", "--store", smoke)
    path = Path(shown.out.strip())
    assert shown.status == 0
    assert path == on_disk(latest_run(smoke).report)
    page = _Page(path.read_text())
    assert page.fetched
    assert all(address.startswith("data:") for address in page.fetched)
    assert "synthetic" in page.text.lower()
    assert "random weights" in page.text
    for heading in ("Step 1", "Step 2", "Step 3", "Step 4", "Step 5", "Step 6", "Step 7"):
        assert heading in page.text
    assert path.stat().st_size < 8_000_000


def test_each_model_was_scored_once_on_the_test_split(smoke: Path) -> None:
    lines = (smoke / "test_scorings.jsonl").read_text().splitlines()
    models = [model.name for model in recipe_models(SMOKE)]
    assert sorted(json.loads(line)["model"] for line in lines) == sorted(models)


def test_a_second_run_is_cached_and_imports_nothing_that_computes(
    smoke: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    for name in ("tensorflow", "keras", "scipy", "matplotlib"):
        trap = tmp_path / name / "__init__.py"
        trap.parent.mkdir()
        trap.write_text(f"raise RuntimeError('{name} was imported')\n")
    before = result_rows(fashion_flow, smoke)
    root = Path(__file__).resolve().parents[2]
    done = fashion_flow(
        "run", "--preset", "smoke", "--store", smoke, PYTHONPATH=f"{tmp_path}:{root}"
    )
    assert done.status == 0, done.err
    assert states(smoke) == dict.fromkeys(stage_names(SMOKE), "cached")
    assert result_rows(fashion_flow, smoke) == before
    assert latest_run(smoke).report.is_file()


def test_one_stages_settings_changed_run_it_and_its_dependents_only(
    smoke: Path, fashion_flow: Command, shared_server: Server
) -> None:
    changed = ("--preset", "smoke", "--set", "low_capacity.epochs=2", "--store", smoke)
    expected = {"low_capacity", "curves_low_capacity", "test_low_capacity"}
    expected |= {"results", "quality", "figures"}
    planned = fashion_flow("plan", *changed)
    lines = [line for line in planned.out.splitlines() if " cached " not in line]
    assert {line.split()[0] for line in lines if "training.epochs 3 \u2192 2" in line} == {
        "low_capacity"
    }
    assert {line.split()[0] for line in lines if " may run " in line} == expected - {"low_capacity"}
    done = fashion_flow("run", *changed, PREFECT_API_URL=shared_server.url)
    assert done.status == 0, done.err
    assert computed(smoke) == expected


def test_a_model_of_one_run_is_the_backbone_of_the_next_unless_it_saw_too_much(
    smoke: Path, fashion_flow: Command, shared_server: Server
) -> None:
    first = latest_run(smoke).run_id
    given = ["--preset", "smoke", "--only", "backbone_frozen", "--store", smoke]
    for setting in ("weights=imagenet", "variant=none", "backbone.epochs=1"):
        given += ["--set", f"transfer.{setting}"]

    def run(model: str) -> Finished:
        backbone = ("--backbone", f"run:{first}/{model}")
        return fashion_flow("run", *given, *backbone, PREFECT_API_URL=shared_server.url)

    refused = run("final")
    assert refused.status == 2
    assert "the model was trained on" in refused.err
    assert "backbone_frozen" not in states(smoke), "nothing is trained on it"
    done = run("overfitting")
    assert done.status == 0, done.err
    assert {name for name in computed(smoke) if name.startswith("backbone")} == {
        "backbone",
        "backbone_check",
        "backbone_features",
        "backbone_outputs",
        "backbone_frozen",
    }


@pytest.mark.usefixtures("full")
def test_damaged_files_are_made_anew_with_the_same_bytes(
    smoke: Path, fashion_flow: Command, shared_server: Server
) -> None:
    again = ("run", "--preset", "smoke", "--store", smoke)
    fashion_flow(*again, PREFECT_API_URL=shared_server.url)
    run = latest_run(smoke)
    damaged = {}
    for stage, name in (("baseline", "model"), ("preprocess", "train"), ("explore", "samples")):
        record = run.record(stage)
        assert record is not None
        damaged[stage] = smoke / record.files[name].path
    content = {stage: path.read_bytes() for stage, path in damaged.items()}
    damaged["baseline"].unlink()
    flipped = bytearray(content["preprocess"])
    flipped[len(flipped) // 2] ^= 1
    damaged["preprocess"].write_bytes(flipped)
    damaged["explore"].write_bytes(content["explore"][:-10])

    done = fashion_flow(*again, PREFECT_API_URL=shared_server.url)
    assert done.status == 0, done.err
    assert computed(smoke) == set(damaged)
    assert {stage: path.read_bytes() for stage, path in damaged.items()} == content
