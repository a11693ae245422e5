"""Curves of one epoch and of many, with and without a validation split."""

from __future__ import annotations

import pytest

from tasks.core.drawing import training_curves
from tests.tasks.core.drawing.samples import HISTORY, UNVALIDATED, drawn_by, size_of, texts


def test_a_single_epoch_shows_its_validation_scores() -> None:
    once = {key: values[:1] for key, values in HISTORY.items()}
    without = {key: once[key] for key in ("loss", "accuracy")}
    seen = training_curves.learning_curves(once, "Model", "")
    assert seen != training_curves.learning_curves(once | {"val_accuracy": [0.55]}, "Model", "")
    assert seen != training_curves.learning_curves(without, "Model", "")
    size_of(training_curves.final_curves(without, "Model", ""))


def test_the_epoch_of_the_lowest_validation_loss_is_marked() -> None:
    with drawn_by(training_curves) as figures:
        training_curves.learning_curves(HISTORY, "Model", "")
        training_curves.learning_curves(UNVALIDATED, "Model", "")
    validated, unvalidated = map(texts, figures)
    assert "lowest validation loss: epoch 2" in validated
    assert not any("validation" in text for text in unvalidated)


def test_other_seeds_are_named_once_in_the_legend() -> None:
    with drawn_by(training_curves) as figures:
        training_curves.learning_curves(HISTORY, "Model", "", others=[HISTORY, HISTORY])
    panels = len(figures[0].axes)
    assert texts(figures[0]).count("other seeds") == panels == 2


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([0.6, 0.9], (0.5, 1.0)),
        ([0.34, 0.9], (0.3, 1.0)),
        ([0.05, 0.9], (0.0, 1.0)),
        ([0.6, 2.0], (0.5, 2.08)),
    ],
)
def test_the_notebook_s_limits_widen_only_if_a_value_lies_outside(
    values: list[float], limits: tuple[float, float]
) -> None:
    assert training_curves._widened(0.5, 1.0, values) == pytest.approx(limits)
