"""Two trainings: one after the other with two threads, or at the same time with one thread each.

    python benchmarks/threads.py [--epochs 3] [--rounds 3]

Trains the notebook's final network on 8,000 random images and scores 2,000 images after each epoch.
Each variant runs in a new process, since TensorFlow's threads can only be set once per process; the
variants take turns. CPU seconds are printed beside wall-clock seconds: they show whether other
programs slowed the machine down. The ratio is that of the median wall-clock times: two trainings at
the same time with one thread each, divided by two in sequence with two threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from dataclasses import dataclass
from statistics import median

import numpy as np
from bare import Seconds

from flows.recipe.presets import NOTEBOOK
from tasks.core.settings.base import changed
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.training import TrainSettings
from tasks.engine.profile import configure, resolve_profile

IMAGES, HELD_OUT, CLASSES = 8_000, 2_000, 10


@dataclass(frozen=True)
class Way:
    """How many trainings run with how many threads, and whether at the same time."""

    title: str
    threads: int
    trainings: int
    together: bool


WAYS = (
    Way("one, two threads", 2, 1, together=False),
    Way("one, one thread", 1, 1, together=False),
    Way("two in sequence, two threads", 2, 2, together=False),
    Way("two at the same time, two threads", 2, 2, together=True),
    Way("two at the same time, one thread", 1, 2, together=True),
)


def final_network(epochs: int) -> TrainSettings:
    """The network that results from the notebook's decisions."""
    settings = NOTEBOOK.overfitting
    for entry in NOTEBOOK.plan:
        if entry.replay == "forward":
            settings = changed(settings, entry.change)
    return changed(settings, {"epochs": epochs})


def measured(way: Way, epochs: int) -> Seconds:
    """The time of a variant, without that of importing TensorFlow."""
    configure(resolve_profile(ExecutionSettings(device="cpu", threads=way.threads)))
    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network
    from tasks.core.training.examples import Examples
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    spec = final_network(epochs)
    rng = np.random.default_rng(0)
    x = rng.random((IMAGES + HELD_OUT, 28, 28, 1), dtype=np.float32)
    every = Examples(x, rng.integers(0, CLASSES, len(x)), CLASSES)
    examples, held_out = every.take(np.arange(IMAGES)), every.take(np.arange(IMAGES, len(x)))

    def one(seed: int) -> None:
        model = fast_network(build_network(spec, x.shape[1:], CLASSES, seed))
        schedule = Schedule(epochs, spec.batch_size, spec.learning_rate)
        train(model, examples, held_out, schedule, seed)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(way.trainings)]
    began = Seconds.now()
    for thread in threads:
        thread.start()
        if not way.together:
            thread.join()
    for thread in threads:
        thread.join()
    return Seconds.now() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[Way, list[Seconds]] = {way: [] for way in WAYS}
    for number in range(1, options.rounds + 1):
        for way in WAYS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[way].append(pool.apply(measured, (way, options.epochs)))
            print(f"round {number}: {way.title:<40}{found[way][-1]!s:>17}", flush=True)
            time.sleep(1)
    medians = {
        way: Seconds(median(one.wall for one in times), median(one.cpu for one in times))
        for way, times in found.items()
    }
    print(f"\nmedian seconds (of CPU) for {options.epochs} epochs")
    for way, seconds in medians.items():
        print(f"{way.title:<40}{seconds!s:>17}")
    _, _, after, _, beside = medians.values()
    print(f"ratio {beside.wall / after.wall:.2f}")


if __name__ == "__main__":
    main()
