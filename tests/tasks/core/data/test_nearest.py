"""An index finds nearly all of the nearest vectors, whatever the machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.array_types import Int64
from tasks.core.data.copy_axes import DIMENSIONS, Vectors
from tasks.core.data.nearest import cells, nearest


def vectors(count: int, seed: int) -> Vectors:
    """Whole numbers around 20 points."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(scale=20, size=(20, DIMENSIONS))
    values = centres[rng.integers(0, 20, count)] + rng.normal(scale=10, size=(count, DIMENSIONS))
    return np.clip(np.rint(values), -127, 127).astype(np.int8)


def distances(some: Vectors, queries: Vectors) -> Int64:
    """`(q, n)` squared distances."""
    apart = queries[:, None].astype(np.int64) - some[None].astype(np.int64)
    found: Int64 = np.square(apart).sum(axis=2)
    return found


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 70))
def test_of_few_vectors_the_nearest_are_found_exactly(n: int, q: int, count: int) -> None:
    some, queries = vectors(n, 0), vectors(q, 1)
    i, j = nearest(some, np.arange(n)).of(queries, count)
    expected = np.sort(distances(some, queries), axis=1)[:, :count]
    assert len(set(zip(i.tolist(), j.tolist(), strict=True))) == len(i) == expected.size
    for query in range(q):
        mine = np.sort(distances(some[i[j == query]], queries[query : query + 1])[0])
        assert mine.tolist() == expected[query].tolist()


def test_a_changed_vector_finds_its_origin_among_many() -> None:
    some = vectors(8_000, 0)
    noise = np.random.default_rng(1).integers(-4, 5, (1_000, DIMENSIONS))
    queries = np.clip(some[:1_000] + noise, -127, 127).astype(np.int8)
    i, j = nearest(some, np.arange(len(some))).of(queries, 8)
    assert (i == j).sum() >= 995


def test_positions_are_those_given() -> None:
    some = vectors(40, 0)
    index = nearest(some, np.arange(40) * 3 + 5)
    i, j = index.of(some, 1)
    assert (i == j * 3 + 5).all()
    assert index.end > i.max()


def test_equal_vectors_are_all_found() -> None:
    some = np.repeat(vectors(1, 0), 500, axis=0)
    i, j = nearest(some, np.arange(500)).of(some[:3], 500)
    assert len(i) == 1_500
    assert np.bincount(j).tolist() == [500] * 3


def test_comparisons_grow_more_slowly_than_the_product_of_the_sizes() -> None:
    """With both sets, four times as many: 8 times as many comparisons, not 16, and fewer soon."""
    import faiss

    found: Any = faiss.cvar
    compared = []
    for count in (4_000, 16_000):
        index = nearest(vectors(count, 0), np.arange(count))
        found.indexIVF_stats.reset()
        index.of(vectors(count // 8, 1), 65)
        compared.append(found.indexIVF_stats.ndis + cells(count) * (count + count // 8))
    assert log(compared[1] / compared[0], 16) < 0.8


DIGEST = """
import hashlib, sys
import numpy as np
import faiss
from tests.tasks.core.data.test_nearest import digest
faiss.omp_set_num_threads(int(sys.argv[1]))
print(digest())
"""


def digest() -> str:
    """Of what an index proposes."""
    some = vectors(6_000, 0)
    i, j = nearest(some, np.arange(len(some))).of(vectors(500, 1), 65)
    return hashlib.sha256(np.sort(j * len(some) + i).tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("threads", "environment"),
    [
        (1, {}),
        (2, {}),
        (3, {"OMP_NUM_THREADS": "1"}),
        # Read by faiss and by its OpenBLAS on x86; ignored elsewhere.
        (2, {"FAISS_SIMD_LEVEL": "NONE", "OPENBLAS_CORETYPE": "Prescott"}),
        (1, {"FAISS_SIMD_LEVEL": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}),
    ],
)
def test_proposals_are_the_same_with_any_threads_and_instructions(
    threads: int, environment: dict[str, str]
) -> None:
    """Each index is built and asked in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", DIGEST, str(threads)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest()


def test_faiss_is_not_imported_before_an_index_is_built() -> None:
    code = "import sys, tasks.stages.guard; print('faiss' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
