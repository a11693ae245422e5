"""Corrections for several tests against published and hand-computed values."""

from __future__ import annotations

import pytest

from tasks.core.statistics.multiple_testing import gate_level, holm


def test_holm_s_adjusted_p_values() -> None:
    """The example that Wikipedia gives for Holm (1979)."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_s_values_never_decrease_and_end_at_1() -> None:
    """By hand: 3 x 0.02 = 0.06; 2 x 0.02 = 0.04, raised to 0.06; then 0.9."""
    assert holm([0.9, 0.02, 0.02]) == pytest.approx([0.9, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_gates_share_the_level() -> None:
    assert gate_level(0.05, 9) == pytest.approx(0.05 / 9)
    assert gate_level(0.05, 0) == 0.05
