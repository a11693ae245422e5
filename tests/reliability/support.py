"""Helpers of the reliability tests: the contents of a store, and how much the tests do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Enough stages to interrupt a run between them, few enough to finish soon.
SHORT = ("--preset", "smoke", "--set", "plan=[]", "--transfer-weights", "off")
SMOKE = ("--preset", "smoke")


@dataclass(frozen=True)
class Size:
    """How much the tests do: `full` in `make test-reliability`, small in `make test`.

    Attributes:
        full: whether the tests do everything worth doing.
        training_kills: how often a training is killed.
        flow_kills: how often a flow is killed.
        damages: how often a file is damaged; None for every file in every way.
        settings: the arguments of `fashion-flow run`.
    """

    full: bool
    training_kills: int
    flow_kills: int
    damages: int | None
    settings: tuple[str, ...]


SMALL = Size(False, training_kills=3, flow_kills=2, damages=8, settings=SHORT)
FULL = Size(True, training_kills=30, flow_kills=30, damages=None, settings=SMOKE)

# Records what a test measured, by name; printed after all tests.
Record = Callable[[str, object], None]


def contents(store: Path) -> Mapping[str, str]:
    """SHA-256 of every file in the stages' folders, records included, by path in the store.

    Leftover checkpoints and temporary files count, too: after a run, there must be none.
    """
    paths = [path for path in (store / "stages").rglob("*") if path.is_file()]
    assert paths, "there is nothing to compare"
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }


def differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """The paths at which two stores differ."""
    return sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))
