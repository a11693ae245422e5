"""The similarity of two images: correlation of their gradients over small shifts.

The similarity is the highest normalised cross-correlation of the gradients over all shifts up to a
limit, each computed where the shifted images overlap (Lewis, "Fast normalized cross-correlation",
1995; of gradients: Argyriou and Vlachos, "Estimation of sub-pixel motion using gradient
cross-correlation", 2003). Gradients ignore a constant added to an image, the normalisation ignores
a factor, and pixels that a shift moves out of the image do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product, starmap

import numpy as np

from tasks.core.array_types import Float32, UInt8
from tasks.core.data.rows import RowReader

# An overlap with less than this share of an image's squared gradients is not compared.
LEAST_OVERLAP = 0.5
# Pixels processed at a time: few enough for the processor's cache.
_PIXELS = 2**19
# Rows of a matrix product that is too small for a second thread to pay off.
_SMALL = 12

# Differences of neighbouring pixels across and down.
Gradients = tuple[Float32, Float32]


def gradients(images: UInt8) -> Gradients:
    """Differences of neighbouring pixels: `(n, h, w - 1, c)` and `(n, h - 1, w, c)` float32."""
    values = images.astype(np.float32)
    return np.diff(values, axis=2), np.diff(values, axis=1)


def batches(images: RowReader, count: int | None = None, factor: int = 1) -> Iterator[slice]:
    """Slices of `range(count)` (default: all images) that are small enough for the cache.

    `factor` is the memory that an item needs, as a multiple of an image's size.
    """
    size = max(1, _PIXELS // (math.prod(images.shape[1:]) * factor))
    total = len(images) if count is None else count
    return (slice(start, start + size) for start in range(0, total, size))


def similarity(mine: Gradients, theirs: Gradients, shift: int) -> Float32:
    """The highest correlation of each pair over all shifts, `(n,)`, 0 or more."""
    whole = [sum(_products(field, field) for field in fields) for fields in (mine, theirs)]
    best = np.zeros(len(mine[0]), np.float32)
    reach = range(-shift, shift + 1)
    for down in reach:
        for right in reach:
            parts = [
                (field[_overlap(down, right)], other_field[_overlap(-down, -right)])
                for field, other_field in zip(mine, theirs, strict=True)
            ]
            both = sum(_products(here, there) for here, there in parts)
            own = sum(_products(here, here) for here, _ in parts)
            its = sum(_products(there, there) for _, there in parts)
            enough = (own >= LEAST_OVERLAP * whole[0]) & (its >= LEAST_OVERLAP * whole[1])
            enough &= (own > 0) & (its > 0)
            norms = np.sqrt(np.where(enough, own * its, 1))
            best = np.maximum(best, np.where(enough, both / norms, 0))
    return best.astype(np.float32)


def least_overlap_norms(images: UInt8, shift: int) -> Float32:
    """`(n, shift + 1)`: the smallest norm of an image's gradients within any overlap that counts.

    Column r is for all shifts of up to r pixels. Images without gradients have 1.
    """
    fields = gradients(images)
    # Of all shifts up to a radius, one of the four diagonal ones leaves the smallest overlap.
    energies = [
        np.min(
            [
                np.sum([_products(field[part], field[part]) for field in fields], axis=0)
                for part in starmap(_overlap, product((-radius, radius), (-radius, radius)))
            ],
            axis=0,
        )
        for radius in range(shift + 1)
    ]
    found = np.stack(energies, axis=1)
    whole = found[:, :1]
    norms: Float32 = np.sqrt(np.where(whole > 0, np.maximum(found, LEAST_OVERLAP * whole), 1))
    return norms


def templates(images: UInt8, shift: int) -> Float32:
    """Shifted templates of images: `(n, shifts, h * w * c)`, sorted by the radius of the shift.

    The dot product of an image with a template equals that of the image's gradients with the
    shifted gradients of the template's image, where they overlap. Adding a constant to the image
    does not change it.
    """
    n, *shape = images.shape
    reach = range(-shift, shift + 1)
    shifts = sorted(product(reach, reach), key=_radius)
    across, down = gradients(images)
    found = np.zeros((n, len(shifts), *shape), np.float32)
    for at, (rows, columns) in enumerate(shifts):
        template = found[:, at]
        here, there = _overlap(rows, columns), _overlap(-rows, -columns)
        template[:, :, 1:][here] += across[there]
        template[:, :, :-1][here] -= across[there]
        template[:, 1:][here] += down[there]
        template[:, :-1][here] -= down[there]
    return found.reshape(n, len(shifts), math.prod(shape))


def first_of_each_radius(shift: int) -> list[int]:
    """For each radius up to `shift`, the position of its first template."""
    return [(2 * radius - 1) ** 2 if radius else 0 for radius in range(shift + 1)]


def products_with(template: Float32, images: UInt8) -> Float32:
    """`(n, shifts)`: each image's dot product with an image's template at each shift."""
    values = images.reshape(len(images), -1).astype(np.float32)
    # Centred values are smaller, so they round less.
    values -= values.mean(axis=1, keepdims=True)
    found = np.empty((len(images), len(template)), np.float32)
    for start in range(0, len(images), _SMALL):
        some = slice(start, start + _SMALL)
        np.matmul(values[some], template.T, out=found[some])
    return found


def _radius(shift: tuple[int, int]) -> int:
    return max(map(abs, shift))


def _overlap(down: int, right: int) -> tuple[slice, slice, slice]:
    """The part of an image's gradients that overlaps with an image shifted by this much."""
    return slice(None), _part(down), _part(right)


def _part(by: int) -> slice:
    return slice(by, None) if by >= 0 else slice(None, by)


def _products(one: Float32, other: Float32) -> Float32:
    sums: Float32 = np.einsum("nhwc,nhwc->n", one, other)
    return sums
