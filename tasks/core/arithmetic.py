"""How far the results of a kind of stage depend on the machine that computes them."""

from __future__ import annotations

from enum import Enum


class Arithmetic(Enum):
    """How far a stage's results depend on the machine that computes them."""

    EXACT = "exact"
    """Not at all: whole numbers, and single operations that IEEE 754 defines to the last bit."""
    FLOATING = "floating"
    """NumPy, SciPy and OpenBLAS choose their code by the processor."""
    NETWORK = "network"
    """So does the backend, by the whole execution profile."""
