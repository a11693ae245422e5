"""Draw accuracy against seconds of training, from rows of `accuracy.py` and `peers.py`.

    python benchmarks/accuracy_plot.py [FILE ...] [--images 10000] [--out docs/accuracy_seconds.png]

A point is a program's recipe with one number of epochs: mean seconds, mean accuracy on all test
images, and a bar from the lowest to the highest accuracy if there are several seeds. Points of a
program are joined in the order of their seconds. The table that is printed has the same figures.
Without FILE it reads artifacts/accuracy/rows.jsonl.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from accuracy_rows import Row, rows

from tasks.core.drawing.canvas import BLUE, GREY, VERMILLION, new_figure, png_bytes, simplify

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "fashion-flow"
# Okabe and Ito's, as in all figures; GREY for programs that are not named here.
COLOURS = {OURS: BLUE, "Keras": VERMILLION, "fastai": "#009E73", "scikit-learn SVM": "#CC79A7"}
TICKS = {1: "1 s", 3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min", 120: "2 min", 300: "5 min"}
TICKS |= {600: "10 min", 1200: "20 min", 3600: "1 h", 7200: "2 h"}


@dataclass(frozen=True)
class Point:
    """The trainings of one recipe that differ by their seeds alone."""

    program: str
    label: str
    seconds: float
    accuracy: float
    low: float
    high: float
    seeds: int
    parameters: int | None
    speed: float


def points(found: Sequence[Row], images: int) -> list[Point]:
    """A point for each recipe on so many images, by program and seconds.

    Rows without seconds are left out. A training that was repeated with another version counts
    with its last row.
    """
    groups: dict[tuple[Any, ...], dict[int, Row]] = defaultdict(dict)
    for row in found:
        if row.images == images and row.seconds is not None:
            size = (row.budget, None if row.budget else row.epochs)
            groups[row.program, row.recipe, size][row.seed] = row
    made = []
    for (program, recipe, _), by_seed in groups.items():
        of = list(by_seed.values())
        accuracies = [row.accuracy for row in of]
        made.append(
            Point(
                program,
                recipe,
                mean(row.seconds for row in of if row.seconds is not None),
                mean(accuracies),
                min(accuracies),
                max(accuracies),
                len(of),
                of[0].parameters,
                mean(row.speed for row in of),
            )
        )
    return sorted(made, key=lambda point: (point.program, point.seconds))


def draw(shown: Sequence[Point], images: int) -> bytes:
    """The points as a PNG."""
    figure = new_figure(8, 4.6)
    axes = figure.subplots()
    programs: dict[str, list[Point]] = defaultdict(list)
    for point in shown:
        programs[point.program].append(point)
    for program, of in programs.items():
        color = COLOURS.get(program, GREY)
        x, y = [point.seconds for point in of], [point.accuracy for point in of]
        axes.plot(x, y, color=color, lw=2.4 if program == OURS else 1.4, zorder=2)
        axes.vlines(x, [p.low for p in of], [p.high for p in of], color=color, lw=2, alpha=0.6)
        axes.scatter(x, y, s=58 if program == OURS else 42, color=color, zorder=3)
    _scale(axes, shown)
    _name(axes, programs)
    axes.set_xlabel("Seconds of training on two cores, logarithmic scale", fontsize=11)
    axes.set_ylabel("Accuracy on 10,000 test images, %", fontsize=11)
    axes.set_title(
        f"Fashion-MNIST, {images:,} training images; mean, lowest and highest of the seeds",
        fontsize=11.5,
        loc="left",
    )
    simplify(axes, grid="both")
    axes.tick_params(labelsize=10.5)
    return png_bytes(figure, "")


def _scale(axes: Axes, shown: Sequence[Point]) -> None:
    """A logarithmic axis with ticks that people count in, and room for the names."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    least, most = min(p.seconds for p in shown), max(p.seconds for p in shown)
    axes.set_xlim(least / 1.5, most * 2.2)
    low, high = min(p.low for p in shown), max(p.high for p in shown)
    margin = max(0.3, 0.12 * (high - low))
    axes.set_ylim(low - margin, high + margin)
    inside = {at: name for at, name in TICKS.items() if least / 1.5 <= at <= most * 2.2}
    axes.set_xticks(list(inside), list(inside.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name(axes: Axes, programs: dict[str, list[Point]]) -> None:
    """Each program's name to the right of its last point, moved apart where they would touch."""
    low, high = axes.get_ylim()
    least = 0.07 * (high - low)
    places: list[tuple[float, float]] = []
    for program, of in sorted(programs.items(), key=lambda item: item[1][-1].accuracy):
        last = of[-1]
        y = last.accuracy
        # Names far apart in time can't touch.
        near = [at for seconds, at in places if 0.4 < seconds / last.seconds < 2.5]
        while any(abs(y - at) < least for at in near):
            y += least / 4
        places.append((last.seconds, y))
        axes.annotate(
            program,
            (last.seconds, y),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            weight="bold" if program == OURS else "normal",
            color=COLOURS.get(program, GREY),
        )


def table(shown: Sequence[Point]) -> str:
    """The points as a Markdown table."""
    head = (
        "| program | recipe | parameters | seeds | seconds | accuracy, % | lowest, highest "
        "| machine, GFLOP/s |\n| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |\n"
    )
    lines = []
    for point in shown:
        parameters = "" if point.parameters is None else f"{point.parameters:,}"
        lines.append(
            f"| {point.program} | {point.label} | {parameters} | {point.seeds} "
            f"| {point.seconds:.0f} | {point.accuracy:.2f} | {point.low:.2f}, {point.high:.2f} "
            f"| {point.speed:.0f} |"
        )
    return head + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "files", type=Path, nargs="*", default=[Path("artifacts/accuracy/rows.jsonl")]
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy_seconds.png"))
    given = parser.parse_args()
    shown = points([row for path in given.files for row in rows(path)], given.images)
    if not shown:
        parser.error(f"no row with {given.images:,} images in {', '.join(map(str, given.files))}")
    given.out.write_bytes(draw(shown, given.images))
    print(table(shown))


if __name__ == "__main__":
    main()
