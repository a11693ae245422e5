"""Figures about classes and probabilities: class balance, confusion matrix, reliability diagram.

Each function returns a PNG; see `png_bytes` in `tasks.core.drawing.canvas` for `note` and
`families`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Int64
from tasks.core.drawing.canvas import (
    BLUE,
    GREY,
    MOST_NAMES,
    VERMILLION,
    name_ticks,
    new_figure,
    png_bytes,
    simplify,
    use_percent,
    use_whole_numbers,
)
from tasks.core.statistics.metrics import Calibration

_MOST_CLASSES_WITH_COUNTS = 20

Counts = Sequence[int] | NDArray[np.integer[Any]]


def class_balance(
    train_counts: Counts,
    test_counts: Counts,
    class_names: Sequence[str],
    note: str,
    families: Sequence[str] = (),
) -> bytes:
    """Images per class in the raw training and test split, one panel each."""
    figure = new_figure(9, min(14.0, 1.3 + 0.27 * len(class_names)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, counts, title in zip(
        panels, (train_counts, test_counts), ("Training", "Test"), strict=True
    ):
        bars = axes.barh(range(len(counts)), counts, height=0.72, color=BLUE)
        axes.set_title(f"{title}: images of each class", fontsize=11)
        axes.set_xlim(0, 1.18 * max(1, *counts))
        use_whole_numbers(axes.xaxis, 5, steps=[1, 2, 5, 10])
        axes.xaxis.set_major_formatter("{x:,.0f}")
        if len(counts) <= MOST_NAMES:
            axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        simplify(axes, grid="x")
    name_ticks(panels[0].yaxis, class_names)
    panels[0].set_ylim(len(class_names) - 0.4, -0.6)
    return png_bytes(figure, note, families)


def confusion(
    matrix: Int64,
    class_names: Sequence[str],
    title: str,
    note: str,
    families: Sequence[str] = (),
) -> bytes:
    """A confusion matrix `(k, k)` of counts: row = label, column = prediction.

    The shade of a cell is its share of the row. With up to 20 classes, counts above 0 are printed.
    """
    classes = len(class_names)
    side = float(np.clip(2.6 + 0.5 * classes, 4.6, 11.0))
    figure = new_figure(side + 0.9, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if classes <= _MOST_CLASSES_WITH_COUNTS:
        for row, column in np.argwhere(matrix):
            ink = "white" if share[row, column] > 0.5 else "black"
            count = f"{matrix[row, column]:,}"
            axes.text(column, row, count, ha="center", va="center", color=ink, fontsize=8.5)
    name_ticks(axes.xaxis, class_names, rotation=45, ha="right", rotation_mode="anchor")
    name_ticks(axes.yaxis, class_names)
    axes.set(xlabel="Predicted", ylabel="Label")
    axes.set_title(title, fontsize=12)
    colours = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    colours.set_label("Share of the label's images", fontsize=9)
    use_percent(colours.ax.yaxis, 0)
    return png_bytes(figure, note, families)


def reliability(found: Calibration, title: str, note: str) -> bytes:
    """A reliability diagram: accuracy by confidence above, the share of images per bin below."""
    figure = new_figure(6.2, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = len(found.count)
    middles = (np.arange(bins) + 0.5) / bins
    filled = found.count > 0
    upper.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.2, label="perfectly calibrated")
    upper.bar(middles[filled], found.accuracy[filled], 0.92 / bins, color=BLUE, label="accuracy")
    upper.scatter(
        found.confidence[filled],
        found.confidence[filled],
        marker="_",
        s=160,
        lw=2,
        color=VERMILLION,
        zorder=3,
        label="mean confidence",
    )
    upper.set(ylim=(0, 1.02), ylabel="Accuracy")
    upper.set_title(f"{title}\nexpected calibration error {100 * found.error:.2f} %", fontsize=11)
    upper.legend(loc="upper left", frameon=False, fontsize=9)
    lower.bar(middles, found.count / max(1, found.count.sum()), 0.92 / bins, color=GREY)
    lower.set(xlim=(0, 1), xlabel="Confidence", ylabel="Share of images")
    for axes in (upper, lower):
        use_percent(axes.yaxis, 0)
        simplify(axes, grid="both")
    use_percent(lower.xaxis, 0)
    return png_bytes(figure, note)
