"""What a checkpoint after each epoch costs: the same training with and without, in turn.

    python benchmarks/checkpoints.py [--rounds 5]

Prints, for the notebook's overfitting network and for its largest, on 8,000 random images: seconds
an epoch without and with checkpoints (medians of the rounds, the first epoch of each left out since
it compiles), bytes of a checkpoint, and the share of an epoch that it takes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from flows.presets import NOTEBOOK
from tasks.checkpoints import Checkpoints, checkpoints
from tasks.core.progress import Progress
from tasks.core.specs import ExecutionSettings, TrainSettings, changed
from tasks.runtime import configure, resolve_profile

LARGEST = {"padding": "same", "kernel_sizes": [3, 3, 3], "dropout": 0.25}
EPOCHS = 3


def epoch_times(spec: TrainSettings, examples: Any, folder: Path | None) -> list[float]:
    from tasks.core.models import build_network
    from tasks.core.training import Schedule, train

    model = build_network(spec, (28, 28, 1), 10, 0)
    kept = Checkpoints("benchmark", folder, "", EPOCHS, (), (), lambda: None) if folder else None
    ends = []

    def on_epoch(progress: Progress) -> None:
        if kept:
            kept.save(progress)
        ends.append(time.perf_counter())

    train(model, examples, None, Schedule(EPOCHS, 128, 0.001), 0, on_epoch=on_epoch)
    return [end - start for start, end in itertools.pairwise(ends)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    configure(resolve_profile(ExecutionSettings()))
    from tasks.core.training import Examples

    chance = np.random.default_rng(0)
    labels = chance.integers(10, size=8000)
    x = chance.random((8000, 28, 28, 1), dtype=np.float32)
    examples = Examples(x, np.eye(10, dtype=np.float32)[labels])
    networks = {
        "overfitting": NOTEBOOK.overfitting,
        "iteration 8": changed(NOTEBOOK.overfitting, LARGEST),
    }
    for name, spec in networks.items():
        without: list[float] = []
        with_them: list[float] = []
        for _ in range(rounds):
            without += epoch_times(spec, examples, None)
            with tempfile.TemporaryDirectory(dir=".") as folder:
                with_them += epoch_times(spec, examples, Path(folder))
                size = sum(path.stat().st_size for path in checkpoints(Path(folder)))
        before, after = statistics.median(without), statistics.median(with_them)
        print(
            f"{name}: {before:.3f} s an epoch without, {after:.3f} s with checkpoints of "
            f"{size / 1e6:.1f} MB; ratio {after / before:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
