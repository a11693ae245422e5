"""The pictures are PNGs of the same bytes each time, whatever the data look like."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from tasks.core.drawing import figures
from tasks.core.statistics.metrics import calibration

NOTE = "SYNTHETIC DATA: drawn by the program"
CLASSES = ("T-shirt/top", "$\\frac{", "a name\nthat goes on and on and on")
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 28, 28, 1)).astype(np.uint8)
SCALED = GREY.astype(np.float32) / np.float32(255)
COLOUR = RNG.integers(0, 256, (30, 12, 20, 3)).astype(np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 3
HISTORY: dict[str, list[float]] = {
    "epoch": [1, 2, 3],
    "loss": [2.5, 0.8, 0.4],
    "accuracy": [0.1, 0.7, 0.9],
    "val_loss": [0.9, 0.6, 0.7],
    "val_accuracy": [0.6, 0.8, 0.8],
}
UNVALIDATED = {key: HISTORY[key] for key in ("loss", "accuracy")}
VERDICTS = [
    {
        "gate": gate,
        "decision": decision,
        "state": state,
        "delta_accuracy": 0.01 * gate,
        "ci_low": -0.02,
        "ci_high": 0.05,
        "p_value": 10.0**-gate,
    }
    for gate, (decision, state) in enumerate(
        [("forward", "RolledForward"), ("back", "Inconclusive"), ("forward", "ForcedForward")], 1
    )
]
MATRIX = np.array([[5, 1, 0], [0, 0, 0], [2, 0, 9]])

DRAWINGS: dict[str, Callable[[str], bytes]] = {
    "sample_grid": lambda note: figures.sample_grid(GREY, LABELS, CLASSES, note),
    "class_balance": lambda note: figures.class_balance([6, 5, 7], [1, 0, 2], CLASSES, note),
    "learning_curves": lambda note: figures.learning_curves(HISTORY, "Model", note),
    "final_curves": lambda note: figures.final_curves(UNVALIDATED, "Model", note),
    "before_after": lambda note: figures.before_after(
        GREY[:3], np.float32(1.0001) * GREY[:3].repeat(3, axis=3), LABELS[:3], CLASSES, note
    ),
    "confusion": lambda note: figures.confusion(MATRIX, CLASSES, "Test", note),
    "accuracy_chart": lambda note: figures.accuracy_chart(
        ["one", "two"], [0.8, None], [(0.7, 0.85)], [0.75, 0.9], note
    ),
    "many_curves": lambda note: figures.learning_curves(
        HISTORY, "Model", note, others=[HISTORY, HISTORY]
    ),
    "image_pairs": lambda note: figures.image_pairs(
        GREY[:4], GREY[4:8], [("train: $x$", "test: y")] * 4, ["identical"] * 4, note
    ),
    "confused_pairs": lambda note: figures.confused_pairs(
        [
            ("$x taken for y", SCALED[:3], np.array([0.9, 0.8, 0.5], np.float32)),
            ("one image", SCALED[:1], np.ones(1, np.float32)),
        ],
        note,
    ),
    "reliability": lambda note: figures.reliability(
        calibration(np.array([0.2, 0.9, 1.0]), np.array([True, False, True])), "Model", note
    ),
    "decision_tree": lambda note: figures.decision_tree(VERDICTS, ["x" * 80, "$y", "z"], note),
    "augmented_samples": lambda note: figures.augmented_samples(
        GREY[:4], GREY[:4].astype(np.float32) / np.float32(255), note
    ),
}


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header; fails if the bytes are no PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_same_bytes_each_time_and_the_note_shows(draw: Callable[[str], bytes]) -> None:
    """Equal inputs give equal bytes, without the writing program's name; a note changes them."""
    noted = draw(NOTE)
    assert noted == draw(NOTE)
    assert noted != draw("")
    assert b"Software" not in noted
    width, height = size_of(noted)
    assert 400 <= width <= 2000
    assert 200 <= height <= 2000


@pytest.mark.parametrize("classes", [2, 30, 60])
def test_any_number_of_classes(classes: int) -> None:
    """Class balance grows with the classes up to a limit; a confusion matrix stays square-ish."""
    names = [f"class {index}" for index in range(classes)]
    counts = list(range(classes))
    _, height = size_of(figures.class_balance(counts, counts, names, ""))
    assert 200 <= height <= 1700
    width, height = size_of(figures.confusion(np.eye(classes, dtype=np.int64), names, "Test", ""))
    assert 500 <= height <= width <= 1600


def test_colour_images() -> None:
    """Colour images of any proportions are drawn as they are."""
    size_of(figures.sample_grid(COLOUR, LABELS, CLASSES, NOTE))
    size_of(figures.augmented_samples(COLOUR[:2], COLOUR[2:4], NOTE))
    after = COLOUR[:3].astype(np.float32)
    size_of(figures.before_after(COLOUR[:3], after, LABELS[:3], CLASSES, NOTE))
    below_zero = figures.before_after(COLOUR[:3], after - 100, LABELS[:3], CLASSES, NOTE)
    size_of(below_zero)
    assert below_zero != figures.before_after(COLOUR[:3], after, LABELS[:3], CLASSES, NOTE)


def test_fewer_images_than_cells() -> None:
    """A grid of two images leaves the other cells empty."""
    assert figures.sample_grid(GREY[:2], LABELS, CLASSES, "") != figures.sample_grid(
        GREY[:3], LABELS, CLASSES, ""
    )


def test_single_epoch_shows_its_validation_scores() -> None:
    """One epoch is no line, but its validation scores can be seen all the same."""
    once = {key: values[:1] for key, values in HISTORY.items()}
    without = {key: once[key] for key in ("loss", "accuracy")}
    seen = figures.learning_curves(once, "Model", "")
    assert seen != figures.learning_curves(once | {"val_accuracy": [0.55]}, "Model", "")
    assert seen != figures.learning_curves(without, "Model", "")
    size_of(figures.final_curves(without, "Model", ""))


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([0.6, 0.9], (0.5, 1.0)),
        ([0.34, 0.9], (0.3, 1.0)),
        ([0.05, 0.9], (0.0, 1.0)),
        ([0.6, 2.0], (0.5, 2.08)),
    ],
)
def test_limits_widen_only_where_they_would_cut(
    values: list[float], limits: tuple[float, float]
) -> None:
    """The notebook's limits hold unless a value lies outside."""
    assert figures._widened(0.5, 1.0, values) == pytest.approx(limits)


BOTH = [(0.7, 0.95), (0.8, 0.95)]


def test_accuracy_chart_without_the_notebook_or_any_score() -> None:
    """Missing scores leave gaps, and nothing else."""
    size_of(figures.accuracy_chart(["one", "two"], [0.8, 0.9], BOTH, [None, None], ""))
    size_of(figures.accuracy_chart(["one", "two"], [None, None], [], [0.8, 0.9], ""))
    size_of(figures.accuracy_chart(["one"], [None], [], [None], ""))
    size_of(figures.accuracy_chart(["one"], [0.8], BOTH[:1], [0.8], ""))
