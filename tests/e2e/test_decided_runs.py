"""Replicates, folds, rules, overrides and the split guard, in runs of a short plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.statistics.replicates import replicates
from tests.processes import SMALL, Command, Finished, Server, latest_run

PLAN = """
[[iteration]]
name = "dropout"
hypothesis = "Dropout overfits less."
change = {dropout = 0.25}

[[iteration]]
name = "fewer epochs"
change = {epochs = 1}
"""
MODELS = ("baseline", "low_capacity", "overfitting", "iteration_1", "iteration_2")


def table(store: Path, stage: str, name: str) -> list[dict[str, Any]]:
    record = latest_run(store).record(stage)
    assert record is not None
    rows: list[dict[str, Any]] = pq.read_table(store / record.files[name].path).to_pylist()
    return rows


def computed(store: Path) -> set[str]:
    return {entry["stage"] for entry in latest_run(store).stages() if entry["state"] == "completed"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decided") / "store"


@pytest.fixture(scope="module")
def run_small(fashion_flow: Command, store: Path, plan: Path, shared_server: Server) -> Command:
    place = ("--plan", plan, "--store", store)

    def run(*arguments: str) -> Finished:
        url = shared_server.url
        return fashion_flow("run", *SMALL, *place, *arguments, PREFECT_API_URL=url)

    return run


@pytest.fixture(scope="module")
def once(run_small: Command, store: Path) -> set[str]:
    """What a run with one training of each model computed."""
    done = run_small()
    assert done.status == 0, done.err
    return computed(store)


@pytest.fixture(scope="module")
def three_times(
    once: set[str], run_small: Command, shared_server: Server
) -> tuple[Finished, Server]:
    """A run with three replicates after it, with gate 1 forced."""
    assert once
    done = run_small("--replicates", "3", "--rule", "significant", "--force", "1=forward")
    assert done.status == 0, done.err
    return done, shared_server


def test_more_replicates_train_only_the_new_ones(
    three_times: tuple[Finished, Server], store: Path, once: set[str]
) -> None:
    done, _ = three_times
    assert set(MODELS) <= once
    beside = ("test_", "gate_", "curves_")
    trained = {stage for stage in computed(store) if not stage.startswith(beside)}
    new = {f"{model}_r{number}" for model in MODELS for number in (2, 3)}
    # After gate 1 was forced, iteration 2 changes another model than before.
    changed = {"iteration_2", "final", "final_r2", "final_r3"}
    tables = {"results", "selection", "success", "quality", "figures"}
    assert trained <= new | changed | tables
    assert new <= trained
    assert "3 replicates" in done.out


def test_a_row_a_training_and_a_row_a_model(
    three_times: tuple[Finished, Server], store: Path
) -> None:
    assert three_times
    rows = table(store, "results", "replicates")
    assert len(rows) == 3 * (len(MODELS) + 1)
    seeds = [found.seed for found in replicates(EvaluationSettings(replicates=3), 0)]
    _, *models = table(store, "results", "results")
    by_model = {row["name"]: row for row in models}
    for model, mean in by_model.items():
        own = [row for row in rows if row["model"] == model]
        assert [row["replicate"] for row in own] == [1, 2, 3]
        assert [row["seed"] for row in own] == seeds
        accuracies = [row["test_accuracy"] for row in own]
        assert mean["test_accuracy"] == pytest.approx(np.mean(accuracies))
        assert mean["test_accuracy_sd"] == pytest.approx(np.std(accuracies, ddof=1))
        assert mean["test_accuracy_low"] <= mean["test_accuracy"] <= mean["test_accuracy_high"]


def test_the_forced_gate_says_so_everywhere(
    three_times: tuple[Finished, Server], store: Path
) -> None:
    done, server = three_times
    first, second = table(store, "results", "verdicts")
    assert first["forced"]
    assert not second["forced"]
    assert (first["decision"], first["state"]) == ("forward", "ForcedForward")
    assert first["reason"].startswith("forced forward; rule significant says ")
    assert "ForcedForward" in done.err
    assert "FORCED forward" in done.out
    page = latest_run(store).report.read_text()
    assert "Gate 1 was forced\nforward by hand" in page
    assert latest_run(store).read()["settings"]["force"] == {"1": "forward"}
    own = {"flow_runs": {"id": {"any_": [latest_run(store).read()["flow_run"]]}}}
    answer = httpx.post(f"{server.url}/task_runs/filter", json=own)
    states = {run["name"]: run["state"] for run in answer.json()}
    assert states["gate_1"]["name"] == "ForcedForward"
    assert states["gate_2"]["name"] in ("Inconclusive", "RolledForward", "KeptIncumbent")
    assert states["gate_2"]["message"] == second["reason"]


VERDICT_COLUMNS = [
    "gate", "incumbent", "candidate", "decision", "reason", "rule", "delta_accuracy", "ci_low",
    "ci_high", "metric", "gain", "gain_low", "gain_high", "p_value", "p_value_adjusted",
    "delta_loss", "replicates", "folds",
]  # fmt: skip


def test_verdicts_hold_the_evidence(
    three_times: tuple[Finished, Server], store: Path, fashion_flow: Command
) -> None:
    assert three_times
    rows = table(store, "results", "verdicts")
    shown = fashion_flow("verdicts", "--store", store)
    assert "1 dropout" in shown.out
    assert "FORCED forward" in shown.out
    assert json.loads(fashion_flow("verdicts", "--json", "--store", store).out) == rows
    models = {row["name"]: row for row in table(store, "results", "results")}
    for row in rows:
        assert list(row)[: len(VERDICT_COLUMNS)] == VERDICT_COLUMNS
        candidate, incumbent = models[row["candidate"]], models[row["incumbent"]]
        gain = candidate["val_accuracy"] - incumbent["val_accuracy"]
        assert row["delta_accuracy"] == pytest.approx(gain)
        assert row["ci_low"] <= row["delta_accuracy"] <= row["ci_high"]
        assert row["p_value"] <= row["p_value_adjusted"] <= 1
        assert row["level"] == pytest.approx(0.05 / 2)
        assert row["replicates"] == 3
        assert row["folds"] is None
        assert row["by_significant"] in ("forward", "back", "inconclusive")


def test_every_model_is_looked_at_class_by_class(
    three_times: tuple[Finished, Server], store: Path
) -> None:
    assert three_times
    rows = table(store, "quality", "per_class")
    found = {(row["model"], row["split"]) for row in rows}
    assert found == {("final", "test")} | {
        (model, split) for model in MODELS for split in ("validation", "test")
    }
    cells = table(store, "quality", "confusion")
    final = [cell["count"] for cell in cells if (cell["model"], cell["split"]) == ("final", "test")]
    assert sum(final) == 3 * 60, "three trainings, sixty test images"


def test_folds(run_small: Command, store: Path) -> None:
    rule = ("--rule", "one_standard_error")
    done = run_small("--protocol", "kfold", "--set", "evaluation.folds=2", *rule)
    assert done.status == 0, done.err
    rows = [row for row in table(store, "results", "replicates") if row["model"] != "final"]
    assert {row["stage"] for row in rows} == {
        f"{model}_f{fold}" for model in MODELS for fold in (1, 2)
    }
    assert {row["train_samples"] for row in rows} == {105}
    deal = [row["fold"] for row in table(store, "folds", "folds")]
    assert np.bincount(deal).tolist() == [0, 105, 105]
    assert {row["folds"] for row in table(store, "results", "verdicts")} == {2}
    assert "2 folds" in done.out
    assert "Stratified cross-validation" in latest_run(store).report.read_text()


def test_a_criterion_that_is_not_met_fails_the_run_where_that_is_wanted(
    once: set[str], run_small: Command, store: Path
) -> None:
    """One epoch on 150 images: nobody can tell the final model from the baseline."""
    assert once
    done = run_small("--require-success")
    criteria = table(store, "success", "criteria")
    assert [row["met"] for row in criteria][1] is False
    assert done.status == 3
    assert "the final model is not shown to be " in done.err
    assert "better than the dense baseline" in done.err
    assert "not met" in latest_run(store).report.read_text()
    assert "final" in done.out, "the table is shown all the same"
    assert run_small().status == 0


def duplicated(path: Path) -> Path:
    """Sixty images, of which one training image stands among the test images."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 12, 12)).astype(np.uint8)
    y = (np.arange(60) % 2).astype(np.uint8)
    x[50] = x[3]
    np.savez(path, x_train=x[:45], y_train=y[:45], x_test=x[45:], y_test=y[45:])
    return path


OWN = ("--set", "subset.train=30", "--set", "subset.validation=15", "--set", "subset.test=15")


def test_an_image_in_two_splits_stays_in_one_or_is_refused_or_allowed(
    fashion_flow: Command, shared_server: Server, plan: Path, tmp_path: Path
) -> None:
    own = duplicated(tmp_path / "own.npz")
    store = tmp_path / "store"
    only = ("--plan", plan, "--store", store, "--only", "preprocess")
    arguments = ("run", *SMALL, "--dataset", own, *OWN, *only)
    url = shared_server.url
    refused = fashion_flow(*arguments, "--set", "guard.exact=refuse", PREFECT_API_URL=url)
    assert refused.status == 2
    assert "1 image appears in more than one split (" in refused.err
    assert "guard.exact=drop" in refused.err
    assert not (store / "stages" / "preprocess").exists(), "nothing goes on after it"
    allowed = fashion_flow(*arguments, "--set", "guard.exact=allow", PREFECT_API_URL=url)
    assert allowed.status == 0, allowed.err
    record = latest_run(store).record("guard")
    assert record is not None
    assert sum(row["exact"] for row in record.facts["counts"]) == 1
    assert "pairs_picture" in record.files
    dropped = fashion_flow(*arguments, PREFECT_API_URL=url)
    assert dropped.status == 0, dropped.err
    record = latest_run(store).record("subset")
    assert record is not None
    assert sum(record.facts["copies"].values()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rule", "significant"), "needs 3 trainings of each model"),
        (("--force", "4=sideways"), "expected a gate's number"),
        (("--force", "10=back"), "there is no gate 10"),
        (("--set", "alpha=1.5"), "alpha"),
        (("--set", "evaluation.folds=1"), "evaluation.folds"),
    ],
)
def test_mistakes_are_explained(
    fashion_flow: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = fashion_flow("plan", "--preset", "smoke", "--store", tmp_path / "store", *arguments)
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err
