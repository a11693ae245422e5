"""Figures that show images: samples, pairs, mistakes, and what networks receive.

Each function returns a PNG; see `png_bytes` in `tasks.core.drawing.canvas` for `note` and
`families`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, UInt8
from tasks.core.drawing.canvas import as_uint8, new_figure, png_bytes, shortened, show_image
from tasks.core.drawing.lettering import wrapped

Labels = NDArray[np.integer[Any]]


def sample_grid(
    images: UInt8,
    labels: Labels,
    class_names: Sequence[str],
    note: str,
    families: Sequence[str] = (),
) -> bytes:
    """The first 25 images in a 5 x 5 grid with class names below, as in the notebook.

    `images` is `(n, h, w, c)` uint8 in [0, 255], `labels` is `(n,)`. One-channel images are drawn
    dark on white. If `n` is less than 25, the last cells stay empty.
    """
    figure = new_figure(7.2, 7.9)
    cells = figure.subplots(5, 5).flat
    for index, axes in enumerate(cells):
        if index < len(images):
            show_image(axes, images[index])
            axes.set_xlabel(shortened(class_names[labels[index]]), fontsize=9, labelpad=3)
        else:
            axes.set_axis_off()
    return png_bytes(figure, note, families)


def before_after(
    originals: UInt8,
    transformed: Float32,
    labels: Labels,
    class_names: Sequence[str],
    note: str,
    families: Sequence[str] = (),
) -> bytes:
    """Images beside what VGG16 receives for them, with shapes and ranges of values.

    `originals` is `(n, h, w, c)` uint8 in [0, 255], drawn with 0 as black. `transformed` is
    `(n, H, W, 3)` float32. If it has values below 0 (with a mean subtracted), its lowest value is
    drawn as black and its highest as white. `labels` is `(n,)`.
    """
    figure = new_figure(5.2, 2.6 * len(originals))
    cells = figure.subplots(len(originals), 2, squeeze=False)
    low, high = (0.0, 255.0) if transformed.min() >= 0 else (transformed.min(), transformed.max())
    shown = (transformed - low) / (high - low)
    for row, original, after, values, label in zip(
        cells, originals, shown, transformed, labels, strict=True
    ):
        for axes, image, numbers in zip(row, (original, after), (original, values), strict=True):
            show_image(axes, as_uint8(image), colormap="gray")
            axes.set_title(shortened(class_names[label]), fontsize=10)
            shape = " x ".join(map(str, image.shape))
            extent = f"{numbers.min():.0f} to {numbers.max():.0f}".replace("-", "\N{MINUS SIGN}")
            axes.set_xlabel(f"{shape}, {extent}", fontsize=9)
    return png_bytes(figure, note, families)


def augmented_samples(originals: UInt8 | Float32, augmented: UInt8 | Float32, note: str) -> bytes:
    """Some images in the upper row, one random distortion of each in the lower row.

    Both are `(n, h, w, c)`, either uint8 in [0, 255] or float32 in [0, 1].
    """
    count = len(originals)
    figure = new_figure(max(5.0, 1.25 * count + 0.3), 3.6)
    rows = figure.subplots(2, count, squeeze=False)
    for row, images, title in zip(
        rows, (originals, augmented), ("original", "distorted at random"), strict=True
    ):
        for axes, image in zip(row, images, strict=True):
            show_image(axes, as_uint8(image))
        row[0].set_title(title, fontsize=10, loc="left")
    return png_bytes(figure, note)


def image_pairs(
    first: UInt8,
    second: UInt8,
    titles: Sequence[tuple[str, str]],
    captions: Sequence[str],
    note: str,
    families: Sequence[str] = (),
) -> bytes:
    """Pairs of images side by side, three pairs per row.

    `first` and `second` are `(n, h, w, c)` uint8. Each image has a title above it, each pair a
    caption below.
    """
    rows = -(-len(captions) // 3)
    figure = new_figure(9.6, 2.15 * rows)
    cells = figure.subfigures(rows, 3, squeeze=False).flat
    for cell, one, other, names, caption in zip(
        cells, first, second, titles, captions, strict=False
    ):
        for axes, image, name in zip(cell.subplots(1, 2), (one, other), names, strict=True):
            show_image(axes, image)
            axes.set_title(wrapped(name, 18), fontsize=8)
        cell.supxlabel(caption, fontsize=8.5)
    return png_bytes(figure, note, families)


def confused_pairs(
    rows: Sequence[tuple[str, Float32, Float32]], note: str, families: Sequence[str] = ()
) -> bytes:
    """For each pair of confused classes, a row of images with the wrong class's probability.

    A row is its title, images `(n, h, w, c)` float32 in [0, 1] and probabilities `(n,)`.
    """
    most = max(len(images) for _, images, _ in rows)
    figure = new_figure(max(4.5, 1.1 * most), 1.75 * len(rows))
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (title, images, probabilities) in zip(parts, rows, strict=True):
        part.suptitle(title, fontsize=10, x=0.01, ha="left")
        cells = part.subplots(1, most, squeeze=False)[0]
        for axes in cells[len(images) :]:
            axes.set_axis_off()
        for axes, image, probability in zip(cells, images, probabilities, strict=False):
            show_image(axes, as_uint8(image))
            axes.set_xlabel(f"{100 * probability:.0f} %", fontsize=8.5, labelpad=2)
    return png_bytes(figure, note, families)


def label_suspects(
    images: UInt8,
    given: Sequence[str],
    suggested: Sequence[tuple[str, float]],
    note: str,
    families: Sequence[str] = (),
) -> bytes:
    """Images whose labels are suspected, in the order of their ranks, ten in a row.

    Above each of the `(n, h, w, c)` uint8 images are its rank and given class, below it the
    suggested class and that class's probability in [0, 1].
    """
    columns = 10
    rows = -(-len(images) // columns)
    figure = new_figure(13, 1.78 * rows + 0.35)
    figure.suptitle(
        "Above: rank and given label. Below: suggested label and its probability.",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    cells = figure.subplots(rows, columns, squeeze=False).flat
    for index, axes in enumerate(cells):
        if index < len(images):
            name, probability = suggested[index]
            show_image(axes, images[index])
            axes.set_title(f"{index + 1}. {shortened(given[index])}", fontsize=8.5)
            below = f"{shortened(name)}\n{100 * probability:.0f} %"
            axes.set_xlabel(below, fontsize=8.5, labelpad=2)
        else:
            axes.set_axis_off()
    return png_bytes(figure, note, families)
