"""Figures of images: any colours and proportions, and any number of images."""

from __future__ import annotations

import numpy as np

from tasks.core.drawing import image_grids
from tests.tasks.core.drawing.samples import (
    CLASSES,
    COLOUR,
    GREY,
    LABELS,
    NOTE,
    SCALED,
    drawn_by,
    size_of,
    texts,
)


def test_colour_images_of_any_proportions() -> None:
    size_of(image_grids.sample_grid(COLOUR, LABELS, CLASSES, NOTE))
    size_of(image_grids.augmented_samples(COLOUR[:2], COLOUR[2:4], NOTE))
    after = COLOUR[:3].astype(np.float32)
    size_of(image_grids.before_after(COLOUR[:3], after, LABELS[:3], CLASSES, NOTE))
    below_zero = image_grids.before_after(COLOUR[:3], after - 100, LABELS[:3], CLASSES, NOTE)
    size_of(below_zero)
    assert below_zero != image_grids.before_after(COLOUR[:3], after, LABELS[:3], CLASSES, NOTE)


def test_cells_without_an_image_stay_empty() -> None:
    with drawn_by(image_grids) as figures:
        image_grids.sample_grid(GREY[:2], LABELS, CLASSES, "")
    assert [len(axes.images) for axes in figures[0].axes] == [1] * 2 + [0] * 23


def test_before_and_after_give_shapes_and_ranges() -> None:
    after = np.full((1, 4, 5, 3), 7, np.float32)
    after[0, 0] = -104
    with drawn_by(image_grids) as figures:
        image_grids.before_after(COLOUR[:1], after, LABELS[:1], CLASSES, "")
    assert "4 x 5 x 3, \N{MINUS SIGN}104 to 7" in texts(figures[0])


def test_three_pairs_fill_a_row() -> None:
    heights = []
    for count in (3, 4):
        pairs = GREY[:count], GREY[count : 2 * count], [("a", "b")] * count, ["same"] * count
        heights.append(size_of(image_grids.image_pairs(*pairs, ""))[1])
    assert heights[1] == 2 * heights[0]


def test_a_confused_image_has_its_probability_below() -> None:
    rows = [("a taken for b", SCALED[:2], np.array([0.9, 0.506], np.float32))]
    with drawn_by(image_grids) as figures:
        image_grids.confused_pairs(rows, "")
    assert {"a taken for b", "90 %", "51 %"} <= set(texts(figures[0]))


def test_a_suspect_has_its_rank_and_both_labels() -> None:
    suggested = [("b", 0.97), ("a class with a very long name", 0.5)]
    with drawn_by(image_grids) as figures:
        image_grids.label_suspects(GREY[:2], ["a", "b"], suggested, "")
    words = set(texts(figures[0]))
    assert {"1. a", "b\n97 %", "2. b", "a class with a ve…\n50 %"} <= words
    assert [len(axes.images) for axes in figures[0].axes] == [1] * 2 + [0] * 8


def test_ten_suspects_fill_a_row() -> None:
    heights = []
    for count in (1, 10, 11):
        shown = np.repeat(COLOUR[:1], count, axis=0)
        suspects = shown, ["a"] * count, [("b", 1.0)] * count, NOTE
        heights.append(size_of(image_grids.label_suspects(*suspects))[1])
    assert heights[0] == heights[1] < heights[2]
