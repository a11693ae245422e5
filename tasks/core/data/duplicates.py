"""The search for duplicates, and for near duplicates that differ by a small shift or brightness.

A pair counts as near duplicates if two conditions hold:

- its similarity (see `tasks.core.data.gradient_correlation`) reaches the threshold;
- the product of the two amplitude spectra reaches the threshold minus `SLACK`. By the triangle
  inequality, no shift's correlation exceeds that product before it is normalised by the overlap;
  `SLACK` is what the normalisation may add.

Comparing all pairs would take too long, so two cheaper bounds rule out most of them first, but
never a near duplicate:

1. The product of two short codes (see `tasks.core.data.image_descriptors`) is at least the product
   of the spectra, by the Cauchy-Schwarz inequality, for any choice of axes. One matrix product
   leaves a few pairs in a thousand.
2. For these, another matrix product gives the correlation at every shift before normalisation. It
   is divided by the smallest norm that any overlap leaves.

For many images, `index` replaces the first product: an index (see `tasks.core.data.nearest`)
proposes the nearest images of each one, so most pairs are never looked at. More are asked for where
many of these are near duplicates.

An image that equals an earlier one of its set is not compared again: both have the same near
duplicates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from tasks.core.array_types import Bool, Float32, Int64, UInt8
from tasks.core.data.copy_axes import CopyAxes, copy_axes
from tasks.core.data.gradient_correlation import (
    batches,
    first_of_each_radius,
    gradients,
    products_with,
    similarity,
    templates,
)
from tasks.core.data.image_descriptors import DescribedImages, amplitudes
from tasks.core.data.nearest import Nearest, nearest
from tasks.core.data.rows import taken
from tasks.core.errors import UserError

SLACK = 0.05
# An index is asked for so many nearest images of each one first. Where at least `_CONFIRMED` of
# them are near duplicates, it is asked for `_MORE` times as many, and so on.
NEIGHBOURS, _MORE, _CONFIRMED = 64, 8, 1 / 16
# More pairs than these are searched with an index by default.
EXACT_PAIRS = 200_000_000
# A longer list would fill the memory and help no reader.
MOST_PAIRS = 1_000_000
# Codes multiplied at a time: from the first set and from the other set.
_ROWS, _COLUMNS = 4_096, 256
# Pairs passed on to the second bound at a time.
_OPEN = 2**21
# Images of the first set that are in memory at a time, in bytes; batches of pairs that are compared
# at a time: with more, threads mostly wait for Python's lock.
_BYTES, _THREADS = 2**28, 2
# Equal numbers may differ by this much in float32 arithmetic.
_ROUNDING = 1e-5
# Codes are in half precision, each part rounded by at most 2 ** -11 of itself.
_CODE_ROUNDING = 2e-3
_CORRELATION_ROUNDING = 1e-3
_NONE = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

# Images whose nearest are looked for at a time; pairs whose codes are multiplied at a time.
_ASKED, _MULTIPLIED = 2**13, 2**12

Positions = tuple[Int64, Int64]
# Positions of two images, and the product of their codes.
Matches = tuple[Int64, Int64, Float32]
# ... and their similarity.
Scored = tuple[Int64, Int64, Float32]
Search = Literal["auto", "exact", "index", "off"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of duplicates and near duplicates, identical ones first, then by similarity.

    `first` and `second` are positions, `similarity` is in [0, 1]; `exact` marks pairs in which all
    pixels are equal (similarity 1). An image that equals several others is paired with the first
    of them.
    """

    first: Int64
    second: Int64
    similarity: Float32
    exact: Bool

    def __len__(self) -> int:
        return len(self.first)


def search_for(first: int, second: int, search: Search) -> Search:
    """How sets of these sizes are searched: what `auto` means for them, else `search`."""
    if search != "auto":
        return search
    return "exact" if first * second <= EXACT_PAIRS else "index"


def find_duplicates(
    first: DescribedImages,
    second: DescribedImages | None,
    least: float,
    search: Search = "auto",
) -> Pairs:
    """Find the duplicates and near duplicates between two sets, or within `first`.

    Args:
        first: one set.
        second: the other set, described along the same axes; None to search within `first`.
        least: the lowest similarity of a near duplicate, in (0, 1].
        search: how near duplicates are looked for. exact: all are found. index: nearly all, in less
            time, each with the similarity that `exact` gives it. auto: exact up to `EXACT_PAIRS`
            pairs. off: not at all, and the sets need no descriptors but their digests.

    Raises:
        UserError: there are more than `MOST_PAIRS`.
    """
    within = second is None
    other = first if second is None else second
    search = search_for(len(first), len(other), search)
    equal = _equal(first, other, within=within)
    near = [_NONE]
    if search != "off":
        look = _by_index if search == "index" else _by_products
        near += _limited(first, other, least, len(equal[0]), look(first, other, least, within))
    i, j, score = (np.concatenate(column) for column in zip(*near, strict=True))
    i, j, pair = _with_copies(first, other, i, j)
    if within:
        i, j = np.minimum(i, j), np.maximum(i, j)
    i, j = np.concatenate([equal[0], i]), np.concatenate([equal[1], j])
    score = np.concatenate([np.ones(len(equal[0]), np.float32), score[pair]])
    exact = np.arange(len(i)) < len(equal[0])
    order = np.lexsort((j, i, -score, ~exact))
    return Pairs(i[order], j[order], score[order], exact[order])


def _limited(
    first: DescribedImages,
    other: DescribedImages,
    least: float,
    count: int,
    found: Iterable[Scored],
) -> Iterator[Scored]:
    """The near duplicates that are `found`; `count` pairs are already known.

    Raises:
        UserError: there are more than `MOST_PAIRS` in all, copies included.
    """
    sizes, other_sizes = _copies(first), _copies(other)
    for i, j, score in found:
        yield i, j, score
        count += int((sizes[i] * other_sizes[j]).sum())
        if count > MOST_PAIRS:
            raise UserError(
                f"more than {MOST_PAIRS:,} pairs of images have a similarity of {least} or more. "
                "Remove the repeated images from the data, or set guard.similarity higher."
            )


def _equal(first: DescribedImages, second: DescribedImages, *, within: bool) -> Positions:
    """Each image of `second` that equals one of `first`, with the first such image."""
    if within:
        later = np.flatnonzero(first.earliest < np.arange(len(first)))
        return first.earliest[later], later
    own, at = np.unique(first.digests, return_index=True)
    place = np.minimum(np.searchsorted(own, second.digests), len(own) - 1)
    equal = np.flatnonzero(own[place] == second.digests)
    return at[place[equal]], equal


def _by_codes(
    first: DescribedImages,
    other: DescribedImages,
    least: float,
    products: Iterable[Matches],
    within: bool,
) -> Iterator[Positions]:
    """Of pairs with these products of codes, those that neither bound rules out, in batches."""
    share, other_share = (one.norms[:, -1] / one.norms[:, 0] for one in (first, other))
    open_: list[Positions] = []
    count = 0
    for i, j, product in products:
        left = product >= least * share[i] * other_share[j] - _CODE_ROUNDING
        if within:
            left &= i < j
        open_.append((i[left], j[left]))
        count += len(open_[-1][0])
        if count > _OPEN:
            yield from _by_correlation(first, other, *_joined(open_), least)
            open_, count = [], 0
    if count:
        yield from _by_correlation(first, other, *_joined(open_), least)


def _by_products(
    first: DescribedImages, other: DescribedImages, least: float, within: bool
) -> Iterator[Scored]:
    """All near duplicates among distinct images."""
    left = _by_codes(first, other, least, _all_products(first, other, least, within), within)
    for i, j in left:
        yield _by_similarity(first, other, i, j, least)


def _by_index(
    first: DescribedImages, other: DescribedImages, least: float, within: bool
) -> Iterator[Scored]:
    """Nearly all near duplicates among distinct images, found among the nearest of each."""
    distinct, asked = (np.flatnonzero(_copies(one)) for one in (first, other))
    axes = copy_axes(first, distinct)
    index = nearest(axes.vectors(first.codes[distinct]), distinct)
    known, count = 0, NEIGHBOURS
    seen = np.empty(0, np.int64)
    while len(asked) and known < len(distinct):
        confirmed = np.zeros(len(other), np.int64)
        pairs = _proposed(index, axes, other, asked, (known, count))
        if within:
            # Of two images, either may be among the other's nearest.
            pairs = ((np.minimum(i, j), np.maximum(i, j)) for i, j in pairs)
        matches = _multiplied(first, other, least, pairs)
        for i, j in _by_codes(first, other, least, matches, within):
            near = _by_similarity(first, other, i, j, least)
            if within:
                near, seen = _new(near, seen, len(other))
                np.add.at(confirmed, near[0], 1)
            np.add.at(confirmed, near[1], 1)
            yield near
        asked = asked[confirmed[asked] >= _CONFIRMED * count]
        known, count = count, count * _MORE


def _new(near: Scored, seen: Int64, width: int) -> tuple[Scored, Int64]:
    """The pairs that were not `seen` before, each once, and all that are seen now."""
    pairs, first = np.unique(near[0] * width + near[1], return_index=True)
    first = first[np.isin(pairs, seen, invert=True)]
    i, j, score = near
    return (i[first], j[first], score[first]), np.union1d(seen, pairs)


def _proposed(
    index: Nearest, axes: CopyAxes, other: DescribedImages, asked: Int64, ranks: tuple[int, int]
) -> Iterator[Positions]:
    """Each image `asked` with its nearest `ranks[1]`, without its nearest `ranks[0]`."""
    known, count = ranks
    size = max(1, _ASKED * NEIGHBOURS // count)
    for start in range(0, len(asked), size):
        some = asked[start : start + size]
        vectors = axes.vectors(other.codes[some])
        i, j = index.of(vectors, count)
        if known:
            # Not by rank: equally near ones may change places.
            earlier, its = index.of(vectors, known)
            new = np.isin(j * index.end + i, its * index.end + earlier, invert=True)
            i, j = i[new], j[new]
        yield i, some[j]


def _multiplied(
    first: DescribedImages, other: DescribedImages, least: float, pairs: Iterable[Positions]
) -> Iterator[Matches]:
    """Those of the pairs that may be near duplicates by the product of their codes."""

    def multiplied(pair: Positions) -> Float32:
        mine, theirs = (
            one.codes[at].astype(np.float32) for one, at in zip((first, other), pair, strict=True)
        )
        product: Float32 = np.einsum("nk,nk->n", mine, theirs)
        return product

    with ThreadPoolExecutor(_THREADS) as pool:
        for i, j in pairs:
            parts = [slice(start, start + _MULTIPLIED) for start in range(0, len(i), _MULTIPLIED)]
            found = pool.map(multiplied, [(i[part], j[part]) for part in parts])
            product = np.concatenate([*found, np.empty(0, np.float32)])
            left = product >= least - SLACK - _CODE_ROUNDING
            yield i[left], j[left], product[left]


def _all_products(
    first: DescribedImages, other: DescribedImages, least: float, within: bool
) -> Iterator[Matches]:
    """All pairs that may be near duplicates, found by comparing all codes."""
    lowest = least - SLACK - _CODE_ROUNDING
    for begin in range(0, len(other), _COLUMNS):
        columns = other.codes[begin : begin + _COLUMNS].astype(np.float32).T
        rows = min(len(first), begin + _COLUMNS) if within else len(first)
        for start in range(0, rows, _ROWS):
            codes = first.codes[start : min(start + _ROWS, rows)].astype(np.float32)
            products = (codes @ columns).ravel()
            found = np.flatnonzero(products >= lowest)
            i, j = np.divmod(found, columns.shape[1])
            yield i + start, j + begin, products[found]


def _joined(parts: Sequence[Positions]) -> Positions:
    i, j = (np.concatenate(side) for side in zip(*parts, strict=True))
    return i, j


def _by_correlation(
    first: DescribedImages, other: DescribedImages, i: Int64, j: Int64, least: float
) -> Iterator[Positions]:
    """The pairs that the second bound does not rule out, in batches."""
    most = max(1, _BYTES // math.prod(first.images.shape[1:]))
    distinct = np.unique(i)
    for start in range(0, len(distinct), most):
        rows = distinct[start : start + most]
        mine = (i >= rows[0]) & (i <= rows[-1])
        # Each image is read once, however many pairs it has.
        found = _correlated(first, taken(first.images, rows), rows, other, i[mine], j[mine], least)
        for part in batches(first.images, len(found[0])):
            yield found[0][part], found[1][part]


def _correlated(
    first: DescribedImages,
    images: UInt8,
    rows: Int64,
    other: DescribedImages,
    i: Int64,
    j: Int64,
    least: float,
) -> Positions:
    """The pairs that the second bound does not rule out; `images` are those at `rows`, sorted."""
    order = np.argsort(j, kind="stable")
    i, j = i[order], j[order]
    place = np.searchsorted(rows, i)
    bound = np.empty(len(i), np.float32)
    columns, starts = np.unique(j, return_index=True)
    ends = np.append(starts, len(j))
    rings = first_of_each_radius(first.shift)

    def fill(part: slice) -> None:
        of_part = templates(other.images[columns[part]], first.shift)
        norms = other.norms[columns[part]]
        for at, (start, end) in enumerate(pairwise(ends[part.start : part.stop + 1].tolist())):
            for some in batches(images, end - start):
                highest = np.maximum.reduceat(
                    products_with(of_part[at], images[place[start:end][some]]), rings, axis=1
                )
                mine = first.norms[i[start:end][some]]
                bound[start:end][some] = (highest / (mine * norms[at])).max(axis=1)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(fill, batches(other.images, len(columns), (2 * first.shift + 1) ** 2)):
            pass
    left = bound >= least - _CORRELATION_ROUNDING
    return i[left], j[left]


def _by_similarity(
    first: DescribedImages, other: DescribedImages, i: Int64, j: Int64, least: float
) -> Scored:
    """The pairs that are near duplicates but not equal, with their similarity."""
    mine, theirs = first.images[i], other.images[j]
    found = similarity(gradients(mine), gradients(theirs), first.shift)
    near = (found >= least - _ROUNDING) & (first.digests[i] != other.digests[j])
    spectra = amplitudes(mine[near], first.shift) * amplitudes(theirs[near], first.shift)
    near[near] = spectra.sum(axis=1) >= least - SLACK - _ROUNDING
    return i[near], j[near], np.minimum(found[near], 1)


def _copies(images: DescribedImages) -> Int64:
    """`(n,)`: at the first of several equal images, how many there are; 0 at the others."""
    return np.bincount(images.earliest, minlength=len(images))


def _with_copies(
    first: DescribedImages, other: DescribedImages, i: Int64, j: Int64
) -> tuple[Int64, Int64, Int64]:
    """Extend pairs to all copies of both images; also return the pair that each comes from."""
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
