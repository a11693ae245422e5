"""Shared by all figures: colours, creating a figure, its PNG bytes, images and axes.

Figures are drawn on the Agg canvas and never with pyplot, so threads share no state. The PNG does
not name the program that wrote it, so equal inputs give equal bytes. The colours are Okabe and
Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import UInt8
from tasks.core.characters import unusual
from tasks.core.drawing.lettering import cut, on_one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#8C8C8C"
# With more classes, only every second, third ... name is shown.
MOST_NAMES = 40
_LONGEST_NAME = 18

COMPACT_LEGEND: Mapping[str, Any] = {
    "ncols": 3,
    "frameon": False,
    "fontsize": 8.5,
    "handlelength": 1.3,
    "handletextpad": 0.5,
    "columnspacing": 1.1,
}


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure; width and height in inches."""
    # Matplotlib takes half a second to import, so only drawing imports it. All figures start here,
    # so no thread uses the module while another is still importing it.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=120, facecolor="white", layout=layout)


def png_bytes(figure: Figure, note: str, families: Sequence[str] = ()) -> bytes:
    """The figure as PNG; a `note` that is not empty appears below it in a conspicuous box.

    Names that DejaVu Sans may lack characters of are drawn with `families`, too.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    if note:
        lines = textwrap.wrap(note, int(figure.get_figwidth() * 11))
        box = {"facecolor": VERMILLION, "edgecolor": "none", "boxstyle": "square,pad=0.5"}
        figure.supxlabel("\n".join(lines), fontsize=9, color="white", weight="bold", bbox=box)
    for text in figure.findobj(Text):
        # A class may be called "$5_": that is a name and not a formula.
        text.set_parse_math(False)
        if families and unusual([text.get_text()]):
            text.set_fontfamily(["DejaVu Sans", *families])
    buffer = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def show_image(axes: Axes, image: UInt8, colormap: str = "binary") -> None:
    """Show an `(h, w, 1 or 3)` image without ticks; `colormap` applies to one channel only."""
    one_channel = image.shape[2] == 1
    axes.imshow(image[..., 0] if one_channel else image, cmap=colormap, vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#D0D0D0")


def as_uint8(image: NDArray[Any]) -> UInt8:
    """Return uint8 in [0, 255] unchanged; scale and round floats in [0, 1]."""
    scale = 1 if image.dtype == np.uint8 else 255
    scaled: UInt8 = np.rint(scale * image).clip(0, 255).astype(np.uint8)
    return scaled


def use_percent(axis: Axis, decimals: int | None = None) -> None:
    """Label an axis from 0 to 1 in per cent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals))


def use_whole_numbers(axis: Axis, most: int, **options: Any) -> None:
    """Put at most `most` ticks on an axis, all of them at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=True, **options))


def simplify(axes: Axes, grid: Literal["x", "both"]) -> None:
    """Remove the upper and right frame and draw a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#E3E3E3", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def name_ticks(axis: Any, names: Sequence[str], **text: Any) -> None:
    """Put class names along an axis, leaving some out if there are too many to read."""
    step = -(-len(names) // MOST_NAMES)
    shown = range(0, len(names), step)
    axis.set_ticks(shown, [shortened(names[index]) for index in shown], fontsize=9, **text)


def shortened(name: str) -> str:
    """A class name on one line and short enough for a label."""
    return cut(on_one_line(name), _LONGEST_NAME)
