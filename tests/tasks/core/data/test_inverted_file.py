"""An inverted file finds nearly all matches, and only matches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from tasks.core.data.inverted_file import Codes, inverted_file


def unit(count: int, size: int, seed: int) -> Codes:
    """Vectors of length 1 around 20 points."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(20, size))
    values = centres[rng.integers(0, 20, count)] + 0.5 * rng.normal(size=(count, size))
    codes: Codes = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)
    return codes


def found(codes: Codes, queries: Codes, least: float) -> dict[tuple[int, int], float]:
    file = inverted_file(codes, np.arange(len(codes)))
    return {
        (int(a), int(b)): float(value)
        for i, j, product in file.matches(queries, np.arange(len(queries)), least)
        for a, b, value in zip(i, j, product, strict=True)
    }


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 8), st.floats(0.1, 1))
def test_few_vectors_are_all_compared(n: int, m: int, size: int, least: float) -> None:
    codes, queries = unit(n, size, 0), unit(m, size, 1)
    products = codes.astype(np.float64) @ queries.astype(np.float64).T
    matches = found(codes, queries, least)
    for pair, product in np.ndenumerate(products):
        if pair in matches:
            assert matches[pair] == pytest.approx(product, abs=2e-3)
        else:
            assert product < least + 2e-3


def test_nearly_all_close_vectors_are_found() -> None:
    """Queries are vectors that were changed a little; a query visits a sixth of the cells."""
    codes = unit(8_000, 24, 0)
    changed = codes[:1_000] + 0.05 * np.random.default_rng(1).normal(size=(1_000, 24))
    queries = (changed / np.linalg.norm(changed, axis=1, keepdims=True)).astype(np.float16)
    products = codes.astype(np.float32) @ queries.astype(np.float32).T
    matches = found(codes, queries, 0.93)
    expected = set(zip(*(side.tolist() for side in np.nonzero(products > 0.931)), strict=True))
    assert len(expected) >= 990
    assert len(expected & matches.keys()) >= 0.995 * len(expected)
    assert all(products[pair] > 0.929 for pair in matches)


def test_every_chosen_vector_is_in_one_cell() -> None:
    chosen = np.arange(1, 3_000, 2)
    file = inverted_file(unit(3_000, 6, 0), chosen)
    assert sorted(file.members.tolist()) == chosen.tolist()
    assert (file.starts[0], file.starts[-1]) == (0, len(chosen))
    assert (np.diff(file.starts) >= 0).all()


def test_only_chosen_queries_are_compared() -> None:
    codes = unit(40, 4, 0)
    file = inverted_file(codes, np.arange(10))
    pairs = [(i, j) for i, j, _ in file.matches(codes, np.array([3, 30]), 0.5)]
    assert {int(j) for _, side in pairs for j in side} == {3, 30}
    assert max(int(i.max()) for i, _ in pairs if len(i)) < 10


@pytest.mark.parametrize("size", [3, 240])
def test_cells_are_the_same_with_any_number_of_threads(size: int) -> None:
    """All sums are exact, so their order does not matter."""
    codes = unit(4_000, size, 0)
    files = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            file = inverted_file(codes, np.arange(len(codes)))
            files.append(file.centroids.tobytes() + file.members.tobytes())
    assert len(set(files)) == 1


def test_equal_vectors_fit_into_cells() -> None:
    codes = np.tile(unit(1, 5, 0), (500, 1))
    assert len(found(codes, codes[:3], 0.99)) == 1_500
