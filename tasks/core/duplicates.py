"""Images that are the same, or the same but for a small shift or a change of brightness.

Two images are as alike as the highest normalised cross-correlation of their gradients over small
shifts (Lewis, "Fast normalized cross-correlation", 1995; of gradients: Argyriou and Vlachos,
"Estimation of sub-pixel motion using gradient cross-correlation", 2003). Gradients do not know of
a constant that is added, and the normalisation not of a factor. What is shifted out of the image
counts as a difference.

By the triangle inequality no shift's correlation exceeds the product of the two amplitude spectra,
so that one matrix product of spectra finds every pair that needs a closer look, and none is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.data import Float32, Int64, UInt8

Complex64 = NDArray[np.complex64]

_BLOCK = 2_048
_CHECKED_AT_ONCE = 4_096
# Float32 arithmetic: what is equal comes out as equal to within this.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, the most alike first.

    `first` and `second` are positions, `similarity` is in [0, 1], `exact` says where all pixels
    are equal (similarity 1). `found` is their number before the rest was left off. An image that
    equals several is paired with the first of them.
    """

    first: Int64
    second: Int64
    similarity: Float32
    exact: NDArray[np.bool_]
    found: int

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Spectra:
    """Spectra of images' gradients, scaled so that an image's own product is 1.

    `values` `(n, d)` complex64; `grid` is the side of the padded images; `shift` the padding.
    """

    values: Complex64
    grid: tuple[int, int]
    shift: int

    def take(self, positions: Int64) -> Complex64:
        """The spectra at `positions`, `(m, channels, rows, columns)`."""
        height, width = self.grid
        return self.values[positions].reshape(len(positions), -1, height, width // 2 + 1)


def gradient_spectra(images: UInt8, shift: int) -> Spectra:
    """The spectra of the horizontal and vertical differences of `(n, h, w, c)` images.

    They are padded by `shift` zeros, so that shifts up to that go round no edge.
    """
    n, height, width, channels = images.shape
    grid = (height + shift, width + shift + (width + shift) % 2)
    weights = _weights(grid)
    values = np.empty((n, 2 * channels * weights.size), np.complex64)
    for start in range(0, n, _BLOCK):
        block = images[start : start + _BLOCK].astype(np.float32).transpose(0, 3, 1, 2)
        padded = np.zeros((len(block), 2, channels, *grid), np.float32)
        padded[:, 0, :, :height, : width - 1] = np.diff(block, axis=3)
        padded[:, 1, :, : height - 1, :width] = np.diff(block, axis=2)
        spectrum = np.fft.rfft2(padded) * np.sqrt(weights)
        flat = spectrum.reshape(len(block), -1)
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        # An image of one colour has no gradient: it is like none but its equals.
        values[start : start + _BLOCK] = flat / np.where(norms > 0, norms, 1)
    return Spectra(values, grid, shift)


def alike_pairs(
    first: UInt8, second: UInt8 | None, least: float, shift: int, most: int = 10_000
) -> Pairs:
    """Pairs of one image of each set, or of two of `first`, that are at least so alike.

    Args:
        first: `(n, h, w, c)` uint8.
        second: `(m, h, w, c)` uint8; None to look among `first`.
        least: the least similarity, in (0, 1].
        shift: the largest shift looked at, pixels.
        most: how many pairs to keep.
    """
    one = gradient_spectra(first, shift)
    other = one if second is None else gradient_spectra(second, shift)
    images = first if second is None else second
    same_one, same_other = _equal(first, images, among=second is None)
    ones, others = [same_one], [same_other]
    values = [np.ones(len(same_one), np.float32)]
    for i, j in _candidates(one, other, least, among=second is None):
        similarity = _peaks(one, other, i, j)
        near = (similarity >= least - _ROUNDING) & (first[i] != images[j]).any(axis=(1, 2, 3))
        ones.append(i[near])
        others.append(j[near])
        values.append(np.minimum(similarity[near], 1))
    i, j = np.concatenate(ones), np.concatenate(others)
    similarity = np.concatenate(values)
    exact = np.arange(len(i)) < len(same_one)
    order = np.lexsort((j, i, -similarity, ~exact))[:most]
    return Pairs(i[order], j[order], similarity[order], exact[order], len(i))


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
    one: Spectra, other: Spectra, least: float, *, among: bool
) -> Iterator[tuple[Int64, Int64]]:
    """Pairs whose amplitude spectra leave open that they are alike, some at a time."""
    amplitudes = np.abs(other.values).T
    for start in range(0, len(one.values), _BLOCK):
        bound = np.abs(one.values[start : start + _BLOCK]) @ amplitudes
        i, j = np.nonzero(bound >= least - _ROUNDING)
        i += start
        if among:
            i, j = i[i < j], j[i < j]
        for part in range(0, len(i), _CHECKED_AT_ONCE):
            yield i[part : part + _CHECKED_AT_ONCE], j[part : part + _CHECKED_AT_ONCE]


def _peaks(one: Spectra, other: Spectra, i: Int64, j: Int64) -> Float32:
    """The highest correlation of each pair over shifts up to the padding."""
    product = (one.take(i) * other.take(j).conj()).sum(axis=1) / _weights(one.grid)
    correlation = np.fft.irfft2(product, s=one.grid) * np.prod(one.grid)
    reach = np.r_[0 : one.shift + 1, -one.shift : 0]
    peaks: Float32 = correlation[:, reach][:, :, reach].max(axis=(1, 2)).astype(np.float32)
    return peaks


def _weights(grid: tuple[int, int]) -> NDArray[np.float32]:
    """How often each column of a half spectrum of a real image of even width counts."""
    weights = np.full((grid[0], grid[1] // 2 + 1), 2, np.float32)
    weights[:, [0, -1]] = 1
    return weights
