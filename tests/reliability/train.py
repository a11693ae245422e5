"""Run a few trainings one after the other: `train.py STORE`.

The stages are those of the flow, with locks, checkpoints and records, but without Prefect's engine,
so that the process starts and ends sooner. It logs its progress to standard error.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from flows.recipe import stages
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.images import SubsetSettings, SyntheticSettings
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import AugmentSettings, TrainSettings
from tasks.core.statistics.replicates import Replicate
from tasks.engine.profile import resolve_profile
from tasks.engine.stage import RunContext
from tasks.stages.load import load
from tasks.stages.preprocess import preprocess
from tasks.stages.retrain import retrain
from tasks.stages.subset import subset
from tasks.stages.train import train
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store

TASKS = {task.name: task for task in (load, subset, preprocess, train, retrain)}
EPOCHS, FEWER_EPOCHS, FINAL_EPOCHS = 8, 5, 4
FIRST, OTHER = (Replicate(number, None, seed) for number, seed in ((1, 0), (1, 1)))

SETTINGS = Settings(
    dataset="synthetic",
    plan=(),
    synthetic=SyntheticSettings(train=1500, test=100),
    subset=SubsetSettings(train=1100, validation=300, test=100),
    # Everything that draws numbers or has a state, and an incomplete last batch.
    overfitting=TrainSettings(
        filters=(16, 16),
        kernel_sizes=(3, 3),
        pooled=(True, True),
        batch_norm=True,
        dense=(32,),
        dropout=0.25,
        l2=0.001,
        batch_size=64,
        epochs=EPOCHS,
        augmentation=AugmentSettings(),
    ),
)


def main(store: Store, run_id: str) -> None:
    """Run each stage in turn, as a flow with one worker would."""
    profile = resolve_profile(SETTINGS.execution)
    RunLog(store, run_id).folder.mkdir(parents=True, exist_ok=True)
    context = RunContext(str(store.root), run_id, profile, workers=1)

    def run(stage: Stage, **inputs: Outcome) -> Outcome:
        outcome: Any = TASKS[stage.kind].fn(stage, inputs, context).data
        assert isinstance(outcome, Record)
        return outcome

    raw = run(stages.load(SETTINGS))
    arrays = run(stages.preprocess(), split=run(stages.subset(SETTINGS), raw=raw))
    whole = SETTINGS.overfitting
    fewer = whole.model_copy(update={"epochs": FEWER_EPOCHS})
    final = whole.model_copy(update={"epochs": FINAL_EPOCHS})
    first = run(stages.train("overfitting", whole, FIRST, snapshots=[FEWER_EPOCHS]), arrays=arrays)
    # One with another seed, which starts from scratch; one that starts from the first's snapshot.
    run(stages.train("other_seed", final, OTHER), arrays=arrays)
    run(
        stages.train("fewer_epochs", fewer, FIRST, beginnings=["first"]), arrays=arrays, first=first
    )
    run(stages.retrain(final, FIRST), arrays=arrays)
    print("all done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    log = logging.getLogger("fashion_flow")
    log.handlers, log.propagate = [logging.StreamHandler(sys.stderr)], False
    log.setLevel(logging.DEBUG)
    main(Store(sys.argv[1]), "trainings")
