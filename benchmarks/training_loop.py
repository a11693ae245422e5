"""An epoch of the final model in the flow's training loop, compared with Keras's own loop.

    python benchmarks/training_loop.py [--family stack] [--images 10000 --epochs 3 --rounds 3]
        [--change optimizer.name=adamw ...] [--profile]

Keras's loop is one call of `fit` with arrays, which shuffles by itself, both for a network as built
from Keras's layers and for its quick form (`tasks/core/networks/fast_layers.py`). The network is
the notebook's final one (`stack`), or one of today's with their settings (`compact`, `residual`);
optimiser and learning rate are the same on both sides, and `--change` sets others.
The flow's loop is that of the stages, with the quick form: order of samples from the seed, batches
prepared in another thread, one call of `fit` per epoch, averages if there are any, a check that all
numbers are finite, a checkpoint on disk, a line in the log. It is also measured with augmentation
(the notebook's; for today's networks flips and shifts), which Keras's loop does not do here: the
difference shows what augmentation costs. All train on random images, alternately, in one process.
The first epoch does not count, since TensorFlow traces its graph then.

CPU seconds are printed beside wall-clock seconds, since other programs can slow a machine down.
This noise is as large as the differences of interest. Therefore each part of the flow's loop is
also timed alone, in its thread. The last line is the CPU time of all these parts, augmentation
included, as a fraction of an epoch of Keras's loop with the quick form.

At the end of an epoch, Keras's loop sometimes waits for TensorFlow to release its pipeline; the
flow's loop does not. The minimum of Keras's times is that of an epoch that did not wait.

`--profile` shows instead on which TensorFlow operations time is spent, for an epoch of the network
in both forms, and with `stack` for an epoch of VGG16's block 5 on stored outputs of block 4.
"""

from __future__ import annotations

import argparse
import json
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
from tasks.core.data.preprocessing import scaled
from tasks.core.networks.vgg16_layout import block_below
from tasks.core.records import Stage
from tasks.core.settings.base import changed
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.optimization import VariationSettings
from tasks.core.settings.training import AugmentSettings, TrainSettings
from tasks.core.stage_specs import RetrainSpec
from tasks.engine.keys import key_of
from tasks.engine.profile import configure, resolve_profile
from tasks.storage.store import Store

Epochs = list[Seconds]

PLAIN, QUICK = "Keras's loop", "Keras's loop, quick form"

# Today's networks and how they are trained; the notebook's are in its preset.
TODAY: dict[str, Any] = {
    "optimizer": {"name": "muon", "weight_decay": 0.05},
    "learning_rate": 0.02,
    "decay": "linear",
    "label_smoothing": 0.1,
    "average": {"kind": "ema"},
    "variation": {"flip": "alternating", "shift": 2, "erase": 8},
}


def settings(family: str, changes: list[str]) -> TrainSettings:
    """The settings of a family, with changes such as `optimizer.name=adamw`."""
    if family == "stack":
        spec = changed(final_network(1), {"augmentation": AugmentSettings().model_dump()})
    else:
        spec = changed(TrainSettings(), {"network.family": family, **TODAY})
    for change in changes:
        name, _, value = change.partition("=")
        spec = changed(spec, {name: loaded(value)})
    return spec


def loaded(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def unvaried(spec: TrainSettings) -> TrainSettings:
    """The same training on images as they are, with labels as they are."""
    plain = {name: TrainSettings.model_fields[name].default for name in ("augmentation", "average")}
    return spec.model_copy(
        update={**plain, "variation": VariationSettings(), "label_smoothing": 0.0}
    )


def network(spec: TrainSettings, shape: tuple[int, ...], *, quick: bool) -> Any:
    from tasks.core.networks.families import build_network
    from tasks.core.networks.fast_layers import fast_network

    height, width, channels = shape
    model = build_network(spec, (height, width, channels), CLASSES, 0)
    return fast_network(model) if quick else model


def optimizer(spec: TrainSettings, model: Any, images: int, epochs: int) -> Any:
    """The optimiser of the flow's loop, for Keras's."""
    from tasks.core.training.optimizers import RateTable, make_optimizer
    from tasks.core.training.schedule import Schedule

    rates = Schedule.of(changed(spec, {"epochs": epochs})).rates(images)
    rate = spec.learning_rate if rates is None else RateTable(rates)
    return make_optimizer(spec.optimizer, rate, model.trainable_variables)


def keras_loop(spec: TrainSettings, examples: Any, epochs: int, *, quick: bool) -> Epochs:
    """The time of each epoch but the first in one call of `fit`."""
    import keras

    model = network(spec, examples.x.shape[1:], quick=quick)
    model.compile(
        optimizer=optimizer(spec, model, len(examples), epochs + 1),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    ends: list[Seconds] = []
    ended = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(Seconds.now()))
    keras.utils.set_random_seed(0)  # TensorFlow shuffles with it
    x, y = examples.batch(slice(None))
    model.fit(
        x,
        y,
        batch_size=spec.batch_size,
        epochs=epochs + 1,
        verbose=0,
        callbacks=[ended],
    )
    return [end - begun for begun, end in pairwise(ends)]


def flow_loop(
    varied: bool, parts: Counter[str] | None = None
) -> Callable[[TrainSettings, Any, int], Epochs]:
    """The same for the stages' loop; adds the CPU time of its parts to `parts`."""

    def measured(spec: TrainSettings, examples: Any, epochs: int) -> Epochs:
        from tasks.core.training.schedule import Schedule
        from tasks.models.fit import fit

        training = changed(spec if varied else unvaried(spec), {"epochs": epochs + 1})
        stage = Stage("final", RetrainSpec(training=training, seed=0))
        model = network(spec, examples.x.shape[1:], quick=True)
        schedule = Schedule.of(training)
        ends: list[Seconds] = []
        with tempfile.TemporaryDirectory(dir=".") as folder:
            store = Store(str(Path(folder)))
            key, basis = key_of(stage, {}, resolve_profile(ExecutionSettings(device="cpu")))
            outputs = store.writer(stage, key, basis)
            outputs.on_epoch = lambda *_: ends.append(Seconds.now())
            with timed(Counter() if parts is None else parts, epochs + 1):
                fit(model, examples, None, schedule, 0, outputs, {})
        return [end - begun for begun, end in pairwise(ends)]

    return measured


@contextmanager
def timed(spent: Counter[str], epochs: int) -> Iterator[None]:
    """Add the CPU seconds per epoch of the loop's parts, each in its thread, to `spent`."""
    from tasks.core.training import loop as training
    from tasks.core.training.averages import Averages
    from tasks.storage.checkpoints import Checkpoints
    from tasks.storage.exchange import Outputs

    parts = {
        "order of samples, random transforms": (training, "_epoch_of"),
        "batches and augmentation, in another thread": (training.Batches, "__getitem__"),
        "averages": (Averages, "after"),
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
    """CPU seconds of a call of `fit` with a single image: the overhead of an epoch."""
    from tasks.core.training.loop import Batches

    model = network(spec, examples.x.shape[1:], quick=True)
    model.compile(optimizer=optimizer(spec, model, 1, 1), loss="categorical_crossentropy")
    one = Batches(examples.take(np.arange(1)), spec.batch_size)
    taken = []
    for _ in range(10):
        began = time.process_time()
        model.fit(one.prefetched(), shuffle=False, verbose=0)
        taken.append(time.process_time() - began)
    return median(taken)


def profile(title: str, model: Any, rule: Any, x: np.ndarray, batch_size: int) -> None:
    """Print the seconds per kind of operation in an epoch, by TensorFlow's profiler."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    rng = np.random.default_rng(0)
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, len(x))]
    model.compile(optimizer=rule, loss="categorical_crossentropy")
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
                kind = kind.removeprefix("_Mkl").removeprefix("Native")
                spent["optimiser" if rule.name in name else kind] += event.duration_ps / 1e12
    whole = sum(spent.values())
    print(f"{title}: {took} s, of which {whole:.1f} s in operations")
    for kind, seconds in spent.most_common(12):
        print(f"  {kind:<32}{seconds:8.2f} s{100 * seconds / whole:7.1f} %")


def profiles(spec: TrainSettings, x: np.ndarray) -> None:
    """Profile the network and, with the notebook's, the fine-tuned part of VGG16."""
    import keras

    from tasks.core.networks import vgg16
    from tasks.core.networks.vgg16_layout import random_weights

    keras.utils.set_random_seed(0)  # the profiler's operations need a seed
    for title, quick in (("Keras's layers", False), ("the quick form", True)):
        model = network(spec, x.shape[1:], quick=quick)
        rule = optimizer(spec, model, len(x), 2)
        profile(f"the network, {title}, an epoch", model, rule, x, spec.batch_size)
    if spec.network.family != "stack":
        return
    way = NOTEBOOK.transfer.as_notebook
    base = vgg16.build_base(way.side)
    vgg16.set_weights(base, random_weights(0))
    complete = vgg16.build_complete(base, way.dense, way.dropout, CLASSES, 0)
    part = vgg16.trainable_part(complete, block_below(way.features))
    rng = np.random.default_rng(0)
    features = rng.random((len(x), *part.input_shape[1:]), dtype=np.float32)
    rule = keras.optimizers.RMSprop()
    profile("VGG16's block 5 and head, an epoch", part, rule, features, way.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 10_000), ("epochs", 3), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--family", choices=("stack", "compact", "residual"), default="stack")
    parser.add_argument("--change", nargs="*", default=[], help="NAME=VALUE of training settings")
    parser.add_argument("--profile", action="store_true", help="show the operations of an epoch")
    options = parser.parse_args()
    configure(resolve_profile(ExecutionSettings(device="cpu")))
    from tasks.core.training.examples import Examples

    spec = settings(options.family, options.change)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (options.images, 28, 28, 1), dtype=np.uint8)
    if options.profile:
        profiles(spec, scaled(x))
        return
    examples = Examples(x, rng.integers(0, CLASSES, options.images), CLASSES)
    spent: Counter[str] = Counter()
    ways: dict[str, Callable[[TrainSettings, Any, int], Epochs]] = {
        PLAIN: partial(keras_loop, quick=False),
        QUICK: partial(keras_loop, quick=True),
        "the flow's loop": flow_loop(varied=False),
        "the flow's loop, augmented": flow_loop(varied=True, parts=spent),
    }
    found: dict[str, Epochs] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            found[name] += way(spec, examples, options.epochs)
    for title, chosen in (("minimum", min), ("median", median)):
        print(f"{title} seconds (CPU) per epoch, and difference to Keras's loop")
        taken = {
            name: Seconds(chosen(one.wall for one in epochs), chosen(one.cpu for one in epochs))
            for name, epochs in found.items()
        }
        plain = taken[PLAIN]
        for name, seconds in taken.items():
            wall, cpu = seconds.wall / plain.wall - 1, seconds.cpu / plain.cpu - 1
            print(f"  {name:<34}{seconds!s:>17}{100 * wall:+8.1f} % ({100 * cpu:+.1f} %)")
    quick = taken[QUICK].cpu
    print(
        f"CPU milliseconds per epoch in parts of the flow's loop, augmented; per cent of '{QUICK}'"
    )
    costs = {part: seconds / options.rounds for part, seconds in spent.items()}
    costs["a call of `fit`"] = call_of_fit(spec, examples)
    for part, cost in costs.items():
        print(f"  {part:<50}{1000 * cost:8.0f}{100 * cost / quick:8.1f} %")
    print(f"overhead {sum(costs.values()) / quick:.3f}")


if __name__ == "__main__":
    main()
