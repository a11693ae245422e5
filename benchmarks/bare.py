"""Run stages of the recipe as they are, store and checkpoints included, but without Prefect."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import stages
from flows.build_model import TASKS
from flows.presets import NOTEBOOK
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings import Settings
from tasks.runtime import resolve_profile
from tasks.stage import RunContext
from tasks.store import Store


class BareRun:
    """Computes or finds each stage at once; `seconds` says how long each took."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.store = Store(str(root))
        profile = resolve_profile(settings.execution)
        self.context = RunContext(str(root), "benchmark", profile, settings.execution.workers)
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: Stage, after: Sequence[Any] = (), **inputs: Outcome) -> Outcome:
        del after
        began = time.perf_counter()
        state = TASKS[stage.kind].fn(stage, inputs, self.context)
        self.seconds[stage.name] = time.perf_counter() - began
        return state.data

    def value(self, handle: Outcome) -> Outcome:
        return handle

    def arrays(self, settings: Settings) -> Outcome:
        """Steps 1 to 4 of the notebook."""
        raw = self(stages.load(settings))
        return self(stages.preprocess(), split=self(stages.subset(settings), raw=raw))

    def facts(self, outcome: Outcome) -> Mapping[str, Any]:
        """What a stage found; the benchmark ends where it was skipped."""
        if not isinstance(outcome, Record):
            sys.exit(f"{outcome.stage}: {outcome.reason}")
        return outcome.facts


def settings_of(train: int, validation: int, test: int, transfer: Mapping[str, Any]) -> Settings:
    """The notebook's settings with other numbers of images and other ways of transfer.

    The images are Fashion-MNIST's where `FASHION_MNIST_DIR` names them, else drawn ones.
    """
    changes = {
        "dataset": "fashion-mnist" if os.environ.get("FASHION_MNIST_DIR") else "synthetic",
        "synthetic": {"train": train + validation, "test": test},
        "subset": {"train": train, "validation": validation, "test": test},
        "transfer": transfer,
    }
    return Settings.model_validate(NOTEBOOK.model_dump() | changes)
