"""Figures that compare models: test scores, and the decision at each gate.

Each function returns a PNG; see `png_bytes` in `tasks.core.drawing.canvas` for `note` and
`families`.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.core.drawing.canvas import (
    BLUE,
    GREY,
    VERMILLION,
    new_figure,
    png_bytes,
    simplify,
    use_percent,
)
from tasks.core.drawing.lettering import cut, in_sentence, on_one_line
from tasks.core.settings.evaluation import Metric
from tasks.core.statistics.metric_words import NAMES, score_words, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The label of each state of a verdict in the chart of gates.
STATES = {
    "RolledForward": "rolled forward",
    "KeptIncumbent": "rolled back",
    "Inconclusive": "inconclusive, rolled back",
    "ForcedForward": "FORCED forward",
    "ForcedBack": "FORCED back",
}

Scores = Sequence[float | None]
Verdict = Mapping[str, Any]


def score_chart(
    names: Sequence[str],
    ours: Scores,
    intervals: Sequence[tuple[float, float]],
    notebook: Scores,
    note: str,
    metric: Metric = "accuracy",
) -> bytes:
    """Each model's test score with its 95 % interval, beside the notebook's.

    Scores are shares in [0, 1] or log losses in nats, or None if unknown.
    """
    labels = ["\n".join(textwrap.wrap(name, 28, max_lines=2, placeholder=" …")) for name in names]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = new_figure(9, 1.7 + 0.15 * (len(names) + lines))
    axes = figure.subplots()
    for row, pair in enumerate(zip(ours, notebook, strict=True)):
        known = [value for value in pair if value is not None]
        axes.plot(known, [row] * len(known), color=GREY, lw=1.2, zorder=1)
    for row, interval in enumerate(intervals):
        axes.plot(interval, [row, row], color=BLUE, lw=3.2, alpha=0.35, solid_capstyle="round")
    _draw_scores(axes, ours, notebook, metric)
    axes.set_xlim(*_limits(metric, [*ours, *notebook, *itertools.chain(*intervals)]))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), labels, fontsize=9)
    if metric != "log_loss":
        use_percent(axes.xaxis)
    nats = ", nats; lower is better" if metric == "log_loss" else ""
    axes.set_xlabel(f"Test {NAMES[metric]}{nats}")
    if axes.collections:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
    simplify(axes, grid="both")
    return png_bytes(figure, note)


def _draw_scores(axes: Axes, ours: Scores, notebook: Scores, metric: Metric) -> None:
    """Both series as dots, and as columns of figures to the right."""
    _draw_dots(axes, ours, marker="o", color=BLUE, s=48, label="this run, with 95 % interval")
    if any(value is not None for value in notebook):
        style = {"marker": "D", "fc": "white", "ec": VERMILLION, "s": 34, "lw": 1.5}
        _draw_dots(axes, notebook, label="the notebook", **style)
        _write_column(axes, 1.2, "notebook", notebook, VERMILLION, metric)
    _write_column(axes, 1.09, "this run", ours, BLUE, metric)


def _draw_dots(axes: Axes, values: Scores, **style: Any) -> None:
    known = [(value, row) for row, value in enumerate(values) if value is not None]
    if known:
        axes.scatter(*zip(*known, strict=True), zorder=2, **style)


def _write_column(
    axes: Axes, x: float, title: str, values: Scores, color: str, metric: Metric
) -> None:
    """Write scores in a column to the right of the axes."""
    style: dict[str, Any] = {"ha": "right", "color": color, "fontsize": 9}
    axes.text(x, 1.02, title, transform=axes.transAxes, va="bottom", **style)
    for row, value in enumerate(values):
        percent = "" if metric == "log_loss" else "%"
        text = "-" if value is None else score_words(metric, value) + percent
        axes.text(x, row, text, transform=axes.get_yaxis_transform(), va="center", **style)


def _limits(metric: Metric, values: Scores) -> tuple[float, float]:
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    margin = max(0.02, 0.06 * (max(known) - min(known)))
    most = max(known) + margin
    return max(-0.02, min(known) - margin), most if metric == "log_loss" else min(1.02, most)


def decision_tree(
    verdicts: Sequence[Verdict],
    changes: Sequence[str],
    note: str,
    families: Sequence[str] = (),
) -> bytes:
    """The gates from top to bottom: the decision on each change, and the evidence for it.

    `verdicts` are rows with `gate`, `decision`, `state`, `metric`, `gain`, `gain_low`, `gain_high`
    (in [-1, 1] or nats) and `p_value`; `changes` are the names of the changes.
    """
    figure = new_figure(10, 1.5 + 0.52 * len(verdicts))
    tree, gains = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    _draw_tree(tree, verdicts, changes)
    _draw_gains(gains, verdicts)
    return png_bytes(figure, note, families)


def _draw_tree(axes: Axes, verdicts: Sequence[Verdict], changes: Sequence[str]) -> None:
    """A trunk that moves right with each change that is kept, and a branch for each change."""
    axes.set_axis_off()
    trunk, trunk_row = 0.0, 0
    axes.scatter([trunk], [0], s=70, color=BLUE, zorder=3)
    axes.text(trunk + 0.12, 0, "overfitting model", va="center", fontsize=9.5)
    for row, (verdict, change) in enumerate(zip(verdicts, changes, strict=True), start=1):
        kept = verdict["decision"] == "forward"
        branch = trunk + 0.35
        color = BLUE if kept else GREY
        line: dict[str, Any] = {"color": color, "lw": 2.2 if kept else 1.2, "zorder": 1}
        axes.plot([trunk, trunk, branch], [trunk_row, row, row], **line)
        fill: dict[str, Any] = (
            {"color": BLUE} if kept else {"facecolor": "white", "edgecolor": GREY}
        )
        axes.scatter([branch], [row], s=70, zorder=3, linewidths=1.6, **fill)
        name = cut(textwrap.shorten(change, 34, placeholder=" …"), 34)
        if name == "…":  # one word of more than 34 letters, or a script without spaces
            name = cut(on_one_line(change), 34)
        label = f"{verdict['gate']}  {in_sentence(name)}: {STATES[verdict['state']]}"
        ink = "black" if kept else "#555555"
        axes.text(branch + 0.12, row, label, va="center", fontsize=9.5, color=ink)
        if kept:
            trunk, trunk_row = branch, row
    axes.set_xlim(-0.1, max(3.2, trunk + 2.6))


def _draw_gains(axes: Axes, verdicts: Sequence[Verdict]) -> None:
    """Each gate's gain by the metric with its interval and p value."""
    metric = verdicts[0]["metric"]
    scale = 1 if metric == "log_loss" else 100
    for row, verdict in enumerate(verdicts, start=1):
        color = BLUE if verdict["decision"] == "forward" else GREY
        points = [scale * verdict[name] for name in ("gain_low", "gain_high", "gain")]
        axes.plot(points[:2], [row, row], color=color, lw=2.2, solid_capstyle="round")
        axes.scatter(points[2:], [row], s=46, color=color, zorder=3)
        p_value = "p < 0.0001" if verdict["p_value"] < 1e-4 else f"p = {verdict['p_value']:.4f}"
        right: dict[str, Any] = {
            "transform": axes.get_yaxis_transform(),
            "va": "center",
            "fontsize": 8.5,
        }
        axes.text(1.02, row, p_value, **right)
    axes.axvline(0, color="black", lw=1, zorder=0)
    axes.set_ylim(len(verdicts) + 0.6, -0.5)
    what = "Decrease of" if metric == "log_loss" else "Gain in"
    label = f"{what} validation {NAMES[metric]}, {unit(metric)}, with 95 % interval"
    axes.set_xlabel(label, fontsize=9 if len(label) > 60 else None)
    simplify(axes, grid="x")
    axes.tick_params(left=False, labelleft=False)
