"""Comparisons of models: what is written beside each, and what missing scores leave out."""

from __future__ import annotations

import pytest

from tasks.core.drawing import comparisons
from tests.tasks.core.drawing.samples import VERDICTS, drawn_by, size_of, texts

BOTH = [(0.7, 0.95), (0.8, 0.95)]


def test_the_score_chart_without_the_notebook_or_any_score() -> None:
    size_of(comparisons.score_chart(["one", "two"], [0.8, 0.9], BOTH, [None, None], ""))
    size_of(comparisons.score_chart(["one", "two"], [None, None], [], [0.8, 0.9], ""))
    size_of(comparisons.score_chart(["one"], [None], [], [None], ""))
    size_of(comparisons.score_chart(["one"], [0.8], BOTH[:1], [0.8], ""))


def test_accuracies_are_written_beside_the_chart() -> None:
    with drawn_by(comparisons) as figures:
        comparisons.score_chart(["one", "two"], [0.8, None], BOTH[:1], [0.75, 0.9], "")
        comparisons.score_chart(["one"], [0.8], BOTH[:1], [None], "")
    both, ours = map(texts, figures)
    assert {"this run", "80.00%", "-", "notebook", "75.00%", "90.00%"} <= set(both)
    assert "80.00%" in ours
    assert not {"notebook", "the notebook", "-"} & set(ours)


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([None], (0.0, 1.0)),
        ([0.5, None, 0.6], (0.48, 0.62)),
        ([0.0, 1.0], (-0.02, 1.02)),
    ],
)
def test_the_axis_fits_the_accuracies(
    values: list[float | None], limits: tuple[float, float]
) -> None:
    assert comparisons._limits("accuracy", values) == pytest.approx(limits)


def test_each_gate_has_its_decision_and_p_value() -> None:
    with drawn_by(comparisons) as figures:
        comparisons.decision_tree(VERDICTS, ["x", "y", "z"], "")
    assert {
        "1  x: rolled forward",
        "2  y: inconclusive, rolled back",
        "3  z: FORCED forward",
        "p = 0.0100",
        "p = 0.0001",
        "p < 0.0001",
    } <= set(texts(figures[0]))


def test_the_trunk_moves_right_with_each_change_that_is_kept() -> None:
    with drawn_by(comparisons) as figures:
        comparisons.decision_tree(VERDICTS, ["x", "y", "z"], "")
    trunks = [line.get_xdata()[0] for line in figures[0].axes[0].lines]  # type: ignore[index]
    assert trunks == pytest.approx([0.0, 0.35, 0.35])
