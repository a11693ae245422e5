"""The tables of runs that are not finished: what is known is shown, the rest is empty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest

from flows.cli.app import main
from flows.cli.run_tables import (
    note_unfinished,
    result_rows,
    shown_run,
    state_of,
    verdict_rows,
)
from flows.recipe.compose import compose
from tasks.core.errors import UserError
from tasks.core.records import Stage, digest_of
from tasks.core.settings.run_settings import Settings
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import MODELS
from tasks.core.tables.verdicts import ALL_VERDICTS
from tasks.storage.run_log import DONE, FAILED, RunLog, now
from tasks.storage.store import Store
from tests.support import basis, spec_of

TWO_CHANGES = (
    "plan=[{name='dropout', change={dropout=0.25}}, {name='short', change={epochs=2}}]",
    "transfer.weights=off",
)


def settings(*assignments: str) -> Settings:
    return compose("smoke", None, {}, (*TWO_CHANGES, *assignments))


def trained(val_accuracy: float | None, params: int = 1000) -> dict[str, Any]:
    return {
        "params": params,
        "epochs": 2,
        "batch_size": 16,
        "train_samples": 400,
        "train_loss": 0.5,
        "train_accuracy": 0.9,
        "val_loss": None if val_accuracy is None else 0.75,
        "val_accuracy": val_accuracy,
    }


def scored(test_accuracy: float) -> dict[str, Any]:
    return {"test_loss": 0.625, "test_accuracy": test_accuracy}


def verdict(gate: int, state: str = "RolledForward") -> dict[str, Any]:
    facts = dict.fromkeys(name for name in ALL_VERDICTS.names if name != "p_value_adjusted")
    facts |= {"gate": gate, "decision": "forward", "state": state, "reason": "because"}
    facts |= {"delta_accuracy": 0.02, "ci_low": -0.01, "ci_high": 0.05, "p_value": 0.125}
    return facts | {"level": 0.025}


class Begun:
    """A run that has begun, in a store of its own."""

    def __init__(
        self,
        folder: Path,
        wanted: Settings,
        run_id: str = "run-1",
        profile: Mapping[str, str] = MappingProxyType({"device": "cpu"}),
    ) -> None:
        self.store = Store(str(folder))
        self.log = RunLog(self.store, run_id)
        self.log.begin(wanted.model_dump(mode="json"), dict(profile), None)

    def finish(self, name: str, facts: Mapping[str, Any], **tables: pa.Table) -> None:
        outputs = self.store.writer(
            Stage(name, spec_of("train")), digest_of([self.log.run_id, name]), basis()
        )
        for table, rows in tables.items():
            outputs.table(table, rows)
        self.log.stage(self.store.commit(outputs, facts), "completed", now(), 1.0)


@pytest.fixture
def begun(tmp_path: Path) -> Begun:
    return Begun(tmp_path, settings())


@pytest.fixture
def halfway(begun: Begun) -> Begun:
    """A run with one of two gates decided and one model scored."""
    begun.finish("load", {})
    begun.finish("baseline", trained(0.75))
    begun.finish("overfitting", trained(0.8))
    begun.finish("iteration_1", trained(0.825))
    begun.finish("gate_1", verdict(1))
    begun.finish("test_baseline", scored(0.7))
    return begun


def test_there_is_a_row_for_each_model_that_is_trained(halfway: Begun) -> None:
    rows = {row["name"]: row for row in result_rows(halfway.log)}
    assert list(rows) == ["baseline", "overfitting", "iteration_1"]
    assert [row["val_accuracy"] for row in rows.values()] == [0.75, 0.8, 0.825]
    assert rows["baseline"]["test_accuracy"] == 0.7
    assert rows["overfitting"]["test_accuracy"] is None
    assert rows["overfitting"]["state"] is None
    assert rows["iteration_1"]["state"] == "RolledForward"
    assert rows["iteration_1"]["reason"] == "because"
    assert rows["iteration_1"]["step"] == "7"


def test_rows_have_the_columns_of_the_stored_table(halfway: Begun) -> None:
    assert [list(row) for row in result_rows(halfway.log)] == [list(MODELS.names)] * 3
    # Of a record's facts, the order is not kept.
    assert [set(row) for row in verdict_rows(halfway.log)] == [set(ALL_VERDICTS.names)]


def test_a_model_with_several_trainings_has_the_mean_of_those_finished(tmp_path: Path) -> None:
    begun = Begun(tmp_path, settings("evaluation.replicates=3"))
    begun.finish("baseline", trained(0.75))
    begun.finish("baseline_r3", trained(0.5))
    (row,) = result_rows(begun.log)
    assert row["trainings"] == 2
    assert row["val_accuracy"] == 0.625
    assert row["val_loss"] == 0.75


def test_the_final_model_has_no_validation_score(begun: Begun) -> None:
    begun.finish("final", trained(None))
    (row,) = result_rows(begun.log)
    assert row["val_accuracy"] is None
    assert row["train_accuracy"] == 0.9


def test_the_notebooks_figures_stand_beside_those_of_its_own_data_set(tmp_path: Path) -> None:
    begun = Begun(tmp_path, settings("dataset=fashion-mnist"))
    begun.finish("baseline", trained(0.75))
    (row,) = result_rows(begun.log)
    assert row["notebook_test_accuracy"] == 0.75


def test_p_values_are_not_adjusted_before_all_are_known(halfway: Begun) -> None:
    (row,) = verdict_rows(halfway.log)
    assert row["p_value"] == 0.125
    assert row["p_value_adjusted"] is None


def test_a_finished_table_is_shown_as_it_is_stored(halfway: Begun) -> None:
    rows = {name: {"name": name, "ci_low": 0.5, "gain": 0.25} for name in ("results", "verdicts")}
    stored = {name: pa.Table.from_pylist([row]) for name, row in rows.items()}
    halfway.finish("results", {}, **stored)
    assert result_rows(halfway.log) == [rows["results"]]
    assert verdict_rows(halfway.log) == [rows["verdicts"]]


def test_gates_of_earlier_versions_decided_by_accuracy(halfway: Begun) -> None:
    row = {"delta_accuracy": 0.25, "ci_low": 0.125, "ci_high": 0.5}
    halfway.finish("results", {}, verdicts=pa.Table.from_pylist([row]))
    gains = {"metric": "accuracy", "gain": 0.25, "gain_low": 0.125, "gain_high": 0.5}
    assert verdict_rows(halfway.log) == [row | gains]


def test_a_record_that_is_gone_has_no_row(halfway: Begun) -> None:
    record = halfway.log.record("overfitting")
    assert record is not None
    path = halfway.store.folder("overfitting", record.key) / "record.json"
    assert isinstance(path, Path)
    path.unlink()
    assert [row["name"] for row in result_rows(halfway.log)] == ["baseline", "iteration_1"]


def test_settings_of_another_version_are_explained(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    log = RunLog(store, "run-1")
    log.begin({"colour": "red"}, {}, None)
    with pytest.raises(UserError, match="settings are those of another version"):
        result_rows(log)


# Which run is shown


def test_without_a_complete_run_the_latest_is_shown(
    halfway: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown_run(halfway.store, None) == halfway.log
    assert capsys.readouterr().err == ""


def test_a_complete_run_is_preferred_and_the_later_one_is_named(
    halfway: Begun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halfway.log.end(DONE)
    later = Begun(tmp_path, settings(), "run-2")
    assert shown_run(later.store, None).run_id == "run-1"
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "The latest run, run-2, is still running; this is run run-1, the latest complete" in said
    assert shown_run(later.store, "run-2") == later.log


# What the commands show


def shown(
    capsys: pytest.CaptureFixture[str], begun: Begun, *arguments: str
) -> tuple[int, str, str]:
    status = main([*arguments, "--store", str(begun.store.root)])
    captured = capsys.readouterr()
    return status, captured.out, " ".join(captured.err.replace("│", " ").split())


def test_results_of_a_running_run(halfway: Begun, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = shown(capsys, halfway, "results")
    assert status == 0
    assert "Run run-1 is still running. This is what its 6 finished stages show so far." in err
    lines = [line.split() for line in out.splitlines()]
    assert ["baseline", "1,000", "2", "75.00", "70.00"] in lines
    assert ["overfitting", "1,000", "2", "80.00"] in lines
    assert ["iteration_1", "1,000", "2", "82.50", "forward"] in lines
    status, out, err = shown(capsys, halfway, "results", "--json")
    assert status == 0
    assert json.loads(out) == result_rows(halfway.log)
    assert "is still running" in err


def test_verdicts_of_a_run_that_failed(halfway: Begun, capsys: pytest.CaptureFixture[str]) -> None:
    halfway.log.end(FAILED, "no space left")
    status, out, err = shown(capsys, halfway, "verdicts", "--run", "run-1")
    assert status == 0
    assert "Run run-1 did not finish (failed)." in err
    # An adjusted p value, the last but one, is not known yet.
    row = ["1", "dropout", "forward", "+2.0", "-1.0", "to", "+5.0", "0.125", "not"]
    assert row in [line.split() for line in out.splitlines()]
    status, out, _ = shown(capsys, halfway, "verdicts", "--json")
    assert (status, json.loads(out)) == (0, verdict_rows(halfway.log))


@pytest.mark.parametrize(
    ("command", "said"),
    [("results", "no model has been trained yet"), ("verdicts", "no gate has decided yet")],
)
def test_a_run_that_has_just_begun(
    command: str, said: str, begun: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = shown(capsys, begun, command)
    assert status == 0
    assert said in out
    assert "its 0 finished stages" in err
    status, out, _ = shown(capsys, begun, command, "--json")
    assert (status, json.loads(out)) == (0, [])


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("off", "there are no gates: the plan is empty"),
        ("required", "no gate has decided yet"),
    ],
)
def test_a_run_without_a_plan_may_have_the_gate_of_transfer(
    weights: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Begun(tmp_path, settings("plan=[]", f"transfer.weights={weights}"))
    assert said in shown(capsys, begun, "verdicts")[1]


def test_the_verdict_on_transfer_has_a_name_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Begun(tmp_path, settings("transfer.weights=required"))
    begun.finish("gate_transfer", verdict(3, "KeptIncumbent") | {"decision": "back"})
    _, out, _ = shown(capsys, begun, "verdicts")
    assert "3 transfer learning" in out
    assert "transfer learning: the last gate dropped it, so the final model is what" in out


def test_the_report_of_a_running_run_is_its_log_for_now(
    halfway: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = shown(capsys, halfway, "report")
    assert (status, out) == (0, f"{halfway.log.folder}\n")
    assert "only complete runs have one. The path printed is that of its folder" in err
    path = halfway.log.log
    assert isinstance(path, Path)
    path.write_text("begun\n")
    status, out, err = shown(capsys, halfway, "report", "--open")
    assert (status, out) == (0, f"{halfway.log.log}\n")
    assert "Run run-1 is still running, so it has no report" in err
    assert "`fashion-flow results --run run-1`" in err


def test_unfinished_runs_are_compared_in_what_both_have(
    halfway: Begun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = Begun(tmp_path, settings("seed=3"), "run-2")
    later.finish("baseline", trained(0.85))
    status, out, err = shown(capsys, halfway, "compare", "run-1", "run-2")
    assert status == 0
    assert err.count("is still running") == 2
    assert "test images" not in err, "it is not known whether they differ"
    lines = [line.split() for line in out.splitlines()]
    assert ["seed", "0", "3"] in lines
    status, out, _ = shown(capsys, halfway, "compare", "run-1", "run-2", "--json")
    found = json.loads(out)
    assert found["same_test_images"] is None
    assert found["settings"] == {"seed": [0, 3]}
    one, other = found["results"]["baseline"]
    assert (one["val_accuracy"], other["val_accuracy"]) == (0.75, 0.85)
    assert found["results"]["overfitting"] == [
        {"val_accuracy": 0.8, "test_accuracy": None, "state": None},
        None,
    ]


def test_runs_of_different_processors_are_compared_with_a_note(
    halfway: Begun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Begun(tmp_path, settings(), "run-2", {"device": "cpu", "instruction_set": "AVX2"})
    status, _, err = shown(capsys, halfway, "compare", "run-1", "run-2")
    assert status == 0
    said = " ".join(err.replace("\u2502", "").split())
    assert "under different execution profiles" in said
    assert "The second has instruction set AVX2 instead of none." in said
    _, _, err = shown(capsys, halfway, "compare", "run-1", "run-1")
    assert "profiles" not in err


def test_a_complete_run_whose_results_are_missing_is_refused(begun: Begun) -> None:
    begun.finish("baseline", trained(0.75))
    begun.log.end(DONE)
    with pytest.raises(UserError, match="run-1 is complete, but its results are missing; start"):
        note_unfinished(begun.log)


def test_a_run_that_failed_after_its_report_is_not_said_to_be_unfinished(begun: Begun) -> None:
    begun.log.report.write(b"<html>")
    begun.log.end(FAILED, "a success criterion is not met")
    assert state_of(begun.log) == "ended as failed"


# Runs that judge by another metric


def judged(folder: Path, metric: str, run_id: str = "run-1", by: float = 0.0) -> Begun:
    """A complete run whose baseline and final model have these scores."""
    begun = Begun(folder, settings(f"metric={metric}"), run_id)
    rows = [
        dict.fromkeys(MODELS.names)
        | {"name": name, "params": 10, "epochs": 1, "trainings": 1, "test_accuracy": 0.985}
        | {f"val_{metric}": value, f"test_{metric}": value + by}
        | {f"test_{metric}_low": 0.25, f"test_{metric}_high": 0.75}
        for name, value in (("baseline", 0.375), ("final", 0.5))
    ]
    gate = verdict(1) | {"metric": metric, "gain": 0.125, "gain_low": -0.25, "gain_high": 0.5}
    tables = {
        "results": from_rows(MODELS, rows),
        "verdicts": from_rows(ALL_VERDICTS, [gate | {"p_value_adjusted": 0.25}]),
    }
    begun.finish("results", {}, **tables)
    begun.log.end(DONE)
    return begun


@pytest.mark.parametrize(
    ("metric", "heads", "row", "gain"),
    [
        (
            "balanced_accuracy",
            "model val. bal. % test bal. % 95 % interval acc. % decision",
            "final 50.00 50.00 25.00-75.00 98.50",
            "1 dropout forward +12.5 -25.0 to +50.0 0.125 0.250 not",
        ),
        (
            "log_loss",
            "model val. log loss test log loss 95 % interval acc. % decision",
            "final 0.5000 0.5000 0.2500-0.7500 98.50",
            "1 dropout forward +0.1250 -0.2500 to +0.5000 0.125 0.250 not",
        ),
    ],
)
def test_scores_and_gains_are_those_of_the_metric(
    metric: str,
    heads: str,
    row: str,
    gain: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = judged(tmp_path, metric)
    status, out, _ = shown(capsys, begun, "results")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0
    assert lines[0].endswith(f", by {metric.replace('_', ' ')}")
    assert heads in lines
    assert row in lines
    assert max(map(len, out.splitlines()[1:4])) <= 80
    status, out, _ = shown(capsys, begun, "verdicts")
    assert status == 0
    assert gain in [" ".join(line.split()) for line in out.splitlines()]
    assert max(map(len, out.splitlines()[1:4])) <= 80


def test_runs_are_compared_by_their_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(tmp_path, "log_loss")
    begun = judged(tmp_path, "log_loss", "run-2", by=-0.25)
    status, out, _ = shown(capsys, begun, "compare", "run-1", "run-2")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "val., test: log loss" in lines
    assert "final 0.5000 0.5000 0.5000 0.2500 -0.2500" in lines


def test_runs_that_judge_otherwise_are_compared_by_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(tmp_path, "log_loss")
    begun = judged(tmp_path, "balanced_accuracy", "run-2")
    status, out, _ = shown(capsys, begun, "compare", "run-1", "run-2")
    assert status == 0
    assert "final 98.50 98.50 +0.00" in [" ".join(line.split()) for line in out.splitlines()]


def test_a_run_that_is_not_finished_has_accuracies_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Begun(tmp_path, settings("metric=balanced_accuracy"))
    begun.finish("baseline", trained(0.75))
    _, out, _ = shown(capsys, begun, "results")
    assert "model params epochs val. acc. % test acc. % decision" in " ".join(out.split())
