"""Short vectors that a copy of an image has nearly in common with it, and no other image.

The product of two codes (see `tasks.core.data.image_descriptors`) treats all their axes alike: to
it, an image of the same kind is often nearer than a copy that a shift cut an edge off. So codes
are turned and stretched by Fisher's discriminant analysis (Fisher, "The use of multiple
measurements in taxonomic problems", 1936; Rao, 1948), in which each image with a changed copy of
itself is a class: along the axes that are left, images differ most compared with copies.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, Float64, Int64, UInt8
from tasks.core.data.gradient_correlation import batches
from tasks.core.data.image_descriptors import DescribedImages, codes_of
from tasks.core.data.rows import taken

# Axes that are kept. faiss compares multiples of 16 fastest.
DIMENSIONS = 64
# Images that the axes are fitted to; each is changed once.
_SAMPLE = 2_048
# Copies differ in unforeseen ways, too: by so much of the images' mean variance along each axis.
_UNFORESEEN = 1e-3
# Along the first axis, so many standard deviations of the images become the largest number.
_DEVIATIONS, _LARGEST = 4, 127
# Copies are darker by this factor, or lighter by this constant.
_DARKER, _LIGHTER = 0.6, 40
# Codes that are turned at a time, and how many times at once.
_BLOCK, _THREADS = 2**14, 4

Vectors = NDArray[np.int8]


@dataclass(frozen=True)
class CopyAxes:
    """The mean `(k,)` of codes, and the axes `(k, DIMENSIONS)`, zeros if there are fewer."""

    mean: Float32
    axes: Float32

    def vectors(self, codes: NDArray[np.float16]) -> Vectors:
        """`(n, DIMENSIONS)` whole numbers of the codes `(n, k)`."""
        found = np.empty((len(codes), self.axes.shape[1]), np.int8)

        def fill(start: int) -> None:
            part = slice(start, start + _BLOCK)
            along = np.rint((codes[part].astype(np.float32) - self.mean) @ self.axes)
            found[part] = np.clip(along, -_LARGEST, _LARGEST)

        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(fill, range(0, len(codes), _BLOCK)):
                pass
        return found


def copy_axes(described: DescribedImages, distinct: Int64) -> CopyAxes:
    """Fit the axes to images at the positions `distinct` and to changed copies of them."""
    rows = distinct[:: max(1, len(distinct) // _SAMPLE)]
    codes = described.codes[rows].astype(np.float64)
    differences = codes - _codes_of_copies(described, rows)
    mean = codes.mean(axis=0)
    size = codes.shape[1]
    varied = (codes - mean).T @ (codes - mean) / len(rows)
    changed = differences.T @ differences / len(rows)
    axes = np.zeros((size, DIMENSIONS), np.float32)
    noise = _UNFORESEEN * np.trace(varied) / size
    if noise > 0:
        found = _discriminants(varied, changed + noise * np.eye(size))[:, :DIMENSIONS]
        largest = np.sqrt(found[:, 0] @ varied @ found[:, 0])
        axes[:, : found.shape[1]] = found * (_LARGEST / (_DEVIATIONS * largest))
    return CopyAxes(mean.astype(np.float32), axes)


def _discriminants(between: Float64, within: Float64) -> Float64:
    """Columns x with x' within x = 1, those with the largest x' between x first."""
    root = np.linalg.inv(np.linalg.cholesky(within))
    _, vectors = np.linalg.eigh(root @ between @ root.T)
    found: Float64 = root.T @ vectors[:, ::-1]
    return found


def _codes_of_copies(described: DescribedImages, rows: Int64) -> Float32:
    """`(n, k)`, the codes of copies of the images at `rows`."""
    assert described.axes is not None
    images = changed_copies(taken(described.images, rows), described.shift)
    parts = batches(images)
    return np.concatenate(
        [codes_of(images[part], described.axes, described.shift) for part in parts]
    )


def changed_copies(images: UInt8, shift: int) -> UInt8:
    """Each image `(n, h, w, c)`, shifted by up to `shift` pixels; two in three darker or lighter.

    New pixels repeat those at the edge.
    """
    height, width = images.shape[1:3]
    around = range(-shift, shift + 1)
    shifts = [(y, x) for y, x in product(around, around) if (y, x) != (0, 0)] or [(0, 0)]
    margin = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    wide = np.pad(images, margin, mode="edge")
    found = np.empty_like(images)
    for at, image in enumerate(wide):
        y, x = shifts[at % len(shifts)]
        moved = image[shift - y :, shift - x :][:height, :width]
        kind = at // len(shifts) % 3
        if kind == 1:
            moved = np.rint(np.float32(_DARKER) * moved)
        elif kind == 2:
            moved = np.minimum(moved.astype(np.int16) + _LIGHTER, 255)
        found[at] = moved
    return found
