"""An index of vectors, which finds the nearest of each query, nearly all of them.

It is faiss's inverted file (Douze et al., "The Faiss library", 2024): vectors are in cells, those
of the nearest centroid by k-means, and a query visits a fixed number of cells. There are more cells
the more vectors there are, so a query is compared with about as many as the square root of their
number.

All numbers are whole and so small that float32 holds every sum of their products exactly. So
results do not depend on faiss's BLAS, its instruction set or the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from tasks.core.array_types import Int64
from tasks.core.data.copy_axes import DIMENSIONS, Vectors
from tasks.core.seeds import generator

# Cells per square root of the number of vectors, and how many of them a query visits.
_CELLS, _VISITED = 4, 64
# The cells are fitted to so many vectors each, in so many rounds.
SAMPLE, ROUNDS = 32, 4
# Vectors at a time, to bound the memory of their float32 versions.
_BLOCK = 2**16


@dataclass(frozen=True)
class Nearest:
    """Vectors at the positions `(m,)`, in faiss's index."""

    index: Any
    positions: Int64

    @property
    def end(self) -> int:
        """A number that is larger than all positions."""
        return int(self.positions.max(initial=-1)) + 1

    def of(self, queries: Vectors, count: int) -> tuple[Int64, Int64]:
        """Pairs of a vector's position and a query's: the `count` nearest of each query, or fewer.

        Args:
            queries: `(q, DIMENSIONS)`.
            count: how many to find, 1 or more.
        """
        _, found = self.index.search(queries.astype(np.float32), min(count, len(self.positions)))
        query, column = np.nonzero(found >= 0)
        return self.positions[found[query, column]], query


def nearest(vectors: Vectors, positions: Int64) -> Nearest:
    """Build an index of the vectors `(m, DIMENSIONS)`, which are known by their positions."""
    # It takes a while to import, and small sets do not need it.
    import faiss

    count = cells(len(vectors))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatL2(DIMENSIONS),
        DIMENSIONS,
        count,
        faiss.ScalarQuantizer.QT_8bit_direct_signed,
        faiss.METRIC_L2,
        False,
    )
    index.nprobe = _VISITED
    index.cp.int_centroids = True
    index.cp.niter = ROUNDS
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, SAMPLE
    sample = np.sort(generator(0, "cells").permutation(len(vectors))[: SAMPLE * count])
    index.train(vectors[sample].astype(np.float32))
    for start in range(0, len(vectors), _BLOCK):
        index.add(vectors[start : start + _BLOCK].astype(np.float32))
    return Nearest(index, positions)


def cells(count: int) -> int:
    """The number of cells for so many vectors."""
    return min(count, _CELLS * isqrt(count))
