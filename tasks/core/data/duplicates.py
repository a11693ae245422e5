"""Images that are the same, or the same but for a small shift or a change of brightness.

Two images are as alike as the highest normalised cross-correlation of their gradients over small
shifts, each taken where the shifted images overlap (Lewis, "Fast normalized cross-correlation",
1995; of gradients: Argyriou and Vlachos, "Estimation of sub-pixel motion using gradient
cross-correlation", 2003). Gradients do not know of a constant that is added, and the
normalisation not of a factor; what a shift pushes out of the image does not count.

Without the overlap's normalisation no shift's correlation exceeds the product of the two amplitude
spectra, by the triangle inequality. A pair whose bound is below the threshold by more than `SLACK`,
which is what the normalisation may add, does not count.

Most pairs are ruled out by less than that, and none that counts:

1. Of each image's spectrum the part along a few principal axes is kept, and the length of the rest.
   The product of two such codes is no less than that of the spectra, by the Cauchy-Schwarz
   inequality, whatever the axes. One matrix product leaves a few pairs in a thousand.
2. Of these the correlation without the normalisation, at every shift, is another matrix product.
   The normalisation divides by no less than the gradients that every overlap keeps.

So the time has a part for each image, and a small one for each pair. An image that equals an
earlier one of its set is not compared again: what is alike to the one is alike to the other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product, starmap

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.labelled import Float32, Int64, UInt8
from tasks.core.errors import UserError

SLACK = 0.05
# An overlap with less of an image's gradients than this says nothing of the image.
LEAST_OVERLAP = 0.5
# More than this is no list to look at, and would fill the memory.
MOST_PAIRS = 1_000_000
# More axes rule out more pairs, and each costs every image two bytes and every pair time.
_AXES = 239
_SAMPLE, _SAMPLE_VALUES = 1_024, 2**25
# Codes multiplied at a time, of the one set and of the other.
_ROWS, _COLUMNS = 4_096, 256
# Pairs looked at closely in one go.
_OPEN = 2**20
# Rows of a product that is too small to be worth a second thread.
_SMALL = 12
# Pixels that are looked at in one go: little memory, which stays in the processor's cache.
_PIXELS = 2**19
# Float32 arithmetic: what is equal comes out as equal to within this.
_ROUNDING = 1e-5
# Two codes in half precision, each part rounded by at most 2 ** -11 of itself.
_CODE_ROUNDING = 2e-3
_CORRELATION_ROUNDING = 1e-3
_NONE = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

# Differences across and down.
Fields = tuple[Float32, Float32]


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
class Described:
    """A set of images, and what rules most pairs out.

    Attributes:
        images: `(n, h, w, c)` uint8.
        shift: the largest shift looked at, pixels.
        digests: `(n,)`, 16 bytes an image, equal where the pixels are.
        earliest: `(n,)` position of the first image that is equal.
        codes: `(n, k)` float16, parts of the amplitude spectra; zeros where `earliest` is another.
        kept: `(n, shift + 1)` float32, the least length of an image's gradients in any overlap
            that counts, at shifts of 0, up to 1, up to 2, ... pixels; 1 where there are none.
    """

    images: UInt8
    shift: int
    digests: NDArray[np.void]
    earliest: Int64
    codes: NDArray[np.float16]
    kept: Float32

    def __len__(self) -> int:
        return len(self.images)


def principal_axes(images: UInt8, shift: int) -> Float32:
    """`(d, k)` orthonormal directions in which the spectra of some of the images are longest.

    There are a few hundred, and fewer where there are fewer images or pixels.
    """
    size = amplitudes(images[:1], shift).shape[1]
    count = min(_SAMPLE, max(1, _SAMPLE_VALUES // size))
    sample = images[:: -(-len(images) // count)]
    spectra = np.concatenate([amplitudes(sample[part], shift) for part in _parts(sample)])
    _, vectors = np.linalg.eigh((spectra @ spectra.T).astype(np.float64))
    largest = vectors[:, ::-1][:, :_AXES].astype(np.float32)
    axes, _ = np.linalg.qr((spectra.T @ largest).astype(np.float64))
    return axes.astype(np.float32)


def described(images: UInt8, axes: Float32, shift: int) -> Described:
    """What the search needs of `(n, h, w, c)` images.

    Args:
        images: the images.
        axes: of `principal_axes`, the same for sets that are compared.
        shift: the largest shift looked at, pixels.
    """
    digests = np.empty(len(images), "V16")
    for at, image in enumerate(images):
        digests[at] = np.void(hashlib.blake2b(image.tobytes(), digest_size=16).digest())
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    earliest = first[group]
    codes = np.zeros((len(images), axes.shape[1] + 1), np.float16)
    kept = np.empty((len(images), shift + 1), np.float32)
    for part in _parts(images):
        spectra = amplitudes(images[part], shift)
        along = spectra @ axes
        rest = np.square(spectra).sum(axis=1) - np.square(along).sum(axis=1)
        distinct = earliest[part] == np.arange(len(images))[part]
        code = np.column_stack([along, np.sqrt(np.maximum(rest, 0))])
        codes[part][distinct] = code[distinct]
        kept[part] = _kept(images[part], shift)
    return Described(images, shift, digests, earliest, codes, kept)


def amplitudes(images: UInt8, shift: int) -> Float32:
    """`(n, d)` amplitude spectra of gradients, each with length 1; 0 where there are none.

    The gradients are padded by `shift` zeros, so that shifts up to that go round no edge.
    """
    n, height, width, _ = images.shape
    grid = (height + shift, width + shift + (width + shift) % 2)
    # How often each column of a half spectrum of a real image of even width counts.
    weights = np.full((1, grid[1] // 2 + 1, 1), 2, np.float32)
    weights[:, [0, -1]] = 1
    spectra = np.stack(
        [np.abs(np.fft.rfft2(field, s=grid, axes=(1, 2))) for field in _gradients(images)], axis=1
    )
    flat = (spectra * np.sqrt(weights)).reshape(n, math.prod(spectra.shape[1:]))
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    # An image of one colour has no gradient: it is like none but its equals.
    scaled: Float32 = (flat / np.where(norms > 0, norms, 1)).astype(np.float32)
    return scaled


def alike_pairs(first: Described, second: Described | None, least: float) -> Pairs:
    """Pairs of one image of each set, or of two of `first`, that are at least so alike.

    Args:
        first: the one set.
        second: the other, described along the same axes; None to look among `first`.
        least: the least similarity, in (0, 1].

    Raises:
        UserError: there are more than `MOST_PAIRS`.
    """
    among = second is None
    other = first if second is None else second
    same = _equal(first, other, among=among)
    sizes, other_sizes = _copies(first), _copies(other)
    near: list[tuple[Int64, Int64, Float32]] = [_NONE]
    count = len(same[0])
    for i, j in _candidates(first, other, least, among=among):
        near.append(_near(first, other, i, j, least))
        i, j, _ = near[-1]
        count += int((sizes[i] * other_sizes[j]).sum())
        if count > MOST_PAIRS:
            raise UserError(
                f"more than {MOST_PAIRS:,} pairs of images have a similarity of {least} or more. "
                "Remove what there is so often from the data, or set guard.similarity higher."
            )
    i, j, similarity = (np.concatenate(column) for column in zip(*near, strict=True))
    i, j, pair = _with_copies(first, other, i, j)
    if among:
        i, j = np.minimum(i, j), np.maximum(i, j)
    i, j = np.concatenate([same[0], i]), np.concatenate([same[1], j])
    similarity = np.concatenate([np.ones(len(same[0]), np.float32), similarity[pair]])
    exact = np.arange(len(i)) < len(same[0])
    order = np.lexsort((j, i, -similarity, ~exact))
    return Pairs(i[order], j[order], similarity[order], exact[order])


def _equal(first: Described, second: Described, *, among: bool) -> tuple[Int64, Int64]:
    """Each image of `second` with the first of `first` that is equal to it, if there is one."""
    if among:
        later = np.flatnonzero(first.earliest < np.arange(len(first)))
        return first.earliest[later], later
    own, at = np.unique(first.digests, return_index=True)
    place = np.minimum(np.searchsorted(own, second.digests), len(own) - 1)
    equal = np.flatnonzero(own[place] == second.digests)
    return at[place[equal]], equal


def _candidates(
    first: Described, other: Described, least: float, *, among: bool
) -> Iterator[tuple[Int64, Int64]]:
    """Pairs that codes and correlations leave open, some at a time."""
    share, other_share = (one.kept[:, -1] / one.kept[:, 0] for one in (first, other))
    for begin in range(0, len(other), _COLUMNS):
        columns = other.codes[begin : begin + _COLUMNS].astype(np.float32).T
        rows = min(len(first), begin + _COLUMNS) if among else len(first)
        open_: list[tuple[Int64, Int64]] = []
        for start in range(0, rows, _ROWS):
            codes = first.codes[start : min(start + _ROWS, rows)].astype(np.float32)
            bound = (codes @ columns).ravel()
            found = np.flatnonzero(bound >= least - SLACK - _CODE_ROUNDING)
            i, j = np.divmod(found, columns.shape[1])
            i, j = i + start, j + begin
            left = bound[found] >= least * share[i] * other_share[j] - _CODE_ROUNDING
            if among:
                left &= i < j
            open_.append((i[left], j[left]))
            if start + _ROWS >= rows or sum(len(i) for i, _ in open_) > _OPEN:
                i, j = (np.concatenate(side) for side in zip(*open_, strict=True))
                yield from _correlated(first, other, i, j, least)
                open_ = []


def _correlated(
    first: Described, other: Described, i: Int64, j: Int64, least: float
) -> Iterator[tuple[Int64, Int64]]:
    """Those pairs whose correlation at some shift leaves open that they are alike."""
    order = np.argsort(j, kind="stable")
    i, j = i[order], j[order]
    bound = np.empty(len(i), np.float32)
    columns, starts = np.unique(j, return_index=True)
    ends = np.append(starts, len(j))
    rings = [(2 * radius - 1) ** 2 if radius else 0 for radius in range(first.shift + 1)]
    for part in _parts(other.images, len(columns), (2 * first.shift + 1) ** 2):
        templates = _templates(other.images[columns[part]], first.shift)
        kept = other.kept[columns[part]]
        for at, (start, end) in enumerate(pairwise(ends[part.start : part.stop + 1].tolist())):
            for some in _parts(first.images, end - start):
                mine = i[start:end][some]
                highest = np.maximum.reduceat(
                    _products_with(templates[at], first.images[mine]), rings, axis=1
                )
                bound[start:end][some] = (highest / (first.kept[mine] * kept[at])).max(axis=1)
    left = np.flatnonzero(bound >= least - _CORRELATION_ROUNDING)
    for part in _parts(first.images, len(left)):
        yield i[left[part]], j[left[part]]


def _products_with(template: Float32, images: UInt8) -> Float32:
    """`(n, shifts)`: each image's product with an image's template at each shift."""
    values = images.reshape(len(images), -1).astype(np.float32)
    # Smaller numbers are rounded less.
    values -= values.mean(axis=1, keepdims=True)
    found = np.empty((len(images), len(template)), np.float32)
    for start in range(0, len(images), _SMALL):
        some = slice(start, start + _SMALL)
        np.matmul(values[some], template.T, out=found[some])
    return found


def _templates(images: UInt8, shift: int) -> Float32:
    """`(n, shifts, h * w * c)`, shifts with the smaller ones first.

    An image's product with a template is that of its gradients with those of the template's image
    at that shift, where they overlap. A constant that is added to the image does not change it.
    """
    n, *shape = images.shape
    reach = range(-shift, shift + 1)
    shifts = sorted(product(reach, reach), key=_radius)
    across, down = _gradients(images)
    templates = np.zeros((n, len(shifts), *shape), np.float32)
    for at, (rows, columns) in enumerate(shifts):
        template = templates[:, at]
        here, there = _inside(rows, columns), _inside(-rows, -columns)
        template[:, :, 1:][here] += across[there]
        template[:, :, :-1][here] -= across[there]
        template[:, 1:][here] += down[there]
        template[:, :-1][here] -= down[there]
    return templates.reshape(n, len(shifts), math.prod(shape))


def _radius(shift: tuple[int, int]) -> int:
    return max(map(abs, shift))


def _near(
    first: Described, other: Described, i: Int64, j: Int64, least: float
) -> tuple[Int64, Int64, Float32]:
    """Those pairs that are alike and not equal, and how much."""
    mine, theirs = first.images[i], other.images[j]
    similarity = _similarity(_gradients(mine), _gradients(theirs), first.shift)
    near = (similarity >= least - _ROUNDING) & (mine != theirs).any(axis=(1, 2, 3))
    spectra = amplitudes(mine[near], first.shift) * amplitudes(theirs[near], first.shift)
    near[near] = spectra.sum(axis=1) >= least - SLACK - _ROUNDING
    return i[near], j[near], np.minimum(similarity[near], 1)


def _copies(images: Described) -> Int64:
    """`(n,)` how many images are equal to each that is the first of its kind; 0 at the others."""
    return np.bincount(images.earliest, minlength=len(images))


def _with_copies(
    first: Described, other: Described, i: Int64, j: Int64
) -> tuple[Int64, Int64, Int64]:
    """Pairs with all that equals the one and the other; and of which pair each is a copy."""
    order, other_order = (np.argsort(one.earliest, kind="stable") for one in (first, other))
    start = np.searchsorted(first.earliest[order], i)
    other_start = np.searchsorted(other.earliest[other_order], j)
    width = _copies(other)[j]
    counts = _copies(first)[i] * width
    pair = np.repeat(np.arange(len(i)), counts)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (
        order[start[pair] + within // width[pair]],
        other_order[other_start[pair] + within % width[pair]],
        pair,
    )


def _similarity(mine: Fields, theirs: Fields, shift: int) -> Float32:
    """The highest correlation of each pair over shifts, each where both images overlap."""
    whole = [sum(_products(field, field) for field in fields) for fields in (mine, theirs)]
    best = np.zeros(len(mine[0]), np.float32)
    reach = range(-shift, shift + 1)
    for down in reach:
        for right in reach:
            parts = [
                (field[_inside(down, right)], other_field[_inside(-down, -right)])
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


def _kept(images: UInt8, shift: int) -> Float32:
    """What the field `kept` of `Described` says."""
    fields = _gradients(images)
    # Of all shifts up to a radius those to the four corners leave the least.
    energies = [
        np.min(
            [
                np.sum([_products(field[part], field[part]) for field in fields], axis=0)
                for part in starmap(_inside, product((-radius, radius), (-radius, radius)))
            ],
            axis=0,
        )
        for radius in range(shift + 1)
    ]
    found = np.stack(energies, axis=1)
    whole = found[:, :1]
    kept: Float32 = np.sqrt(np.where(whole > 0, np.maximum(found, LEAST_OVERLAP * whole), 1))
    return kept


def _gradients(images: UInt8) -> Fields:
    """Differences of neighbouring pixels: `(n, h, w - 1, c)` and `(n, h - 1, w, c)` float32."""
    values = images.astype(np.float32)
    return np.diff(values, axis=2), np.diff(values, axis=1)


def _parts(images: UInt8, count: int | None = None, factor: int = 1) -> Iterator[slice]:
    """Slices of so many of the images, or of all, that are small enough to be computed with."""
    size = max(1, _PIXELS // (images[0].size * factor))
    total = len(images) if count is None else count
    return (slice(start, start + size) for start in range(0, total, size))


def _inside(down: int, right: int) -> tuple[slice, slice, slice]:
    """Where an image's differences overlap with those of one that has to move there."""
    return slice(None), _part(down), _part(right)


def _part(by: int) -> slice:
    return slice(by, None) if by >= 0 else slice(None, by)


def _products(one: Float32, other: Float32) -> Float32:
    sums: Float32 = np.einsum("nhwc,nhwc->n", one, other)
    return sums
