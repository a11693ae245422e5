"""An epoch of the final model in the flow's training loop, and in Keras's own.

    python benchmarks/training_loop.py [--images 10000 --epochs 3 --rounds 3] [--profile]

Keras's way is one call of `fit` with arrays, which shuffles for itself, for the notebook's final
network of Keras's own layers and for the form of it that trains fastest
(`tasks/core/networks/fast_layers.py`).
Ours is what the stages do with that form: order of samples from the seed, batches made beside the
learning, one call of `fit` an epoch, a check that all numbers are finite, a checkpoint on the disk,
the epoch's line in the log. All train on drawn images, in turn, in one process; the first epoch, in
which TensorFlow traces its graph, does not count. The same with the notebook's augmentation, which
Keras's way does without here: what it costs shows in the difference. Seconds of CPU stand beside
seconds, since other work makes a machine slower at one time than at another. That noise is of the
size of what is looked for, so the parts of our loop are timed one by one, too, each in its thread.
The last line is the CPU of all of them, augmentation included, as a fraction of an epoch of Keras's
of the quick form.

Keras's own epoch waits at times for TensorFlow to let go of its pipeline, ours does not; the least
of Keras's seconds are those of an epoch that did not wait.

`--profile` shows instead which of TensorFlow's operations an epoch of the final network spends its
time on, in both forms, and one of VGG16's block 5 on stored outputs of block 4.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from bare import Seconds
from threads import CLASSES, final_network

from flows.recipe.presets import NOTEBOOK
from tasks.core.networks.vgg16_layout import block_below
from tasks.core.records import Stage
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.training import AugmentSettings, TrainSettings
from tasks.engine.profile import configure, resolve_profile
from tasks.storage.store import Store

Epochs = list[Seconds]

PLAIN, QUICK = "Keras's own", "Keras's own, of the quick form"


def network(spec: TrainSettings, shape: tuple[int, ...], *, quick: bool) -> Any:
    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network

    height, width, channels = shape
    model = build_network(spec, (height, width, channels), CLASSES, 0)
    return fast_network(model) if quick else model


def kerass(spec: TrainSettings, examples: Any, epochs: int, *, quick: bool) -> Epochs:
    """What each epoch but the first takes in one call of `fit`."""
    import keras

    model = network(spec, examples.x.shape[1:], quick=quick)
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate=spec.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    ends: list[Seconds] = []
    ended = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(Seconds.now()))
    keras.utils.set_random_seed(0)  # TensorFlow shuffles with it
    model.fit(
        examples.x,
        examples.y,
        batch_size=spec.batch_size,
        epochs=epochs + 1,
        verbose=0,
        callbacks=[ended],
    )
    return [end - begun for begun, end in pairwise(ends)]


def ours(
    spec: TrainSettings, augmentation: AugmentSettings | None, parts: Counter[str] | None = None
) -> Callable[[TrainSettings, Any, int], Epochs]:
    """The same in the stages' loop; what its parts take is added to `parts`."""

    def measured(_: TrainSettings, examples: Any, epochs: int) -> Epochs:
        from tasks.core.training.loop import Schedule
        from tasks.models.fit import fit

        stage = Stage("final", "retrain", {"seed": 0}, {}, numerical=True)
        model = network(spec, examples.x.shape[1:], quick=True)
        schedule = Schedule(
            epochs + 1, spec.batch_size, spec.learning_rate, augmentation=augmentation
        )
        ends: list[Seconds] = []
        with tempfile.TemporaryDirectory(dir=".") as folder:
            store = Store(str(Path(folder)))
            key, basis = store.key_of(stage, {}, resolve_profile(ExecutionSettings(device="cpu")))
            outputs = store.writer(stage, key, basis)
            outputs.watch = lambda _: ends.append(Seconds.now())
            with timed(Counter() if parts is None else parts, epochs + 1):
                fit(model, examples, None, schedule, 0, outputs, {})
        return [end - begun for begun, end in pairwise(ends)]

    return measured


@contextmanager
def timed(spent: Counter[str], epochs: int) -> Iterator[None]:
    """Add what an epoch's parts take of CPU, each in the thread that it runs in, to `spent`."""
    from tasks.core.training import loop as training
    from tasks.storage.checkpoints import Checkpoints
    from tasks.storage.store import Outputs

    parts = {
        "order of samples, drawing of transforms": (training, "_epoch_of"),
        "batches and augmentation, beside the learning": (training.Batches, "__getitem__"),
        "check that all numbers are finite": (training, "_check_finite"),
        "checkpoint": (Checkpoints, "save"),
        "line in the log": (Outputs, "epoch_done"),
    }

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[part] += (time.thread_time() - began) / epochs

        return call

    with ExitStack() as stack:
        for part, (place, name) in parts.items():
            stack.enter_context(mock.patch.object(place, name, watched(part, getattr(place, name))))
        yield


def call_of_fit(spec: TrainSettings, examples: Any) -> float:
    """CPU of a call of `fit` with a single image: what an epoch has that steps have not."""
    import keras

    from tasks.core.training.loop import Batches, Examples

    model = network(spec, examples.x.shape[1:], quick=True)
    model.compile(optimizer=keras.optimizers.RMSprop(), loss="categorical_crossentropy")
    one = Batches(Examples(examples.x[:1], examples.y[:1]), spec.batch_size)
    taken = []
    for _ in range(10):
        began = time.process_time()
        model.fit(one.prefetched(), shuffle=False, verbose=0)
        taken.append(time.process_time() - began)
    return median(taken)


def profile(title: str, model: Any, x: np.ndarray, batch_size: int) -> None:
    """Print seconds by kind of operation, of TensorFlow's own profiler, for one epoch."""
    import keras
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    rng = np.random.default_rng(0)
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, len(x))]
    model.compile(optimizer=keras.optimizers.RMSprop(), loss="categorical_crossentropy")
    model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)  # traces the graph
    began = Seconds.now()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        took = Seconds.now() - began
        (found,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(found.read_bytes())
    spent: Counter[str] = Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if name.startswith("StatefulPartitionedCall/"):
                group = (
                    "RMSprop"
                    if "rm_sprop" in name
                    else kind.removeprefix("_Mkl").removeprefix("Native")
                )
                spent[group] += event.duration_ps / 1e12
    whole = sum(spent.values())
    print(f"{title}: {took} s, of which in operations {whole:.1f}")
    for kind, seconds in spent.most_common(12):
        print(f"  {kind:<32}{seconds:8.2f} s{100 * seconds / whole:7.1f} %")


def profiles(spec: TrainSettings, x: np.ndarray) -> None:
    """Profile the final network, and what is fine-tuned of VGG16."""
    import keras

    from tasks.core.networks import vgg16
    from tasks.core.networks.vgg16_layout import random_weights

    keras.utils.set_random_seed(0)  # the profiler's own operations ask for one
    for title, quick in (("Keras's layers", False), ("the quick form", True)):
        final = network(spec, x.shape[1:], quick=quick)
        profile(f"final network, {title}, an epoch", final, x, spec.batch_size)
    way = NOTEBOOK.transfer.as_notebook
    base = vgg16.build_base(way.side)
    vgg16.set_weights(base, random_weights(0))
    complete = vgg16.build_complete(base, way.dense, way.dropout, CLASSES, 0)
    part = vgg16.trainable_part(complete, block_below(way.features))
    rng = np.random.default_rng(0)
    features = rng.random((len(x), *part.input_shape[1:]), dtype=np.float32)
    profile("VGG16's block 5 and head, an epoch", part, features, way.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 10_000), ("epochs", 3), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--profile", action="store_true", help="what an epoch is spent on")
    options = parser.parse_args()
    configure(resolve_profile(ExecutionSettings(device="cpu")))
    from tasks.core.training.loop import Examples

    spec = final_network(1)
    rng = np.random.default_rng(0)
    x = rng.random((options.images, 28, 28, 1), dtype=np.float32)
    if options.profile:
        profiles(spec, x)
        return
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, options.images)]
    examples = Examples(x, y)
    spent: Counter[str] = Counter()
    ways: dict[str, Callable[[TrainSettings, Any, int], Epochs]] = {
        PLAIN: partial(kerass, quick=False),
        QUICK: partial(kerass, quick=True),
        "ours": ours(spec, None),
        "ours, augmented": ours(spec, AugmentSettings(), spent),
    }
    found: dict[str, Epochs] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            found[name] += way(spec, examples, options.epochs)
    for title, chosen in (("least", min), ("median", median)):
        print(f"{title} seconds (of CPU) an epoch, over Keras's own")
        taken = {
            name: Seconds(chosen(one.wall for one in epochs), chosen(one.cpu for one in epochs))
            for name, epochs in found.items()
        }
        plain = taken[PLAIN]
        for name, seconds in taken.items():
            wall, cpu = seconds.wall / plain.wall - 1, seconds.cpu / plain.cpu - 1
            print(f"  {name:<34}{seconds!s:>17}{100 * wall:+8.1f} % ({100 * cpu:+.1f} %)")
    quick = taken[QUICK].cpu
    print(f"milliseconds of CPU an epoch in the parts of ours, augmented, of {QUICK}'s")
    costs = {part: seconds / options.rounds for part, seconds in spent.items()}
    costs["a call of `fit`"] = call_of_fit(spec, examples)
    for part, cost in costs.items():
        print(f"  {part:<50}{1000 * cost:8.0f}{100 * cost / quick:8.1f} %")
    print(f"overhead {sum(costs.values()) / quick:.3f}")


if __name__ == "__main__":
    main()
