"""The order of classes as people count: `2` before `10`."""

from __future__ import annotations

import re
from collections.abc import Iterable


def in_natural_order(names: Iterable[str]) -> list[str]:
    """The different names, sorted; numbers in them by their value, letters without their case."""
    return sorted(set(names), key=_rank)


def _rank(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Numbers come before words; names that differ only in case or zeros are sorted as they are."""
    whole = re.fullmatch(r"-?\d+", name)
    parts = [name] if whole else re.findall(r"\d+|\D+", name)
    ranks = [
        (0, int(part), "") if whole or part[0].isdecimal() else (1, 0, part.casefold())
        for part in parts
    ]
    return ranks, name
