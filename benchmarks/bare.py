"""Run the recipe's stages with their store and checkpoints, but without Prefect's engine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.build_model import TASKS
from flows.recipe import stages
from flows.recipe.presets import NOTEBOOK
from flows.recipe.run import Run
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.run_settings import Settings
from tasks.engine.stage import CACHED, RunContext
from tasks.sources.fashion_mnist import find_fashion_mnist
from tasks.storage.store import Store


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds, and CPU seconds of all threads of the process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:.1f} ({self.cpu:.1f})"


class BareRun(Run[Any]):
    """Runs each stage immediately, in this thread.

    `seconds` has the time of each stage, `cached` the names of those found in the store, `made` the
    records.
    """

    def __init__(self, root: Path, profile: Mapping[str, Any]) -> None:
        super().__init__(Store(str(root)))
        self.store = Store(str(root))
        self.context = RunContext(str(root), "bare", profile, workers=2)
        self.seconds: dict[str, Seconds] = {}
        self.cached: set[str] = set()
        self.made: dict[str, Record] = {}

    def known(self, name: str, record: Record) -> Record:
        return replace(record, stage=name)

    def take(self, stage: Stage, after: Sequence[Any], inputs: Mapping[str, Outcome]) -> Any:
        del after
        began = Seconds.now()
        state = TASKS[stage.kind].fn(stage, dict(inputs), self.context)
        self.seconds[stage.name] = Seconds.now() - began
        if state.name == CACHED:
            self.cached.add(stage.name)
        outcome = state.data
        if isinstance(outcome, Record):
            self.made[stage.name] = outcome
        return outcome

    def took(self, *names: str) -> Seconds:
        """The sum of these stages' times."""
        return sum((self.seconds[name] for name in names), Seconds(0, 0))

    def value(self, handle: Outcome) -> Outcome:
        return handle

    def preprocessed(self, settings: Settings) -> Outcome:
        """The notebook's steps 1 to 4."""
        raw = self(stages.load(settings))
        split = self(stages.subset(settings), raw=raw)
        arrays: Outcome = self(stages.preprocess(), split=split)
        return arrays

    def arrays(self, stage: str, name: str) -> dict[str, np.ndarray]:
        """The arrays in an `.npz` file of a stage."""
        with (
            self.store.opened(self.made[stage], name) as handle,
            np.load(handle, allow_pickle=False) as archive,
        ):
            return dict(archive)

    def facts(self, outcome: Outcome) -> Mapping[str, Any]:
        """The facts of a stage's record; ends the benchmark if the stage was skipped."""
        if not isinstance(outcome, Record):
            sys.exit(f"{outcome.stage}: {outcome.reason}")
        return outcome.facts


def dataset_at_hand() -> str:
    """Fashion-MNIST if it is on this machine, otherwise synthetic images."""
    found = find_fashion_mnist(os.environ, Path.cwd())
    return "synthetic" if found is None else "fashion-mnist"


def settings_of(
    dataset: str, train: int, validation: int, test: int, transfer: Mapping[str, Any]
) -> Settings:
    """The notebook's settings with other data and another `transfer`."""
    changes = {
        "dataset": dataset,
        "synthetic": {"train": train + validation, "test": test},
        "subset": {"train": train, "validation": validation, "test": test},
        "transfer": transfer,
    }
    return Settings.model_validate(NOTEBOOK.model_dump() | changes)
