"""Mosaics of images: samples of each class, and images that show a finding.

Images are drawn as they are stored, with 0 as black. Each function returns a PNG; see `png_bytes`
in `tasks.core.drawing.canvas` for `note` and `families`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.core.array_types import UInt8
from tasks.core.drawing.canvas import new_figure, png_bytes, shortened
from tasks.core.drawing.lettering import wrapped

# Inches of an image's longer side, and of the space for the names of classes.
_CELL, _NAMES = 0.66, 1.6


def class_samples(
    rows: Sequence[tuple[str, UInt8]], note: str, families: Sequence[str] = ()
) -> bytes:
    """A row of images for each class: its name, and images `(k, h, w, c)` uint8 of one shape."""
    most = max(len(images) for _, images in rows)
    mosaic, (height, width) = _mosaic([images for _, images in rows], most)
    figure = new_figure(most * _cell(height, width)[1] + _NAMES, _tall(len(rows), height, width))
    axes = figure.subplots()
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_yticks(
        [row * height + height / 2 for row in range(len(rows))],
        [shortened(name) for name, _ in rows],
        fontsize=9,
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return png_bytes(figure, note, families)


def finding_images(
    images: UInt8, captions: Sequence[str], note: str, families: Sequence[str] = ()
) -> bytes:
    """Images `(k, h, w, c)` uint8 in one row, each with a caption of some words below."""
    mosaic, (height, width) = _mosaic([images], len(images))
    # Captions need more room than the images.
    figure = new_figure(len(images) * 1.0 + 0.2, height / width + 0.75)
    axes = figure.subplots()
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_xticks(
        [at * width + width / 2 for at in range(len(images))],
        [wrapped(caption, 14) for caption in captions],
        fontsize=7,
    )
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return png_bytes(figure, note, families)


def _tall(rows: int, height: int, width: int) -> float:
    return rows * _cell(height, width)[0] + 0.2


def _cell(height: int, width: int) -> tuple[float, float]:
    longer = max(height, width)
    return _CELL * height / longer, _CELL * width / longer


def _mosaic(rows: Sequence[UInt8], most: int) -> tuple[UInt8, tuple[int, int]]:
    """The images in RGB on white, and the height and width of a cell, a gap included."""
    _, height, width, _ = rows[0].shape
    gap = max(1, max(height, width) // 14)
    found = np.full((len(rows), most, height + gap, width + gap, 3), 255, np.uint8)
    for row, images in zip(found, rows, strict=True):
        row[: len(images), gap // 2 : gap // 2 + height, gap // 2 : gap // 2 + width] = images
    mosaic: UInt8 = found.swapaxes(1, 2).reshape(-1, most * (width + gap), 3)
    return mosaic, (height + gap, width + gap)
