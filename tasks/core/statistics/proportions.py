"""Intervals and tests for accuracies of single trained networks on one set of images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tasks.core.array_types import Bool

CONFIDENCE = 0.95


@dataclass(frozen=True)
class McNemar:
    """How many images only one of two networks gets right, and the exact two-sided p value."""

    only_incumbent: int
    only_candidate: int
    p_value: float


def mcnemar(incumbent: Bool, candidate: Bool) -> McNemar:
    """McNemar's exact test of two networks on the same images: a sign test (McNemar 1947)."""
    only_incumbent = int((incumbent & ~candidate).sum())
    only_candidate = int((candidate & ~incumbent).sum())
    return McNemar(only_incumbent, only_candidate, sign_test(only_candidate, only_incumbent))


def sign_test(
    wins: int, losses: int, alternative: Literal["two-sided", "greater"] = "two-sided"
) -> float:
    """Exact binomial test that wins and losses are equally likely; 1 if there are none."""
    if wins + losses == 0:
        return 1.0
    # Importing SciPy's statistics takes a second, so only computing imports it.
    from scipy import stats

    return float(stats.binomtest(wins, wins + losses, 0.5, alternative).pvalue)


def wilson_interval(right: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for an accuracy (Wilson 1927; Newcombe 1998, method 3)."""
    from scipy import stats

    found = stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def newcombe_interval(
    incumbent: Bool, candidate: Bool, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Newcombe's interval (1998, method 10) for a difference of accuracies on the same images.

    It combines Wilson's intervals of both accuracies and takes their correlation into account.
    """
    n = len(incumbent)
    both, neither = int((incumbent & candidate).sum()), int((~incumbent & ~candidate).sum())
    right, old_right = int(candidate.sum()), int(incumbent.sum())
    p, q = right / n, old_right / n
    p_low, p_high = wilson_interval(right, n, confidence)
    q_low, q_high = wilson_interval(old_right, n, confidence)
    product = right * (n - right) * old_right * (n - old_right)
    agreement: float = both * neither - (right - both) * (old_right - both)
    if agreement > 0:
        agreement = max(agreement - n / 2, 0)
    phi = agreement / math.sqrt(product) if product else 0.0
    down, up = p - p_low, q_high - q
    below = math.sqrt(max(down**2 - 2 * phi * down * up + up**2, 0))
    down, up = q - q_low, p_high - p
    above = math.sqrt(max(down**2 - 2 * phi * down * up + up**2, 0))
    return p - q - below, p - q + above
