"""Learning curves, with and without held-out images."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.drawing import training_curves
from tasks.core.records import Record, Stage
from tasks.core.stage_specs import CurvesSpec
from tests.tasks.stages.workbench import Computed, Workbench


def drawn(
    bench: Workbench, *trainings: Record, model: str = "iteration_3", **more: Any
) -> Computed:
    inputs = {f"training_{n}": record for n, record in enumerate(trainings)}
    values: dict[str, Any] = {"binary": False, "random": False, "note": ""} | more
    spec = CurvesSpec(model=model, trainings=tuple(inputs), **values)
    return bench.compute(
        Stage(f"curves_{model}", spec, dict.fromkeys(inputs, ("history",))), **inputs
    )


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the functions that draw were given, by name."""
    found: dict[str, Any] = {}
    for name in ("learning_curves", "final_curves"):
        real = getattr(training_curves, name)

        def noted(*arguments: Any, _name: str = name, _real: Any = real, **named: Any) -> Any:
            found[_name] = (arguments, named)
            return _real(*arguments, **named)

        monkeypatch.setattr(training_curves, name, noted)
    return found


LOSS, VAL_LOSS = [0.9, 0.6, 0.4], [1.0, 0.8, 0.7]


def test_curves_with_held_out_images(bench: Workbench, given: dict[str, Any]) -> None:
    training = bench.trained("iteration_3", LOSS, VAL_LOSS)
    done = drawn(bench, training)
    assert done.files == {"curves_iteration_3": "png"}
    assert done.picture("curves_iteration_3").width > 500
    (history, title, note), named = given["learning_curves"]
    assert (title, note) == ("Iteration 3", "")
    assert (history["loss"], history["val_loss"]) == (LOSS, VAL_LOSS)
    assert named == {"loss_top": 1.2, "others": []}
    assert "final_curves" not in given


def test_curves_without_held_out_images(bench: Workbench, given: dict[str, Any]) -> None:
    done = drawn(bench, bench.trained("final", LOSS), model="final", note="SYNTHETIC")
    assert done.files == {"curves_final": "png"}
    assert done.picture("curves_final").width > 500
    (history, title, note), _ = given["final_curves"]
    assert (title, note) == ("Final model", "SYNTHETIC")
    assert history["loss"] == LOSS
    assert "learning_curves" not in given


def test_the_facts_are_the_last_epoch_of_the_first_training(bench: Workbench) -> None:
    first, second = bench.trained("a", LOSS, VAL_LOSS), bench.trained("b", [5.0], [5.0])
    assert drawn(bench, first, second).facts == {
        "epoch": 3,
        "loss": 0.4,
        "accuracy": pytest.approx(0.7),
        "val_loss": 0.7,
        "val_accuracy": 0.6,
    }


def test_other_trainings_are_drawn_beside_the_first(
    bench: Workbench, given: dict[str, Any]
) -> None:
    trainings = [bench.trained("t", LOSS, [loss] * 3) for loss in (0.5, 0.6, 0.7)]
    done = drawn(bench, *trainings)
    (history, *_), named = given["learning_curves"]
    assert history["val_loss"] == [0.5] * 3
    assert [other["val_loss"] for other in named["others"]] == [[0.6] * 3, [0.7] * 3]
    alone = drawn(bench, trainings[0])
    assert done.digests != alone.digests


def test_binary_cross_entropy_is_drawn_on_a_smaller_scale(
    bench: Workbench, given: dict[str, Any]
) -> None:
    drawn(bench, bench.trained("a", LOSS, VAL_LOSS), model="vgg16_frozen", binary=True)
    assert given["learning_curves"][1]["loss_top"] == 0.3


def test_random_weights_are_named_in_the_title(bench: Workbench, given: dict[str, Any]) -> None:
    drawn(bench, bench.trained("a", LOSS, VAL_LOSS), model="vgg16_frozen", random=True)
    assert given["learning_curves"][0][1] == "VGG16, frozen base (random weights)"
