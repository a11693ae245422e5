"""What a checkpoint after each epoch costs, compared with the training itself.

    python benchmarks/checkpoints.py [--epochs 4]

For the notebook's overfitting network and its largest network, on 8,000 random images, prints the
seconds per epoch (median without the first epoch, which compiles), the size of a checkpoint, the
seconds to write it (median) and the ratio of both times. The writing is timed directly, since the
times of two trainings differ by more than a checkpoint costs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import numpy as np

from flows.recipe.presets import NOTEBOOK
from tasks.core.settings.base import changed
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.training import TrainSettings
from tasks.core.training.progress import Progress
from tasks.engine.profile import configure, resolve_profile
from tasks.storage.checkpoints import Checkpoints, checkpoints
from tasks.storage.local_path import LocalPath

LARGEST = {"padding": "same", "kernel_sizes": [3, 3, 3], "dropout": 0.25}


def measure(spec: TrainSettings, examples: Any, epochs: int) -> tuple[float, float, int]:
    """Seconds per epoch, seconds to write its checkpoint, and the checkpoint's bytes."""
    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    trained: list[float] = []
    written: list[float] = []
    size = 0
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = LocalPath(name)
        kept = Checkpoints("benchmark", folder, "", epochs, (), (), lambda: None)
        last = time.perf_counter()

        def on_epoch(progress: Progress) -> None:
            nonlocal last, size
            began = time.perf_counter()
            kept.save(progress)
            ended = time.perf_counter()
            trained.append(began - last)
            written.append(ended - began)
            last, size = ended, sum(path.stat().st_size for path in checkpoints(folder))

        model = fast_network(build_network(spec, (28, 28, 1), 10, 0))
        train(model, examples, None, Schedule(epochs, 128, 0.001), 0, on_epoch=on_epoch)
    return statistics.median(trained[1:]), statistics.median(written[1:]), size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs
    configure(resolve_profile(ExecutionSettings()))
    from tasks.core.training.examples import Examples

    chance = np.random.default_rng(0)
    labels = chance.integers(10, size=8000)
    x = chance.random((8000, 28, 28, 1), dtype=np.float32)
    examples = Examples(x, labels, 10)
    networks = {
        "overfitting": NOTEBOOK.overfitting,
        "iteration 8": changed(NOTEBOOK.overfitting, LARGEST),
    }
    for name, spec in networks.items():
        epoch, write, size = measure(spec, examples, epochs)
        print(
            f"{name}: {epoch:.2f} s per epoch, {write:.3f} s to write a checkpoint "
            f"of {size / 1e6:.1f} MB; ratio {write / epoch:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
