"""Figures of training histories: loss and accuracy by epoch.

Each function returns a PNG; see `tasks.core.drawing.canvas` for `note`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.drawing.canvas import (
    BLUE,
    COMPACT_LEGEND,
    GREY,
    VERMILLION,
    new_figure,
    png_bytes,
    simplify,
    use_whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# One value per epoch for each of `loss`, `accuracy` and, with a validation split, `val_loss` and
# `val_accuracy`.
History = Mapping[str, Sequence[float]]


def learning_curves(
    history: History,
    title: str,
    note: str,
    loss_top: float = 1.2,
    others: Sequence[History] = (),
) -> bytes:
    """Loss and accuracy by epoch, side by side: dots for training, a line for validation.

    Thin lines show the validation scores of `others`, the model's trainings with other seeds. The
    axes are the notebook's (loss 0 to `loss_top`: 1.2, and 0.3 for VGG16; accuracy 0.5 to 1),
    widened if a value lies outside.
    """
    figure = new_figure(10, 4.1)
    panels = figure.subplots(1, 2)
    for axes, key, low, high in zip(
        panels, ("loss", "accuracy"), (0.0, 0.5), (loss_top, 1.0), strict=True
    ):
        _draw_curve(axes, history, key)
        spread = [other[f"val_{key}"] for other in others if f"val_{key}" in other]
        for number, values in enumerate(spread):
            label = None if number else "other seeds"
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, color=VERMILLION, lw=0.7, alpha=0.45, label=label)
        shown = [*history[key], *history.get(f"val_{key}", ()), *itertools.chain(*spread)]
        axes.set_ylim(*_widened(low, high, shown))
        axes.set_ylabel(key.capitalize())
        # Above the panel, where it covers no curve.
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), **COMPACT_LEGEND)
    figure.suptitle(title, fontsize=13)
    return png_bytes(figure, note)


def final_curves(history: History, title: str, note: str) -> bytes:
    """Training accuracy (left axis) and loss (right axis) by epoch, the notebook's last figure."""
    figure = new_figure(10, 4)
    left = figure.subplots()
    right = left.twinx()
    epochs = range(1, len(history["loss"]) + 1)
    accuracy = left.plot(epochs, history["accuracy"], color=BLUE, marker="o", label="Accuracy")
    loss = right.plot(epochs, history["loss"], color=VERMILLION, ls="--", marker="s", label="Loss")
    left.set_title(title, fontsize=13)
    left.set_ylabel("Accuracy", color=BLUE)
    right.set_ylabel("Loss", color=VERMILLION)
    right.set_ylim(bottom=0)
    _use_epochs(left, len(epochs))
    left.legend(handles=[*accuracy, *loss], loc="center right", frameon=False)
    return png_bytes(figure, note)


def _draw_curve(axes: Axes, history: History, key: str) -> None:
    values, held_out = history[key], history.get(f"val_{key}")
    epochs = range(1, len(values) + 1)
    axes.plot(epochs, values, "o", color=BLUE, ms=5, clip_on=False, label="training")
    if held_out is not None:
        # A line through a single epoch would be invisible without a marker.
        marker = "s" if len(epochs) == 1 else None
        axes.plot(epochs, held_out, color=VERMILLION, marker=marker, label="validation")
    if "val_loss" in history:
        best = int(np.argmin(history["val_loss"])) + 1
        label = f"lowest validation loss: epoch {best}"
        axes.axvline(best, color=GREY, ls=":", lw=1.3, zorder=0, label=label)
    _use_epochs(axes, len(epochs))


def _use_epochs(axes: Axes, epochs: int) -> None:
    axes.set_xlim(0.5, epochs + 0.5)
    use_whole_numbers(axes.xaxis, 12, min_n_ticks=1)
    axes.set_xlabel("Epoch")
    simplify(axes, grid="both")


def _widened(low: float, high: float, values: Sequence[float]) -> tuple[float, float]:
    """The limits, moved outwards if a value lies outside."""
    if min(values) < low:
        low = max(0.0, math.floor(10 * min(values)) / 10)
    if max(values) > high:
        high = 1.04 * max(values)
    return low, high
