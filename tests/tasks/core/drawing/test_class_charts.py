"""Charts about classes: any number of them, and the figures that are printed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.core.drawing import class_charts
from tasks.core.statistics.metrics import calibration
from tests.tasks.core.drawing.samples import CLASSES, MATRIX, drawn_by, size_of, texts


@pytest.mark.parametrize("classes", [2, 30, 60])
def test_any_number_of_classes(classes: int) -> None:
    """Class balance grows with the classes up to a limit; a confusion matrix stays near square."""
    names = [f"class {index}" for index in range(classes)]
    counts = list(range(classes))
    _, height = size_of(class_charts.class_balance(counts, counts, names, ""))
    assert 200 <= height <= 1700
    matrix = np.eye(classes, dtype=np.int64)
    width, height = size_of(class_charts.confusion(matrix, names, "Test", ""))
    assert 500 <= height <= width <= 1600


@pytest.mark.parametrize(("classes", "printed"), [(20, True), (21, False)])
def test_counts_are_printed_for_few_classes_only(classes: int, printed: bool) -> None:
    names = [f"class {index}" for index in range(classes)]
    with drawn_by(class_charts) as figures:
        class_charts.confusion(np.diag([1234] * classes), names, "Test", "")
    assert ("1,234" in texts(figures[0])) is printed


def test_zeros_of_a_confusion_matrix_are_not_printed() -> None:
    with drawn_by(class_charts) as figures:
        class_charts.confusion(MATRIX, CLASSES, "Test", "")
    cells = [text.get_text() for text in figures[0].axes[0].texts]
    assert cells == ["5", "1", "2", "9"]


def heights(axes: Any) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def test_a_reliability_diagram_has_a_bar_for_each_filled_bin() -> None:
    found = calibration(np.array([0.2, 0.9, 0.95]), np.array([True, False, True]))
    with drawn_by(class_charts) as figures:
        class_charts.reliability(found, "Model", "")
    upper, lower = figures[0].axes
    assert heights(upper) == pytest.approx([1.0, 0.0, 1.0])
    assert sum(heights(lower)) == pytest.approx(1)
    assert f"expected calibration error {100 * found.error:.2f} %" in upper.get_title()
