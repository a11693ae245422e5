"""How much the choice among models flatters the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tasks.core.records import Outcome, Record, Stage
from tasks.core.seeds import generator
from tasks.core.stage_spec import Model, Training
from tasks.core.stage_specs import SelectionSpec
from tasks.core.statistics.optimism import optimism
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import FOLD_OF_IMAGE
from tests.tasks.stages.workbench import Computed, Workbench

LABELS = [0, 1, 2, 0, 1, 2]


def training(bench: Workbench, right: Sequence[int], labels: Sequence[int] = LABELS) -> Record:
    """A training that gets the images with a 1 right."""
    given = [label if r else (label + 1) % 3 for label, r in zip(labels, right, strict=True)]
    return bench.predicted("training", "validation", labels, given)


def verdict(bench: Workbench, number: int, incumbent: str, decision: str, **changes: Any) -> Record:
    facts: dict[str, Any] = {"incumbent": incumbent, "candidate": f"iteration_{number}"}
    facts |= {"decision": decision, "rule": "validation", "forced": False}
    return bench.stored(f"gate_{number}", **facts | changes)


def model(name: str, *trainings: Training) -> Model:
    given = trainings or (Training(stage=name, replicate=1, fold=None, seed=0),)
    return Model(name=name, validated=True, trainings=given)


def selected(
    bench: Workbench, models: Sequence[Model], inputs: dict[str, Outcome], **changes: Any
) -> Computed:
    gates = tuple(name for name in inputs if name.startswith("gate_"))
    values: dict[str, Any] = {"epochs_chosen": 0, "metric": "accuracy", "seed": 0} | changes
    spec = SelectionSpec(models=tuple(models), gates=gates, **values)
    reads = {
        role: ("facts",)
        if role in gates
        else (("folds",) if role.startswith("folds") else ("validation_predictions",))
        for role in inputs
    }
    return bench.compute(Stage("selection", spec, reads), **inputs)


RIGHT = {
    "overfitting": [1, 1, 1, 0, 0, 0],
    "iteration_1": [1, 1, 1, 1, 0, 0],
    "iteration_2": [1, 1, 1, 1, 1, 0],
}


def three_models(bench: Workbench) -> dict[str, Outcome]:
    return {name: training(bench, right) for name, right in RIGHT.items()}


def test_one_row_says_how_many_decisions_chose_which_model(bench: Workbench) -> None:
    gates: dict[str, Outcome] = {
        "gate_1": verdict(bench, 1, "overfitting", "forward"),
        "gate_2": verdict(bench, 2, "iteration_1", "back"),
    }
    done = selected(bench, [model(name) for name in RIGHT], three_models(bench) | gates)
    (row,) = done.rows("selection")
    assert row == done.facts
    assert (row["looks"], row["models"], row["survivor"]) == (2, 3, "iteration_1")
    assert row["val_score"] == pytest.approx(4 / 6)
    assert row["method"].startswith("bootstrap bias correction")


def test_the_optimism_is_that_of_the_images_that_each_model_gets_right(bench: Workbench) -> None:
    done = selected(bench, [model(name) for name in RIGHT], three_models(bench), seed=7)
    found = optimism(np.array(list(RIGHT.values()), np.float64), generator(7, "optimism"))
    assert done.facts["optimism"] == found.optimism
    assert done.facts["best_corrected"] == found.corrected
    assert done.facts["best_corrected_low"] == found.low
    assert done.facts["best_corrected_high"] == found.high
    # The best model's accuracy is the corrected one and the optimism.
    assert found.corrected + found.optimism == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("decisions", "survivor"),
    [
        (("back", "back"), "overfitting"),
        (("forward", "forward"), "iteration_2"),
        (("back", "forward"), "iteration_2"),
    ],
)
def test_the_survivor_is_the_model_that_the_last_gate_kept(
    bench: Workbench, decisions: tuple[str, str], survivor: str
) -> None:
    incumbent = "overfitting" if decisions[0] == "back" else "iteration_1"
    gates: dict[str, Outcome] = {
        "gate_1": verdict(bench, 1, "overfitting", decisions[0]),
        "gate_2": verdict(bench, 2, incumbent, decisions[1]),
    }
    done = selected(bench, [model(name) for name in RIGHT], three_models(bench) | gates)
    assert done.facts["survivor"] == survivor
    assert done.facts["val_score"] == pytest.approx(sum(RIGHT[survivor]) / 6)


def test_only_decisions_that_were_read_off_held_out_images_count(bench: Workbench) -> None:
    gates: dict[str, Outcome] = {
        "gate_1": verdict(bench, 1, "overfitting", "forward", forced=True),
        "gate_2": verdict(bench, 2, "iteration_1", "forward", rule="notebook"),
    }
    models = [model(name) for name in RIGHT]
    inputs = three_models(bench) | gates
    assert selected(bench, models, inputs).facts["looks"] == 0
    # Epochs at the lowest validation loss were read off them, too.
    assert selected(bench, models, inputs, epochs_chosen=2).facts["looks"] == 2


def test_replicates_are_averaged_image_by_image(bench: Workbench) -> None:
    inputs: dict[str, Outcome] = {
        "overfitting": training(bench, [1, 1, 1, 1, 0, 0]),
        "overfitting_r2": training(bench, [1, 1, 0, 0, 0, 0]),
        "iteration_1": training(bench, [1, 1, 1, 0, 0, 0]),
        "iteration_1_r2": training(bench, [0, 0, 0, 0, 0, 1]),
    }
    models = [
        model(
            name,
            Training(stage=name, replicate=1, fold=None, seed=0),
            Training(stage=f"{name}_r2", replicate=2, fold=None, seed=1),
        )
        for name in ("overfitting", "iteration_1")
    ]
    done = selected(bench, models, inputs)
    shares = np.array([[1, 1, 0.5, 0.5, 0, 0], [0.5, 0.5, 0.5, 0, 0, 0.5]])
    assert done.facts["val_score"] == pytest.approx(0.5)
    assert done.facts["optimism"] == optimism(shares, generator(0, "optimism")).optimism


def test_each_fold_s_training_speaks_of_the_images_held_out_from_it(bench: Workbench) -> None:
    """Two replicates with folds of their own; images in the order of the whole."""
    folds = {"folds": [1, 2, 1, 2, 1, 2], "folds_r2": [2, 2, 2, 1, 1, 1]}
    right = {"folds": [1, 0, 1, 0, 1, 1], "folds_r2": [1, 1, 0, 0, 0, 0]}
    inputs: dict[str, Outcome] = {}
    trainings = []
    for replicate, (role, of) in enumerate(folds.items(), 1):
        columns = {"fold": of, "label": LABELS}
        inputs[role] = bench.stored(role, tables={"folds": from_columns(FOLD_OF_IMAGE, columns)})
        for fold in (1, 2):
            name = f"overfitting_f{fold}" + ("_r2" if replicate > 1 else "")
            held_out = [n for n in range(6) if of[n] == fold]
            inputs[name] = training(
                bench, [right[role][n] for n in held_out], [LABELS[n] for n in held_out]
            )
            trainings.append(Training(stage=name, replicate=replicate, fold=fold, seed=0))
    done = selected(bench, [model("overfitting", *trainings)], inputs)
    shares = (np.array(right["folds"]) + np.array(right["folds_r2"])) / 2
    assert done.facts["val_score"] == pytest.approx(shares.mean())
    expected = optimism(shares[None], generator(0, "optimism"))
    assert done.facts["best_corrected"] == expected.corrected


# Metrics


def test_balanced_accuracy_weighs_images_by_the_rarity_of_their_class(bench: Workbench) -> None:
    labels = [0] * 8 + [1, 1]
    answers = {"overfitting": [1] * 8 + [0, 0], "iteration_1": [1] * 6 + [0, 0] + [1, 0]}
    inputs: dict[str, Outcome] = {
        name: training(bench, right, labels) for name, right in answers.items()
    }
    models = [model(name) for name in answers]
    (row,) = selected(bench, models, inputs, metric="balanced_accuracy").rows("selection")
    weights = np.array([10 / 16] * 8 + [10 / 4] * 2)
    found = optimism(np.array(list(answers.values())) * weights, generator(0, "optimism"))
    assert (row["metric"], row["val_score"]) == ("balanced_accuracy", pytest.approx(0.5))
    assert row["optimism"] == pytest.approx(found.optimism)
    assert row["best_corrected"] + row["optimism"] == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert 0 <= row["best_corrected_low"] <= row["best_corrected_high"] <= 1
    assert row["method"].endswith("where a class has few images, the interval is too narrow")


def test_the_best_log_loss_is_the_lowest_and_looks_too_low(bench: Workbench) -> None:
    (row,) = selected(
        bench, [model(name) for name in RIGHT], three_models(bench), metric="log_loss"
    ).rows("selection")
    # Half of the probability where right, a quarter where not.
    losses = {name: np.log(2) * (2 - np.array(right)) for name, right in RIGHT.items()}
    assert row["val_score"] == pytest.approx(losses["overfitting"].mean(), abs=1e-6)
    found = optimism(-np.stack(list(losses.values())), generator(0, "optimism"))
    assert row["optimism"] == pytest.approx(found.optimism, abs=1e-6)
    assert row["best_corrected"] - row["optimism"] == pytest.approx(losses["iteration_2"].mean())
    assert 0 < row["best_corrected_low"] <= row["best_corrected"] <= row["best_corrected_high"]
