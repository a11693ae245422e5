"""Intervals and tests of proportions against published examples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.statistics.proportions import (
    mcnemar,
    newcombe_interval,
    sign_test,
    wilson_interval,
)


def table(both: int, first: int, second: int, neither: int) -> tuple[NDArray, NDArray]:
    """Two classifiers on the same images: how many both, only one and neither gets right."""
    counts = (both, first, second, neither)
    one, other = np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)
    return one.astype(bool), other.astype(bool)


def test_mcnemar_s_exact_test_bentur_2009() -> None:
    """Fagerland, Lydersen and Laake (2013): 1 and 7 discordant pairs of 21, exact p = 0.070."""
    before, after = table(1, 1, 7, 12)
    found = mcnemar(before, after)
    assert (found.only_incumbent, found.only_candidate) == (1, 7)
    assert found.p_value == pytest.approx(0.0703, abs=5e-5)


def test_mcnemar_without_any_difference() -> None:
    before, after = table(5, 0, 0, 3)
    assert mcnemar(before, after).p_value == 1.0


def test_newcombe_s_interval_altman_2000() -> None:
    """Altman et al., Statistics with confidence, p. 52: 14, 5, 0 and 22 of 41: 0.011 to 0.226."""
    candidate, incumbent = table(14, 5, 0, 22)
    low, high = newcombe_interval(incumbent, candidate)
    assert (low, high) == pytest.approx((0.011, 0.226), abs=5e-4)


@pytest.mark.parametrize(
    ("right", "n", "interval"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_s_interval_newcombe_1998(right: int, n: int, interval: tuple[float, float]) -> None:
    """Newcombe (1998), table I, method 3."""
    assert wilson_interval(right, n) == pytest.approx(interval, abs=5e-5)


def test_wilson_s_interval_reaches_the_ends_exactly() -> None:
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == 1


def test_wilson_s_interval_grows_with_the_confidence() -> None:
    narrow, wide = wilson_interval(8, 10, 0.9), wilson_interval(8, 10, 0.99)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]


def test_a_sign_test_counts_the_tail_of_the_binomial_distribution() -> None:
    assert sign_test(3, 0, "greater") == pytest.approx(1 / 8)
    assert sign_test(3, 0) == pytest.approx(2 / 8)
    assert sign_test(0, 0, "greater") == 1
