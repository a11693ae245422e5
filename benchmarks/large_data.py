"""Peak memory and speed with more images than fit in memory.

    python benchmarks/large_data.py [--images 100000] [--side 128] [--folder .]

Draws photographs in colour (80 % to train on, 10 % each for validation and testing) into an `.npz`
in a temporary folder below `--folder`, which needs four times their size. Then measures, each in a
new process: the stages `load`, `subset`, `guard`, `preprocess`, and `train`, which trains the
notebook's low-capacity network for an epoch and scores it on both splits. Libraries count in peak
memory; "of float32" compares the peak to an array of all images as networks read them.

The surcharge of reading images is what up to 200 steps take beyond as many on one batch that is in
memory, in the same process; the two alternate, and their fastest times are compared (CPU time
hardly depends on what else runs). The smaller the network, the larger the surcharge. Files that
were just written are still in the system's cache.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from operator import attrgetter
from pathlib import Path

import numpy as np
from apart import MIB, ApartRun, Cost
from bare import Seconds

from flows.recipe import stages
from flows.recipe.presets import NOTEBOOK
from tasks.core.names import TEST, TRAIN, VALIDATION
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.base import changed
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.statistics.replicates import Replicate
from tasks.engine.profile import configure, resolve_profile
from tasks.storage.npz import Rows, write_npz
from tasks.storage.store import Store

CLASSES = 10
SHARES = {TRAIN: 0.8, VALIDATION: 0.1, TEST: 0.1}
# The notebook's low-capacity model, the smallest of its convnets.
SMALL = changed(NOTEBOOK.low_capacity, {"epochs": 1, "batch_size": 128})
TRAINING = stages.train("low_capacity", SMALL, Replicate(1, None, 0))
# Steps that are timed.
STEPS = 200
# Rows drawn at a time, and the side of a patch of one colour.
DRAWN, PATCH = 256, 16


def photographs(count: int, side: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Patches of colour with noise, none like another, `(m, side, side, 3)` uint8 at a time."""
    patches = -(-side // PATCH) + 1
    for start in range(0, count, DRAWN):
        size = min(DRAWN, count - start)
        colours = rng.integers(0, 192, (size, patches, patches, 3), dtype=np.uint8)
        wide = colours.repeat(PATCH, axis=1).repeat(PATCH, axis=2)
        images = np.empty((size, side, side, 3), np.uint8)
        # Edges at other places in each image, as in photographs.
        for image, source, (down, right) in zip(
            images, wide, rng.integers(0, PATCH, (size, 2)), strict=True
        ):
            image[:] = source[down : down + side, right : right + side]
        yield images + rng.integers(0, 64, images.shape, dtype=np.uint8)


def draw(path: Path, images: int, side: int) -> None:
    """Write a data set of photographs with all three splits."""
    arrays: dict[str, np.ndarray | Rows] = {}
    for seed, (name, share) in enumerate(SHARES.items()):
        rng = np.random.default_rng(seed)
        size = int(images * share)
        arrays[f"{name}_labels"] = rng.integers(0, CLASSES, size, dtype=np.uint8)
        arrays[f"{name}_images"] = Rows(
            (size, side, side, 3), np.dtype(np.uint8), photographs(size, side, rng)
        )
    with path.open("wb") as file:
        write_npz(file, arrays)


def compared(root: str, arrays: Record, rounds: int) -> tuple[list[Seconds], list[Seconds]]:
    """The time of steps on batches from the file, and of as many on one batch in memory."""
    configure(resolve_profile(ExecutionSettings(device="cpu")))
    import keras
    import tensorflow as tf

    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import Batches
    from tasks.models.fit import stored_examples

    inputs = Store(root).inputs(TRAINING, {"arrays": arrays})
    examples = stored_examples(inputs, "arrays", TRAIN, CLASSES)
    height, width, channels = examples.x.shape[1:]
    model = fast_network(build_network(SMALL, (height, width, channels), CLASSES, 0))
    model.compile(optimizer=keras.optimizers.RMSprop(), loss="categorical_crossentropy")
    rng = np.random.default_rng(0)
    # Anywhere in the file, as in an epoch.
    chosen = rng.permutation(len(examples))[: STEPS * SMALL.batch_size]
    batches = Batches(examples.take(chosen), SMALL.batch_size)
    one = tf.data.Dataset.from_tensors(batches[0]).repeat(len(batches))
    one = one.apply(tf.data.experimental.assert_cardinality(len(batches)))
    found: tuple[list[Seconds], list[Seconds]] = ([], [])
    model.fit(one.take(3), shuffle=False, verbose=0)
    for _ in range(rounds):
        for given, times in ((batches.prefetched(), found[0]), (one, found[1])):
            began = Seconds.now()
            model.fit(given, shuffle=False, verbose=0)
            times.append(Seconds.now() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 100_000), ("side", 128), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        every = Path(folder)
        data_set = every / "photographs.npz"
        draw(data_set, given.images, given.side)
        settings = changed(NOTEBOOK, {"dataset": str(data_set)})
        raw = computed(every, stages.load(settings))
        split = computed(every, stages.subset(settings), raw=raw)
        computed(every, stages.guard(settings), split=split)
        arrays = computed(every, stages.preprocess(), split=split)
        computed(every, TRAINING, arrays=arrays)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(compared, str(every), arrays, given.rounds).result()
        report(*found)


def report(from_file: list[Seconds], in_memory: list[Seconds]) -> None:
    """Print the times of steps, and the surcharge."""
    shown = (", ".join(map(str, times)) for times in (from_file, in_memory))
    print("seconds (of CPU) of steps from the file: {}; of as many in memory: {}".format(*shown))
    wall, cpu = (
        100 * (min(map(part, from_file)) / min(map(part, in_memory)) - 1)
        for part in (attrgetter("wall"), attrgetter("cpu"))
    )
    print(f"surcharge {wall:.1f} % ({cpu:.1f} % of CPU)", flush=True)


def computed(root: Path, stage: Stage, **inputs: Record) -> Record:
    """Compute a stage in a new process; print its cost."""

    def seen(_stage: Stage, inputs: Mapping[str, Outcome], _outcome: Outcome, cost: Cost) -> None:
        whole = (
            4
            * sum(
                given.files[name].size
                for role, given in inputs.items()
                if isinstance(given, Record)
                for name in SHARES
                if name in stage.reads[role]
            )
            / MIB
        )
        if whole:
            print(f"  peak of {whole:,.0f} MiB of float32: {cost.peak / whole:.2f}", flush=True)

    profile = resolve_profile(ExecutionSettings(device="cpu"))
    outcome = ApartRun(root, profile, seen).take(stage, (), inputs)
    assert isinstance(outcome, Record)
    return outcome


if __name__ == "__main__":
    main()
