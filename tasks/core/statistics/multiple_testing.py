"""Corrections for testing several changes with the same images."""

from __future__ import annotations

from collections.abc import Sequence


def gate_level(alpha: float, gates: int) -> float:
    """The level of each of a plan's gates: `alpha` divided by their number (Bonferroni).

    A gate decides before the next p value is known, so its level cannot depend on the others.
    """
    return alpha / max(1, gates)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number (Holm 1979), in the order given.

    The k-th smallest of m is multiplied by m - k + 1, raised to the adjusted value of the one
    before it if that is larger, and cut off at 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(highest, 1.0)
    return adjusted
