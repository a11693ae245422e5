"""Small inputs for the figures, and how to look at what was drawn."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
VERDICTS: list[dict[str, Any]] = [
    {
        "gate": gate,
        "decision": decision,
        "state": state,
        "delta_accuracy": 0.01 * gate,
        "ci_low": -0.02,
        "metric": "accuracy",
        "gain": 0.01 * gate,
        "gain_low": -0.02,
        "gain_high": 0.05,
        "ci_high": 0.05,
        "p_value": 10.0 ** (-2 * gate),
    }
    for gate, (decision, state) in enumerate(
        [("forward", "RolledForward"), ("back", "Inconclusive"), ("forward", "ForcedForward")], 1
    )
]
MATRIX = np.array([[5, 1, 0], [0, 0, 0], [2, 0, 9]])


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header; fails if the bytes are not a PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@contextmanager
def drawn_by(module: ModuleType) -> Iterator[list[Figure]]:
    """The figures that a module turns into PNGs meanwhile, for looking at their parts."""
    figures: list[Figure] = []
    write: Callable[[Figure, str, Sequence[str]], bytes] = module.png_bytes

    def keep(figure: Figure, note: str, families: Sequence[str] = ()) -> bytes:
        figures.append(figure)
        return write(figure, note, families)

    with mock.patch.object(module, "png_bytes", keep):
        yield figures


def texts(figure: Figure) -> list[str]:
    """Every text in a figure that is not empty."""
    from matplotlib.text import Text

    found = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in found if text]
