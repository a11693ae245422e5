"""Every figure is a PNG of a sensible size, and equal inputs give equal bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tasks.core.drawing import canvas, class_charts, comparisons, image_grids, training_curves
from tasks.core.statistics.metrics import calibration
from tests.tasks.core.drawing.samples import (
    CLASSES,
    GREY,
    HISTORY,
    LABELS,
    MATRIX,
    NOTE,
    SCALED,
    UNVALIDATED,
    VERDICTS,
    size_of,
    texts,
)

DRAWINGS: dict[str, Callable[[str], bytes]] = {
    "sample_grid": lambda note: image_grids.sample_grid(GREY, LABELS, CLASSES, note),
    "class_balance": lambda note: class_charts.class_balance([6, 5, 7], [1, 0, 2], CLASSES, note),
    "learning_curves": lambda note: training_curves.learning_curves(HISTORY, "Model", note),
    "final_curves": lambda note: training_curves.final_curves(UNVALIDATED, "Model", note),
    "before_after": lambda note: image_grids.before_after(
        GREY[:3], np.float32(1.0001) * GREY[:3].repeat(3, axis=3), LABELS[:3], CLASSES, note
    ),
    "confusion": lambda note: class_charts.confusion(MATRIX, CLASSES, "Test", note),
    "score_chart": lambda note: comparisons.score_chart(
        ["one", "two"], [0.8, None], [(0.7, 0.85)], [0.75, 0.9], note
    ),
    "many_curves": lambda note: training_curves.learning_curves(
        HISTORY, "Model", note, others=[HISTORY, HISTORY]
    ),
    "image_pairs": lambda note: image_grids.image_pairs(
        GREY[:4], GREY[4:8], [("train: $x$", "test: y")] * 4, ["identical"] * 4, note
    ),
    "confused_pairs": lambda note: image_grids.confused_pairs(
        [
            ("$x taken for y", SCALED[:3], np.array([0.9, 0.8, 0.5], np.float32)),
            ("one image", SCALED[:1], np.ones(1, np.float32)),
        ],
        note,
    ),
    "reliability": lambda note: class_charts.reliability(
        calibration(np.array([0.2, 0.9, 1.0]), np.array([True, False, True])), "Model", note
    ),
    "decision_tree": lambda note: comparisons.decision_tree(VERDICTS, ["x" * 80, "$y", "z"], note),
    "augmented_samples": lambda note: image_grids.augmented_samples(
        GREY[:4], GREY[:4].astype(np.float32) / np.float32(255), note
    ),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_equal_inputs_give_equal_bytes_and_a_note_changes_them(
    draw: Callable[[str], bytes],
) -> None:
    noted = draw(NOTE)
    assert noted == draw(NOTE)
    assert noted != draw("")
    assert b"Software" not in noted
    width, height = size_of(noted)
    assert 400 <= width <= 2000
    assert 200 <= height <= 2000


def test_a_note_is_wrapped_below_the_figure_only_if_there_is_one() -> None:
    figure = canvas.new_figure(4, 3)
    canvas.png_bytes(figure, "")
    assert texts(figure) == []
    canvas.png_bytes(figure, NOTE * 3)
    (note,) = texts(figure)
    assert "\n" in note
    assert note.replace("\n", " ") == NOTE * 3


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Ankle boot", "Ankle boot"),
        ("a name\nof  two lines", "a name of two lin…"),
        ("x" * 18, "x" * 18),
        ("x" * 19, "x" * 17 + "…"),
        ("猫" * 9, "猫" * 9),
        ("猫" * 10, "猫" * 8 + "…"),
    ],
)
def test_class_names_are_cut_to_one_short_line(name: str, short: str) -> None:
    assert canvas.shortened(name) == short


@pytest.mark.parametrize(("classes", "step"), [(40, 1), (41, 2), (100, 3)])
def test_too_many_class_names_are_thinned_out(classes: int, step: int) -> None:
    axis = canvas.new_figure(4, 3).subplots().xaxis
    canvas.name_ticks(axis, [str(index) for index in range(classes)])
    shown = [label.get_text() for label in axis.get_ticklabels()]
    assert shown == [str(index) for index in range(0, classes, step)]


def test_floats_become_rounded_bytes_and_bytes_stay() -> None:
    scaled = canvas.as_uint8(np.array([0.0, 0.4999 / 255, 0.5, 1.0, 1.2], np.float32))
    assert scaled.tolist() == [0, 0, 128, 255, 255]
    assert canvas.as_uint8(np.array([0, 1, 255], np.uint8)).tolist() == [0, 1, 255]
