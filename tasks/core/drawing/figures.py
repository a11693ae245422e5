"""The report's pictures: each function turns arrays and scores into the bytes of one PNG.

Drawn with the Agg canvas and never with pyplot, so that threads do not share a figure, and without
the name of the program that wrote it, so that equal inputs give equal bytes. Colours are Okabe and
Ito's, which colour-blind readers can tell apart. Every function takes a `note`: where it is not
empty it stands on the picture in a box that cannot be missed.
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.labelled import Float32, Int64, UInt8
from tasks.core.statistics.metrics import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#8C8C8C"
STATES = {
    "RolledForward": "rolled forward",
    "KeptIncumbent": "rolled back",
    "Inconclusive": "inconclusive, rolled back",
    "ForcedForward": "FORCED forward",
    "ForcedBack": "FORCED back",
}
_MOST_NAMES = 40
_LONGEST_NAME = 18
_MOST_CELLS_WITH_COUNTS = 20

_COMPACT: Mapping[str, Any] = {
    "ncols": 3,
    "frameon": False,
    "fontsize": 8.5,
    "handlelength": 1.3,
    "handletextpad": 0.5,
    "columnspacing": 1.1,
}

History = Mapping[str, Sequence[float]]
Labels = NDArray[np.integer[Any]]
Counts = Sequence[int] | NDArray[np.integer[Any]]


def sample_grid(images: UInt8, labels: Labels, class_names: Sequence[str], note: str) -> bytes:
    """The first 25 images in a 5 x 5 grid, class names below, as in the notebook.

    `images` is `(n, h, w, c)` uint8 in [0, 255], `labels` `(n,)`. One-channel images are shown
    dark on white, colour images as they are; where `n` is less than 25 cells stay empty.
    """
    figure = _figure(7.2, 7.9)
    cells = figure.subplots(5, 5).flat
    for index, axes in enumerate(cells):
        if index < len(images):
            _show(axes, images[index])
            axes.set_xlabel(_short(class_names[labels[index]]), fontsize=9, labelpad=3)
        else:
            axes.set_axis_off()
    return _png(figure, note)


def class_balance(
    train_counts: Counts, test_counts: Counts, class_names: Sequence[str], note: str
) -> bytes:
    """Images of each class in the raw training and test split, one panel each."""
    figure = _figure(9, min(14.0, 1.3 + 0.27 * len(class_names)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, counts, title in zip(
        panels, (train_counts, test_counts), ("Training", "Test"), strict=True
    ):
        bars = axes.barh(range(len(counts)), counts, height=0.72, color=BLUE)
        axes.set_title(f"{title}: images of each class", fontsize=11)
        axes.set_xlim(0, 1.18 * max(1, *counts))
        _whole_numbers(axes.xaxis, 5, steps=[1, 2, 5, 10])
        axes.xaxis.set_major_formatter("{x:,.0f}")
        if len(counts) <= _MOST_NAMES:
            axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        _plain(axes, grid="x")
    _name_ticks(panels[0].yaxis, class_names)
    panels[0].set_ylim(len(class_names) - 0.4, -0.6)
    return _png(figure, note)


def learning_curves(
    history: History,
    title: str,
    note: str,
    loss_top: float = 1.2,
    others: Sequence[History] = (),
) -> bytes:
    """Loss and accuracy by epoch, side by side: dots for training, a line for validation.

    `history` has `loss` and `accuracy`, and `val_loss` and `val_accuracy` where there was a
    validation split, one value an epoch; of the model's `others`, thin lines show the latter. The
    axes are the notebook's (loss 0 to `loss_top`: 1.2, and 0.3 for VGG16; accuracy 0.5 to 1),
    wider where they would cut a value off.
    """
    figure = _figure(10, 4.1)
    panels = figure.subplots(1, 2)
    for axes, key, low, high in zip(
        panels, ("loss", "accuracy"), (0.0, 0.5), (loss_top, 1.0), strict=True
    ):
        _curve(axes, history, key)
        spread = [other[f"val_{key}"] for other in others if f"val_{key}" in other]
        for number, values in enumerate(spread):
            label = None if number else "other seeds"
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, color=VERMILLION, lw=0.7, alpha=0.45, label=label)
        shown = [*history[key], *history.get(f"val_{key}", ()), *itertools.chain(*spread)]
        axes.set_ylim(*_widened(low, high, shown))
        axes.set_ylabel(key.capitalize())
        # Above the panel, where it covers no curve.
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), **_COMPACT)
    figure.suptitle(title, fontsize=13)
    return _png(figure, note)


def final_curves(history: History, title: str, note: str) -> bytes:
    """Training accuracy (left axis) and loss (right axis) by epoch, as the notebook ends.

    `history` has `loss` and `accuracy`, one value an epoch.
    """
    figure = _figure(10, 4)
    left = figure.subplots()
    right = left.twinx()
    epochs = range(1, len(history["loss"]) + 1)
    accuracy = left.plot(epochs, history["accuracy"], color=BLUE, marker="o", label="Accuracy")
    loss = right.plot(epochs, history["loss"], color=VERMILLION, ls="--", marker="s", label="Loss")
    left.set_title(title, fontsize=13)
    left.set_ylabel("Accuracy", color=BLUE)
    right.set_ylabel("Loss", color=VERMILLION)
    right.set_ylim(bottom=0)
    _epoch_axis(left, len(epochs))
    left.legend(handles=[*accuracy, *loss], loc="center right", frameon=False)
    return _png(figure, note)


def before_after(
    originals: UInt8, transformed: Float32, labels: Labels, class_names: Sequence[str], note: str
) -> bytes:
    """Images beside what VGG16 is given of them, with shapes and ranges of values.

    `originals` is `(n, h, w, c)` uint8 in [0, 255], shown with 0 as black: what networks get, light
    on dark. `transformed` is `(n, H, W, 3)` float32; where it leaves [0, 255], as with a mean
    subtracted, its lowest value is shown as black and its highest as white. `labels` is `(n,)`.
    """
    figure = _figure(5.2, 2.6 * len(originals))
    cells = figure.subplots(len(originals), 2, squeeze=False)
    low, high = (0.0, 255.0) if transformed.min() >= 0 else (transformed.min(), transformed.max())
    shown = (transformed - low) / (high - low)
    for row, original, after, values, label in zip(
        cells, originals, shown, transformed, labels, strict=True
    ):
        for axes, image, numbers in zip(row, (original, after), (original, values), strict=True):
            _show(axes, _as_bytes(image), grey="gray")
            axes.set_title(_short(class_names[label]), fontsize=10)
            shape = " x ".join(map(str, image.shape))
            extent = f"{numbers.min():.0f} to {numbers.max():.0f}".replace("-", "\N{MINUS SIGN}")
            axes.set_xlabel(f"{shape}, {extent}", fontsize=9)
    return _png(figure, note)


def confusion(matrix: Int64, class_names: Sequence[str], title: str, note: str) -> bytes:
    """A confusion matrix `(k, k)` of counts: row = label, column = prediction.

    Shading is the share of the row's images. Counts are printed for up to 20 classes, zeros not.
    """
    classes = len(class_names)
    side = float(np.clip(2.6 + 0.5 * classes, 4.6, 11.0))
    figure = _figure(side + 0.9, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if classes <= _MOST_CELLS_WITH_COUNTS:
        for row, column in np.argwhere(matrix):
            ink = "white" if share[row, column] > 0.5 else "black"
            count = f"{matrix[row, column]:,}"
            axes.text(column, row, count, ha="center", va="center", color=ink, fontsize=8.5)
    _name_ticks(axes.xaxis, class_names, rotation=45, ha="right", rotation_mode="anchor")
    _name_ticks(axes.yaxis, class_names)
    axes.set(xlabel="Predicted", ylabel="Label")
    axes.set_title(title, fontsize=12)
    colours = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    colours.set_label("Share of the label's images", fontsize=9)
    _per_cent(colours.ax.yaxis, 0)
    return _png(figure, note)


def accuracy_chart(
    names: Sequence[str],
    ours: Sequence[float | None],
    intervals: Sequence[tuple[float, float]],
    notebook: Sequence[float | None],
    note: str,
) -> bytes:
    """Test accuracy of each model with its 95 % interval, the notebook's beside it, as dots.

    Accuracies are in [0, 1], None where there is none; the notebook's may all be None.
    """
    labels = ["\n".join(textwrap.wrap(name, 28, max_lines=2, placeholder=" …")) for name in names]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = _figure(9, 1.7 + 0.15 * (len(names) + lines))
    axes = figure.subplots()
    rows = range(len(names))
    for row, pair in enumerate(zip(ours, notebook, strict=True)):
        known = [value for value in pair if value is not None]
        axes.plot(known, [row] * len(known), color=GREY, lw=1.2, zorder=1)
    for row, interval in enumerate(intervals):
        axes.plot(interval, [row, row], color=BLUE, lw=3.2, alpha=0.35, solid_capstyle="round")
    _dots(axes, ours, marker="o", color=BLUE, s=48, label="this run, with 95 % interval")
    if any(value is not None for value in notebook):
        _dots(
            axes,
            notebook,
            marker="D",
            fc="white",
            ec=VERMILLION,
            s=34,
            lw=1.5,
            label="the notebook",
        )
        _column(axes, 1.2, "notebook", notebook, VERMILLION)
    _column(axes, 1.09, "this run", ours, BLUE)
    axes.set_xlim(*_accuracy_limits([*ours, *notebook, *itertools.chain(*intervals)]))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(rows, labels, fontsize=9)
    _per_cent(axes.xaxis)
    axes.set_xlabel("Test accuracy")
    if axes.collections:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
    _plain(axes, grid="both")
    return _png(figure, note)


def augmented_samples(originals: UInt8 | Float32, augmented: UInt8 | Float32, note: str) -> bytes:
    """A few images, above, and one random distortion of each, below.

    Both are `(n, h, w, c)`, either uint8 in [0, 255] or float32 in [0, 1].
    """
    count = len(originals)
    figure = _figure(max(5.0, 1.25 * count + 0.3), 3.6)
    rows = figure.subplots(2, count, squeeze=False)
    for row, images, title in zip(
        rows, (originals, augmented), ("original", "distorted at random"), strict=True
    ):
        for axes, image in zip(row, images, strict=True):
            _show(axes, _as_bytes(image))
        row[0].set_title(title, fontsize=10, loc="left")
    return _png(figure, note)


def image_pairs(
    first: UInt8,
    second: UInt8,
    titles: Sequence[tuple[str, str]],
    captions: Sequence[str],
    note: str,
) -> bytes:
    """Pairs of images beside each other, three pairs a row.

    `first` and `second` are `(n, h, w, c)` uint8, with a title above each image and a caption
    below each pair.
    """
    rows = -(-len(captions) // 3)
    figure = _figure(9.6, 2.15 * rows)
    cells = figure.subfigures(rows, 3, squeeze=False).flat
    for cell, one, other, names, caption in zip(
        cells, first, second, titles, captions, strict=False
    ):
        for axes, image, name in zip(cell.subplots(1, 2), (one, other), names, strict=True):
            _show(axes, image)
            axes.set_title("\n".join(textwrap.wrap(name, 18)), fontsize=8)
        cell.supxlabel(caption, fontsize=8.5)
    return _png(figure, note)


def confused_pairs(rows: Sequence[tuple[str, Float32, Float32]], note: str) -> bytes:
    """For each pair of classes a row of images with the probability of the wrong class.

    A row is its title, images `(n, h, w, c)` float32 in [0, 1] and probabilities `(n,)`.
    """
    most = max(len(images) for _, images, _ in rows)
    figure = _figure(max(4.5, 1.1 * most), 1.75 * len(rows))
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (title, images, probabilities) in zip(parts, rows, strict=True):
        part.suptitle(title, fontsize=10, x=0.01, ha="left")
        cells = part.subplots(1, most, squeeze=False)[0]
        for axes in cells[len(images) :]:
            axes.set_axis_off()
        for axes, image, probability in zip(cells, images, probabilities, strict=False):
            _show(axes, _as_bytes(image))
            axes.set_xlabel(f"{100 * probability:.0f} %", fontsize=8.5, labelpad=2)
    return _png(figure, note)


def reliability(found: Calibration, title: str, note: str) -> bytes:
    """Accuracy at each confidence beside what it should be, and how many images are there."""
    figure = _figure(6.2, 5.6)
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
        _per_cent(axes.yaxis, 0)
        _plain(axes, grid="both")
    _per_cent(lower.xaxis, 0)
    return _png(figure, note)


def decision_tree(
    verdicts: Sequence[Mapping[str, Any]], changes: Sequence[str], note: str
) -> bytes:
    """The gates from top to bottom: what became of each change, and the evidence for it.

    `verdicts` are rows with `gate`, `decision`, `state`, `delta_accuracy`, `ci_low`, `ci_high` (in
    [-1, 1]) and `p_value`; `changes` are the names of the changes.
    """
    figure = _figure(10, 1.5 + 0.52 * len(verdicts))
    tree, axes = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    tree.set_axis_off()
    trunk, trunk_row = 0.0, 0
    tree.scatter([trunk], [0], s=70, color=BLUE, zorder=3)
    tree.text(trunk + 0.12, 0, "overfitting model", va="center", fontsize=9.5)
    for row, (verdict, change) in enumerate(zip(verdicts, changes, strict=True), start=1):
        kept = verdict["decision"] == "forward"
        branch = trunk + 0.35
        color = BLUE if kept else GREY
        line = {"color": color, "lw": 2.2 if kept else 1.2, "zorder": 1}
        tree.plot([trunk, trunk, branch], [trunk_row, row, row], **line)
        fill = {"color": BLUE} if kept else {"facecolor": "white", "edgecolor": GREY}
        tree.scatter([branch], [row], s=70, zorder=3, linewidths=1.6, **fill)
        name = textwrap.shorten(change, 34, placeholder=" …")
        label = f"{verdict['gate']}  {name}: {STATES[verdict['state']]}"
        ink = "black" if kept else "#555555"
        tree.text(branch + 0.12, row, label, va="center", fontsize=9.5, color=ink)
        if kept:
            trunk, trunk_row = branch, row
    tree.set_xlim(-0.1, max(3.2, trunk + 2.6))
    rows = range(1, len(verdicts) + 1)
    for row, verdict in zip(rows, verdicts, strict=True):
        color = BLUE if verdict["decision"] == "forward" else GREY
        points = [100 * verdict[name] for name in ("ci_low", "ci_high", "delta_accuracy")]
        axes.plot(points[:2], [row, row], color=color, lw=2.2, solid_capstyle="round")
        axes.scatter(points[2:], [row], s=46, color=color, zorder=3)
        p_value = "p < 0.0001" if verdict["p_value"] < 1e-4 else f"p = {verdict['p_value']:.4f}"
        right = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
        axes.text(1.02, row, p_value, **right)
    axes.axvline(0, color="black", lw=1, zorder=0)
    axes.set_ylim(len(verdicts) + 0.6, -0.5)
    axes.set_xlabel("Gain in validation accuracy, points, with 95 % interval")
    _plain(axes, grid="x")
    axes.tick_params(left=False, labelleft=False)
    return _png(figure, note)


def _figure(width: float, height: float) -> Figure:
    # Matplotlib takes half a second to import: not where nothing is drawn. Every picture begins
    # here, so that no thread finds another one in the middle of importing it.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=120, facecolor="white", layout=layout)


def _png(figure: Figure, note: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    if note:
        lines = textwrap.wrap(note, int(figure.get_figwidth() * 11))
        box = {"facecolor": VERMILLION, "edgecolor": "none", "boxstyle": "square,pad=0.5"}
        figure.supxlabel("\n".join(lines), fontsize=9, color="white", weight="bold", bbox=box)
    for text in figure.findobj(Text):
        # A class may be called "$5_": that is a name and not a formula.
        text.set_parse_math(False)
    buffer = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _show(axes: Axes, image: UInt8, grey: str = "binary") -> None:
    one_channel = image.shape[2] == 1
    axes.imshow(image[..., 0] if one_channel else image, cmap=grey, vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#D0D0D0")


def _as_bytes(image: NDArray[Any]) -> UInt8:
    """uint8 in [0, 255] as it is; float in [0, 1] scaled and rounded."""
    scale = 1 if image.dtype == np.uint8 else 255
    scaled: UInt8 = np.rint(scale * image).clip(0, 255).astype(np.uint8)
    return scaled


def _curve(axes: Axes, history: History, key: str) -> None:
    values, held_out = history[key], history.get(f"val_{key}")
    epochs = range(1, len(values) + 1)
    axes.plot(epochs, values, "o", color=BLUE, ms=5, clip_on=False, label="training")
    if held_out is not None:
        # The line through one epoch is a point, which only a marker shows.
        marker = "s" if len(epochs) == 1 else None
        axes.plot(epochs, held_out, color=VERMILLION, marker=marker, label="validation")
    if "val_loss" in history:
        best = int(np.argmin(history["val_loss"])) + 1
        label = f"lowest validation loss: epoch {best}"
        axes.axvline(best, color=GREY, ls=":", lw=1.3, zorder=0, label=label)
    _epoch_axis(axes, len(epochs))


def _epoch_axis(axes: Axes, epochs: int) -> None:
    axes.set_xlim(0.5, epochs + 0.5)
    _whole_numbers(axes.xaxis, 12, min_n_ticks=1)
    axes.set_xlabel("Epoch")
    _plain(axes, grid="both")


def _widened(low: float, high: float, values: Sequence[float]) -> tuple[float, float]:
    """The limits, moved out to the next tenth and a little more where a value lies outside."""
    if min(values) < low:
        low = max(0.0, math.floor(10 * min(values)) / 10)
    if max(values) > high:
        high = 1.04 * max(values)
    return low, high


def _per_cent(axis: Axis, decimals: int | None = None) -> None:
    """Label an axis from 0 to 1 in per cent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals))


def _whole_numbers(axis: Axis, most: int, **options: Any) -> None:
    """Put at most so many ticks on an axis, all of them at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=True, **options))


def _plain(axes: Axes, grid: Literal["x", "both"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#E3E3E3", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def _name_ticks(axis: Any, names: Sequence[str], **text: Any) -> None:
    """Class names along an axis; where there are too many to read, every second, third..."""
    step = -(-len(names) // _MOST_NAMES)
    shown = range(0, len(names), step)
    axis.set_ticks(shown, [_short(names[index]) for index in shown], fontsize=9, **text)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _dots(axes: Axes, values: Sequence[float | None], **style: Any) -> None:
    known = [(value, row) for row, value in enumerate(values) if value is not None]
    if known:
        axes.scatter(*zip(*known, strict=True), zorder=2, **style)


def _column(axes: Axes, x: float, title: str, values: Sequence[float | None], color: str) -> None:
    """The figures themselves, in percent, in a column right of the axes."""
    style: dict[str, Any] = {"ha": "right", "color": color, "fontsize": 9}
    axes.text(x, 1.02, title, transform=axes.transAxes, va="bottom", **style)
    for row, value in enumerate(values):
        text = "-" if value is None else f"{value:.2%}"
        axes.text(x, row, text, transform=axes.get_yaxis_transform(), va="center", **style)


def _accuracy_limits(values: Sequence[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    margin = max(0.02, 0.06 * (max(known) - min(known)))
    return max(-0.02, min(known) - margin), min(1.02, max(known) + margin)
