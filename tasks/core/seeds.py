"""Random numbers that depend on (seed, purpose, position) alone, never on global state."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """An independent generator for each (seed, purpose, position)."""
    return np.random.default_rng(np.random.SeedSequence([seed, _number(purpose), *position]))


def layer_seed(seed: int, layer: str) -> int:
    """The seed of a layer's initial weights or dropout, in [0, 2**31)."""
    return int(generator(seed, f"layer {layer}").integers(2**31))


def _number(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")
