"""An inverted file: vectors in cells, of which a query visits only the nearest few.

The cells are those of the nearest centroid, found by k-means (Sivic and Zisserman, "Video Google",
2003; Lloyd, "Least squares quantization in PCM", 1982). All vectors of a cell are compared with all
queries that visit it by one matrix product.

Vectors are rounded to whole numbers so small that float32 holds every sum of their products
exactly. So results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, Int64
from tasks.core.seeds import generator

# A vector of length 1 becomes whole numbers of about this length. Sums of products stay below
# 2 ** 24, up to which float32 holds all whole numbers.
_SCALE = 4_000
# Cells per square root of the number of vectors.
_CELLS = 2
# A query visits one of so many cells, the nearest, but at least `_LEAST_VISITS`.
_SHARE, _LEAST_VISITS = 6, 16
# The cells are fitted to so many vectors each, in so many rounds.
_SAMPLE, _ROUNDS = 32, 4
# Queries at a time: with fewer, the products are too small for two threads.
_QUERIES = 2**14
# Vectors at a time, and products at a time: few enough for the processor's cache.
_BLOCK, _PRODUCTS = 4_096, 2**20

Codes = NDArray[np.float16]
# Positions of a vector and of a query, and the dot product of the two.
Matches = tuple[Int64, Int64, Float32]


@dataclass(frozen=True)
class InvertedFile:
    """Vectors of length 1 or less, by cell.

    Attributes:
        codes: `(n, k)` float16, the vectors.
        centroids: `(c, k)` float32, whole numbers.
        members: `(m,)` positions in `codes`, cell by cell.
        starts: `(c + 1,)`; the members of cell x are `members[starts[x] : starts[x + 1]]`.
    """

    codes: Codes
    centroids: Float32
    members: Int64
    starts: Int64

    def matches(self, queries: Codes, chosen: Int64, least: float) -> Iterator[Matches]:
        """The vectors and queries whose dot product is at least `least`, nearly all of them.

        Args:
            queries: `(q, k)` float16, vectors of length 1 or less.
            chosen: `(p,)` positions in `queries` of those to compare.
            least: in (0, 1].
        """
        visits = min(len(self.centroids), max(_LEAST_VISITS, len(self.centroids) // _SHARE))
        for begin in range(0, len(chosen), _QUERIES):
            some = chosen[begin : begin + _QUERIES]
            values = _whole(queries[some])
            visited = _nearest(values, self.centroids, visits)
            visitors, starts = _by_cell(visited.ravel(), len(self.centroids))
            visitors //= visits
            for cell in range(len(self.centroids)):
                members = self.members[self.starts[cell] : self.starts[cell + 1]]
                guests = visitors[starts[cell] : starts[cell + 1]]
                for i, j, product in self._products(members, values[guests], least):
                    yield i, some[guests[j]], product

    def _products(self, members: Int64, values: Float32, least: float) -> Iterator[Matches]:
        if not len(values):
            return
        size = max(1, _PRODUCTS // len(values))
        for start in range(0, len(members), size):
            some = members[start : start + size]
            products = (_whole(self.codes[some]) @ values.T).ravel()
            found = np.flatnonzero(products >= least * _SCALE**2)
            i, j = np.divmod(found, len(values))
            yield some[i], j, products[found] / np.float32(_SCALE**2)


def inverted_file(codes: Codes, chosen: Int64) -> InvertedFile:
    """Divide vectors among cells.

    Args:
        codes: `(n, k)` float16, vectors of length 1 or less.
        chosen: `(m,)` positions of those to take.
    """
    count = min(len(chosen), _CELLS * isqrt(len(chosen)))
    rng = generator(0, "cells")
    sample = rng.permutation(len(chosen))[: _SAMPLE * count]
    centroids = _fitted(_whole(codes[chosen[np.sort(sample)]]), count, rng)
    parts = (chosen[start : start + _QUERIES] for start in range(0, len(chosen), _QUERIES))
    cells = np.concatenate([_nearest(_whole(codes[part]), centroids, 1) for part in parts])
    order, starts = _by_cell(cells.ravel(), count)
    return InvertedFile(codes, centroids, chosen[order], starts)


def _fitted(sample: Float32, count: int, rng: np.random.Generator) -> Float32:
    """`(count, k)` centroids of the sample by k-means, rounded to whole numbers."""
    centroids = sample[rng.permutation(len(sample))[:count]]
    for _ in range(_ROUNDS):
        order, starts = _by_cell(_nearest(sample, centroids, 1).ravel(), count)
        used = np.flatnonzero(np.diff(starts))
        # Whole numbers add up exactly in float64; a cell that lost all members stays.
        sums = np.add.reduceat(sample[order], starts[used], axis=0, dtype=np.float64)
        centroids[used] = np.rint(sums / np.diff(starts)[used, None])
    return centroids


def _whole(codes: Codes) -> Float32:
    found: Float32 = np.rint(codes.astype(np.float32) * np.float32(_SCALE))
    return found


def _nearest(values: Float32, centroids: Float32, count: int) -> Int64:
    """`(n, count)`: the nearest centroids of each vector, in any order."""
    squares = np.square(centroids).sum(axis=1)
    found = np.empty((len(values), count), np.int64)
    for start in range(0, len(values), _BLOCK):
        distances = squares - 2 * (values[start : start + _BLOCK] @ centroids.T)
        found[start : start + _BLOCK] = (
            distances.argmin(axis=1)[:, None]
            if count == 1
            else np.argpartition(distances, count - 1, axis=1)[:, :count]
        )
    return found


def _by_cell(cells: Int64, count: int) -> tuple[Int64, Int64]:
    """Positions in `cells` sorted by cell, and `(count + 1,)` where each cell begins."""
    order = np.argsort(cells, kind="stable")
    return order, np.searchsorted(cells[order], np.arange(count + 1))
