"""Rows of accuracies and seconds, in a JSON Lines file, shared by `accuracy.py` and `peers.py`.

One row for each training. What tells trainings apart (`Training`) is in the row, so a training that
is in the file is not repeated. Nothing but the standard library and NumPy is imported, since
programs of other environments use it, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Training:
    """What is trained: a program, its recipe, how long, on how many images, from which seed.

    `budget` is the time that the epochs were chosen for, in seconds; None if they are given.
    `version` is that of the library, or the key of the stage.
    """

    program: str
    recipe: str
    epochs: int
    images: int
    seed: int
    budget: float | None
    version: str


@dataclass(frozen=True)
class Row(Training):
    """A training and what came of it.

    Accuracies are in per cent of all test images; `seconds` is the time from arrays in memory to
    the trained model, None if it is not known; `speed` is that of the machine just before, in
    GFLOP/s (`fashion.product_speed`).
    """

    accuracy: float
    seconds: float | None
    parameters: int | None
    speed: float
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    @property
    def training(self) -> Training:
        return Training(**{name: getattr(self, name) for name in Training.__dataclass_fields__})


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file, none if there is no file; a last line that was cut off is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            given: dict[str, Any] = json.loads(line)
            yield Row(**given)
        except (ValueError, TypeError):
            if number < len(lines):
                raise SystemExit(f"error: {path}, line {number} is not a row; remove it") from None


def append(path: Path, row: Row) -> None:
    """Write a row at the end, after what an interruption left of a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.exists() else ""
    if text and not text.endswith("\n"):
        whole = text[: text.rfind("\n") + 1]
        path.write_text(whole)
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")
