"""Images that are the same, or the same but for a small shift or a change of brightness.

Two images are as alike as the highest normalised cross-correlation of their gradients over small
shifts, each taken where the shifted images overlap (Lewis, "Fast normalized cross-correlation",
1995; of gradients: Argyriou and Vlachos, "Estimation of sub-pixel motion using gradient
cross-correlation", 2003). Gradients do not know of a constant that is added, and the
normalisation not of a factor; what a shift pushes out of the image does not count.

Without the overlap's normalisation no shift's correlation exceeds the product of the two amplitude
spectra, by the triangle inequality. So one matrix product of spectra leaves few pairs to look at
closely: those whose bound is not below the threshold by more than `SLACK`, which is what the
normalisation may add.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.data import Float32, Int64, UInt8

SLACK = 0.05
# An overlap with less of an image's gradients than this says nothing of the image.
LEAST_OVERLAP = 0.5
_BLOCK = 2_048
_CHECKED_AT_ONCE = 4_096
# Float32 arithmetic: what is equal comes out as equal to within this.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, identical ones first, then the most alike.

    `first` and `second` are positions, `similarity` is in [0, 1], `exact` says where all pixels
    are equal (similarity 1). An image that equals several is paired with the first of them.
    """

    first: Int64
    second: Int64
    similarity: Float32
    exact: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Gradients:
    """Differences of neighbouring pixels.

    `across` `(n, h, w - 1, c)` and `down` `(n, h - 1, w, c)` float32; `amplitudes` `(n, d)`
    float32: amplitudes of both's spectra, scaled so that an image's product with itself is 1.
    """

    across: Float32
    down: Float32
    amplitudes: Float32


def gradients(images: UInt8, shift: int) -> Gradients:
    """The differences of `(n, h, w, c)` images, and their spectra.

    For the spectra they are padded by `shift` zeros, so that shifts up to that go round no edge.
    """
    n, height, width, channels = images.shape
    grid = (height + shift, width + shift + (width + shift) % 2)
    # How often each column of a half spectrum of a real image of even width counts.
    weights = np.full((1, grid[1] // 2 + 1, 1), 2, np.float32)
    weights[:, [0, -1]] = 1
    across = np.empty((n, height, width - 1, channels), np.float32)
    down = np.empty((n, height - 1, width, channels), np.float32)
    amplitudes = np.empty((n, 2 * channels * grid[0] * weights.size), np.float32)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = images[part].astype(np.float32)
        across[part], down[part] = np.diff(block, axis=2), np.diff(block, axis=1)
        spectra = [
            np.abs(np.fft.rfft2(field[part], s=grid, axes=(1, 2))) * np.sqrt(weights)
            for field in (across, down)
        ]
        flat = np.concatenate([found.reshape(len(block), -1) for found in spectra], axis=1)
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        # An image of one colour has no gradient: it is like none but its equals.
        amplitudes[part] = flat / np.where(norms > 0, norms, 1)
    return Gradients(across, down, amplitudes)


def alike_pairs(first: UInt8, second: UInt8 | None, least: float, shift: int) -> Pairs:
    """Pairs of one image of each set, or of two of `first`, that are at least so alike.

    Args:
        first: `(n, h, w, c)` uint8.
        second: `(m, h, w, c)` uint8; None to look among `first`.
        least: the least similarity, in (0, 1].
        shift: the largest shift looked at, pixels.
    """
    one = gradients(first, shift)
    other = one if second is None else gradients(second, shift)
    images = first if second is None else second
    same_one, same_other = _equal(first, images, among=second is None)
    ones, others = [same_one], [same_other]
    values = [np.ones(len(same_one), np.float32)]
    for i, j in _candidates(one, other, least - SLACK, among=second is None):
        similarity = _similarity(one, other, i, j, shift)
        near = (similarity >= least - _ROUNDING) & (first[i] != images[j]).any(axis=(1, 2, 3))
        ones.append(i[near])
        others.append(j[near])
        values.append(np.minimum(similarity[near], 1))
    i, j = np.concatenate(ones), np.concatenate(others)
    similarity = np.concatenate(values)
    exact = np.arange(len(i)) < len(same_one)
    order = np.lexsort((j, i, -similarity, ~exact))
    return Pairs(i[order], j[order], similarity[order], exact[order])


def _equal(first: UInt8, second: UInt8, *, among: bool) -> tuple[Int64, Int64]:
    """Each image of `second` with the first of `first` that is equal to it, if there is one."""
    earliest: dict[bytes, int] = {}
    for at, image in enumerate(first):
        earliest.setdefault(image.tobytes(), at)
    found = [(earliest.get(image.tobytes(), -1), at) for at, image in enumerate(second)]
    pairs = [(i, j) for i, j in found if i >= 0 and (i < j or not among)]
    equal = np.array(pairs, np.int64).reshape(-1, 2)
    return equal[:, 0], equal[:, 1]


def _candidates(
    one: Gradients, other: Gradients, least: float, *, among: bool
) -> Iterator[tuple[Int64, Int64]]:
    """Pairs whose amplitude spectra leave open that they are alike, some at a time."""
    for begin in range(0, len(other.amplitudes), _BLOCK):
        columns = other.amplitudes[begin : begin + _BLOCK].T
        for start in range(0, begin + _BLOCK if among else len(one.amplitudes), _BLOCK):
            bound = one.amplitudes[start : start + _BLOCK] @ columns
            i, j = np.nonzero(bound >= least - _ROUNDING)
            i, j = i + start, j + begin
            if among:
                i, j = i[i < j], j[i < j]
            for part in range(0, len(i), _CHECKED_AT_ONCE):
                yield i[part : part + _CHECKED_AT_ONCE], j[part : part + _CHECKED_AT_ONCE]


def _similarity(one: Gradients, other: Gradients, i: Int64, j: Int64, shift: int) -> Float32:
    """The highest correlation of each pair over shifts, each where both images overlap."""
    mine, theirs = (one.across[i], one.down[i]), (other.across[j], other.down[j])
    whole = [sum(_products(field, field) for field in fields) for fields in (mine, theirs)]
    best = np.zeros(len(i), np.float32)
    reach = range(-shift, shift + 1)
    for down in reach:
        for right in reach:
            parts = [
                (field[_inside(down, right)], other_field[_inside(-down, -right)])
                for field, other_field in zip(mine, theirs, strict=True)
            ]
            product = sum(_products(here, there) for here, there in parts)
            own = sum(_products(here, here) for here, _ in parts)
            its = sum(_products(there, there) for _, there in parts)
            enough = (own >= LEAST_OVERLAP * whole[0]) & (its >= LEAST_OVERLAP * whole[1])
            enough &= (own > 0) & (its > 0)
            norms = np.sqrt(np.where(enough, own * its, 1))
            best = np.maximum(best, np.where(enough, product / norms, 0))
    return best.astype(np.float32)


def _inside(down: int, right: int) -> tuple[slice, slice, slice]:
    """Where an image's differences overlap with those of one that has to move there."""
    return slice(None), _part(down), _part(right)


def _part(by: int) -> slice:
    return slice(by, None) if by >= 0 else slice(None, by)


def _products(one: Float32, other: Float32) -> Float32:
    sums: Float32 = np.einsum("nhwc,nhwc->n", one, other)
    return sums
