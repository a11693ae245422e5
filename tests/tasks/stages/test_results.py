"""The tables of results, from predictions whose scores are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from tasks.core.records import Outcome, Record, Stage
from tasks.core.stage_spec import Training
from tasks.core.stage_specs import ModelInResults, ResultsSpec
from tests.tasks.stages.workbench import Computed, Workbench, skipped

LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
# Training images of each class: the second is the commonest.
COUNTS = (4, 5, 1)


def answers(right: int) -> list[int]:
    return [label if n < right else (label + 1) % 3 for n, label in enumerate(LABELS)]


def training(bench: Workbench, name: str, right: int | None, **facts: Any) -> Record:
    """A training that gets `right` of ten held-out images right; None where none were held out."""
    given: dict[str, Any] = {
        "params": 100,
        "epochs": 5,
        "batch_size": 32,
        "train_samples": 80,
        "train_loss": 0.25,
        "train_accuracy": 0.9,
        "val_loss": None if right is None else 0.5,
        "val_accuracy": None if right is None else right / 10,
    } | facts
    if right is None:
        return bench.stored(name, **given)
    return bench.predicted(name, "validation", LABELS, answers(right), **given)


def scoring(bench: Workbench, name: str, right: int, test_loss: float = 0.75) -> Record:
    facts = {"test_loss": test_loss, "test_accuracy": right / 10}
    return bench.predicted(f"test_{name}", "test", LABELS, answers(right), **facts)


def model(name: str, *trainings: Training, gate: str | None = None, **more: Any) -> ModelInResults:
    given = {"name": name, "validated": name != "final", "step": "7", "gate": gate}
    return ModelInResults.model_validate(given | {"trainings": trainings} | more)


def once(name: str, fold: int | None = None, replicate: int = 1, seed: int = 0) -> Training:
    return Training(stage=name, replicate=replicate, fold=fold, seed=seed)


VERDICT: dict[str, Any] = {
    "gate": 1,
    "incumbent": "overfitting",
    "candidate": "iteration_1",
    "decision": "forward",
    "state": "RolledForward",
    "reason": "better",
    "p_value": 0.02,
}


def gate(bench: Workbench, **changes: Any) -> Record:
    return bench.stored("gate_1", **VERDICT | changes)


def tabulated(
    bench: Workbench,
    models: Sequence[ModelInResults],
    inputs: dict[str, Outcome],
    gates: Sequence[str] = (),
    **changes: Any,
) -> Computed:
    given = {
        "folds": None,
        "notebook": False,
        "notebook_plan": False,
        "random_transfer": False,
    } | changes
    spec = ResultsSpec(models=tuple(models), gates=tuple(gates), **given)
    reads: dict[str, tuple[str, ...]] = {
        role: ("facts",)
        if role in gates or role == "final"
        else ("facts", "test_predictions" if role.startswith("test_") else "validation_predictions")
        for role in inputs
    }
    stage = Stage("results", spec, {**reads, "subset": ("index", "facts")})
    return bench.compute(stage, **inputs, subset=bench.chosen(train=COUNTS))


def trained(done: Computed) -> list[dict[str, Any]]:
    """The rows of models that were trained."""
    first, *others = done.rows("results")
    assert first["name"] == "commonest_class"
    return others


def inputs_of(bench: Workbench, **right: tuple[int | None, int]) -> dict[str, Outcome]:
    """Trainings and their scorings by name: images right of ten held-out and ten test images."""
    inputs: dict[str, Outcome] = {}
    for name, (held_out, tested) in right.items():
        inputs[name] = training(bench, name, held_out)
        inputs[f"test_{name}"] = scoring(bench, name, tested)
    return inputs


def test_a_row_for_a_model_that_was_trained_once(bench: Workbench) -> None:
    done = tabulated(
        bench, [model("baseline", once("baseline"), step="5a")], inputs_of(bench, baseline=(8, 6))
    )
    (row,) = trained(done)
    low, high = row.pop("val_accuracy_low"), row.pop("val_accuracy_high")
    test_low, test_high = row.pop("test_accuracy_low"), row.pop("test_accuracy_high")
    scores = {name: row.pop(name) for name in list(row) if "balanced" in name or "log_" in name}
    assert row == {
        "name": "baseline",
        "step": "5a",
        "params": 100,
        "epochs": 5,
        "batch_size": 32,
        "train_samples": 80,
        "trainings": 1,
        "train_loss": 0.25,
        "train_accuracy": 0.9,
        "val_loss": 0.5,
        "val_accuracy": 0.8,
        "test_loss": 0.75,
        "test_accuracy": 0.6,
        "val_loss_sd": None,
        "val_accuracy_sd": None,
        "test_loss_sd": None,
        "test_accuracy_sd": None,
        "decision": None,
        "state": None,
        "reason": None,
        "notebook_test_loss": None,
        "notebook_test_accuracy": None,
    }
    # Wilson's interval of 8 and of 6 of 10.
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    # Right: three, three and two of the four, three and three images of a class; then two of each.
    assert scores["val_balanced_accuracy"] == pytest.approx((3 / 4 + 3 / 3 + 2 / 3) / 3)
    assert scores["test_balanced_accuracy"] == pytest.approx((2 / 4 + 2 / 3 + 2 / 3) / 3)
    # Half of the probability at the prediction, a quarter at each other class.
    assert scores["val_log_loss"] == pytest.approx(math.log(2) * (8 + 2 * 2) / 10)
    assert scores["test_log_loss"] == pytest.approx(math.log(2) * (6 + 4 * 2) / 10)
    for name in ("balanced_accuracy", "log_loss"):
        for split in ("val", "test"):
            score = f"{split}_{name}"
            assert scores[f"{score}_low"] < scores[score] < scores[f"{score}_high"]
    assert (test_low, test_high) == (
        pytest.approx(0.3127, abs=1e-4),
        pytest.approx(0.8318, abs=1e-4),
    )
    assert done.facts == {"models": ["baseline"], "skipped": {}}


def test_the_first_row_is_of_the_commonest_training_class(bench: Workbench) -> None:
    done = tabulated(
        bench, [model("baseline", once("baseline"))], inputs_of(bench, baseline=(8, 6))
    )
    row = done.rows("results")[0]
    assert (row["name"], row["params"], row["epochs"], row["trainings"]) == (
        "commonest_class", 0, 0, 0,
    )  # fmt: skip
    assert (row["train_samples"], row["train_accuracy"]) == (10, 0.5)
    # Three of ten labels are of the second class; one class of three is always right.
    for split in ("val", "test"):
        assert row[f"{split}_accuracy"] == 0.3
        assert row[f"{split}_balanced_accuracy"] == pytest.approx(1 / 3)
        expected = -(4 * math.log(0.4) + 3 * math.log(0.5) + 3 * math.log(0.1)) / 10
        assert row[f"{split}_log_loss"] == row[f"{split}_loss"] == pytest.approx(expected)
        assert row[f"{split}_balanced_accuracy_low"] is None, "nothing was trained or measured"


def test_the_commonest_class_is_scored_on_the_folds_of_one_replicate(bench: Workbench) -> None:
    names = [("f1", 1, 1), ("f2", 2, 1), ("f1_r2", 1, 2), ("f2_r2", 2, 2)]
    trainings = [once(f"baseline_{name}", fold=f, replicate=r) for name, f, r in names]
    right = {f"baseline_{name}": (9, 6) for name, *_ in names}
    models = [model("baseline", *trainings)]
    row = tabulated(bench, models, inputs_of(bench, **right), folds=2).rows("results")[0]
    assert row["val_accuracy"] == row["test_accuracy"] == 0.3
    assert row["val_balanced_accuracy"] == pytest.approx(1 / 3)


def test_a_row_for_each_training(bench: Workbench) -> None:
    models = [model("baseline", once("baseline", seed=4), once("baseline_r2", replicate=2, seed=9))]
    done = tabulated(bench, models, inputs_of(bench, baseline=(8, 6), baseline_r2=(7, 5)))
    first, second = done.rows("replicates")
    assert first == {
        "model": "baseline",
        "stage": "baseline",
        "replicate": 1,
        "fold": None,
        "seed": 4,
        "epochs": 5,
        "train_samples": 80,
        "train_loss": 0.25,
        "train_accuracy": 0.9,
        "val_loss": 0.5,
        "val_accuracy": 0.8,
        "test_loss": 0.75,
        "test_accuracy": 0.6,
    }
    assert (second["stage"], second["replicate"], second["seed"]) == ("baseline_r2", 2, 9)
    assert (second["val_accuracy"], second["test_accuracy"]) == (0.7, 0.5)


def test_replicates_are_averaged_with_their_standard_deviation(bench: Workbench) -> None:
    names = ("baseline", "baseline_r2", "baseline_r3")
    inputs: dict[str, Outcome] = {}
    for name, right, tested, loss in zip(names, (8, 7, 3), (6, 5, 4), (0.2, 0.4, 0.9), strict=True):
        inputs[name] = training(bench, name, right, val_loss=loss, train_accuracy=right / 10)
        inputs[f"test_{name}"] = scoring(bench, name, tested, loss)
    trainings = [once(name, replicate=n) for n, name in enumerate(names, 1)]
    (row,) = trained(tabulated(bench, [model("baseline", *trainings)], inputs))
    assert row["trainings"] == 3
    assert row["val_accuracy"] == row["train_accuracy"] == pytest.approx(0.6)
    assert row["val_loss"] == row["test_loss"] == pytest.approx(0.5)
    assert row["test_accuracy"] == pytest.approx(0.5)
    # Of 0.8, 0.7 and 0.3; of 0.6, 0.5 and 0.4; of 0.2, 0.4 and 0.9; each divided by 2.
    assert row["val_accuracy_sd"] == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert row["test_accuracy_sd"] == pytest.approx(0.1)
    assert row["val_loss_sd"] == row["test_loss_sd"] == pytest.approx(math.sqrt(0.26 / 2))
    assert row["val_accuracy_low"] < 0.3, "seeds vary, so the interval is wide"
    assert row["val_accuracy_high"] > 0.9


def test_folds_are_averaged_and_have_the_interval_of_folds(bench: Workbench) -> None:
    right = {"baseline_f1": (9, 6), "baseline_f2": (7, 6), "baseline_f3": (8, 6)}
    trainings = [once(name, fold=n) for n, name in enumerate(right, 1)]
    done = tabulated(bench, [model("baseline", *trainings)], inputs_of(bench, **right), folds=3)
    (row,) = trained(done)
    assert [found["fold"] for found in done.rows("replicates")] == [1, 2, 3]
    assert row["val_accuracy"] == pytest.approx(0.8)
    # The variance of ten images is above that of three folds; Student's t with 2 degrees.
    least = sum(10 / 9 * (p - p * p) / 10 for p in (0.9, 0.7, 0.8)) / 3
    reach = 4.302653 * math.sqrt((1 / 3 + 1 / 2) * least)
    assert row["val_accuracy_low"] == pytest.approx(0.8 - reach, abs=1e-6)
    assert row["val_accuracy_high"] == 1, "an accuracy is at most 1"
    # All networks are scored on the same test images. Here they agree, so only images vary.
    assert row["test_accuracy_low"] == pytest.approx(0.6 - 1.959964 * math.sqrt(0.24 / 9))


def test_the_final_model_has_no_validation_scores(bench: Workbench) -> None:
    done = tabulated(bench, [model("final", once("final"))], inputs_of(bench, final=(None, 9)))
    (row,) = trained(done)
    assert [value for name, value in row.items() if name.startswith("val_")] == [None] * 12
    assert (row["train_accuracy"], row["test_accuracy"]) == (0.9, 0.9)
    (one,) = done.rows("replicates")
    assert (one["val_loss"], one["val_accuracy"]) == (None, None)


def test_a_gate_s_verdict_is_on_its_model_s_row_and_among_the_verdicts(bench: Workbench) -> None:
    inputs = inputs_of(bench, overfitting=(7, 6), iteration_1=(8, 6)) | {"gate_1": gate(bench)}
    models = [
        model("overfitting", once("overfitting")),
        model("iteration_1", once("iteration_1"), gate="gate_1"),
    ]
    done = tabulated(bench, models, inputs, ["gate_1"])
    first, second = trained(done)
    assert (first["decision"], first["state"], first["reason"]) == (None, None, None)
    assert (second["decision"], second["state"], second["reason"]) == (
        "forward",
        "RolledForward",
        "better",
    )
    (verdict,) = done.rows("verdicts")
    assert verdict["candidate"] == "iteration_1"
    assert verdict["p_value"] == verdict["p_value_adjusted"] == 0.02


def test_p_values_are_adjusted_for_the_number_of_gates(bench: Workbench) -> None:
    inputs: dict[str, Outcome] = {
        f"gate_{number}": gate(bench, gate=number, p_value=p_value)
        for number, p_value in enumerate((0.04, 0.01, 0.03, 0.9), 1)
    }
    verdicts = tabulated(bench, [], inputs, list(inputs)).rows("verdicts")
    assert [row["gate"] for row in verdicts] == [1, 2, 3, 4]
    # Holm: 0.01 * 4, 0.03 * 3, then no less than that for 0.04 * 2.
    assert [row["p_value_adjusted"] for row in verdicts] == pytest.approx([0.09, 0.04, 0.09, 0.9])


def test_a_run_without_gates_has_an_empty_table_of_verdicts(bench: Workbench) -> None:
    done = tabulated(bench, [], {})
    assert done.table("verdicts").num_rows == 0
    assert "p_value_adjusted" in done.table("verdicts").column_names


def test_a_skipped_model_leaves_no_row(bench: Workbench) -> None:
    inputs = inputs_of(bench, baseline=(8, 6))
    inputs |= {"vgg16_frozen": skipped("vgg16_weights"), "test_vgg16_frozen": skipped("x")}
    models = [model("baseline", once("baseline")), model("vgg16_frozen", once("vgg16_frozen"))]
    done = tabulated(bench, models, inputs)
    assert done.state == "Completed"
    assert [row["name"] for row in trained(done)] == ["baseline"]
    assert [row["model"] for row in done.rows("replicates")] == ["baseline"]
    assert done.facts == {
        "models": ["baseline"],
        "skipped": {"vgg16_frozen": "vgg16_weights is not available"},
    }


def test_the_notebook_s_figures_are_beside_ours_if_asked_for(bench: Workbench) -> None:
    models = [model("baseline", once("baseline")), model("another", once("another"))]
    inputs = inputs_of(bench, baseline=(8, 6), another=(8, 6))
    baseline, another = trained(tabulated(bench, models, inputs, notebook=True))
    assert (baseline["notebook_test_loss"], baseline["notebook_test_accuracy"]) == (
        0.6497176289558411,
        0.75,
    )
    assert another["notebook_test_accuracy"] is None


def test_models_of_another_plan_are_not_compared_with_the_notebook_s(bench: Workbench) -> None:
    names = ("baseline", "overfitting", "iteration_1")
    models = [model(name, once(name)) for name in names]
    inputs = inputs_of(bench, **dict.fromkeys(names, (8, 6)))
    for same_plan, compared in ((True, 3), (False, 1)):
        rows = trained(tabulated(bench, models, inputs, notebook=True, notebook_plan=same_plan))
        assert [row["notebook_test_loss"] is not None for row in rows].count(True) == compared
        assert rows[0]["notebook_test_accuracy"] == 0.75


def test_transfer_from_random_weights_is_called_a_control(bench: Workbench) -> None:
    models = [model(name, once(name)) for name in ("baseline", "vgg16_frozen_corrected")]
    inputs = inputs_of(bench, baseline=(8, 6), vgg16_frozen_corrected=(8, 6))
    rows = trained(tabulated(bench, models, inputs, random_transfer=True))
    assert [row["reason"] for row in rows] == [None, "a control: VGG16 has random weights here"]
    rows = trained(tabulated(bench, models, inputs))
    assert [row["reason"] for row in rows] == [None, None]
