"""Accuracy on all 10,000 test images of Fashion-MNIST against the time that training takes.

    python benchmarks/accuracy.py [--images 10000] [--seconds 60 | --recipe tiny] [--seeds 5]
        [--predictions FILE] [--store artifacts/accuracy]

Trains the network that fits into `--seconds` on this machine's cores, once for each seed, on
`--images` images, and scores it on all test images. The seconds are those from the arrays on disk
to the trained model: tracing and writing the model are included, importing TensorFlow is not. A
training is a stage of the flow and is kept in the store, so the script continues after an
interruption; the seconds of a training that was interrupted are not known.

How much fits is estimated from the speed of a convolution like those of the network, measured
first, in billions of floating-point operations per second. The sizes and rates of `RECIPES` were
chosen on training images that are not among the default's 10,000; no test image was used.

`--recipe` trains one of them with all its epochs instead, however long that takes. In the end, the
last network predicts all test images in batches, and some one by one, for the time of an image.

Each training is also a row of `rows.jsonl` in the store, for `benchmarks/accuracy_plot.py`, with
the machine's speed in a product of matrices.

`--predictions` writes a Parquet file with the class predicted for each test image, in the data
set's order (`predicted`), by the training of the last seed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from accuracy_rows import Row, append, rows
from bare import BareRun, settings_of
from fashion import product_speed, test_file
from numpy.typing import NDArray

from flows.recipe import stages
from flows.recipe.contents import recipe_models
from tasks.core.errors import FashionFlowError
from tasks.core.names import FINAL, MODEL, TEST_PREDICTIONS, evaluation_name
from tasks.core.settings.base import changed
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.training import TrainSettings
from tasks.core.statistics.replicates import Replicate
from tasks.engine.profile import configure, resolve_profile

# Part of the time that convolutions take, and seconds for tracing, reading and writing.
_USE, _START_S = 0.72, 6.0
_COMMON: dict[str, Any] = {
    "network": {"family": "compact", "activation": "relu", "whitening": False, "views": "flips"},
    "optimizer": {"name": "muon", "weight_decay": 0.05},
    "learning_rate": 0.02,
    "decay": "linear",
    "warmup": 0.25,
    "label_smoothing": 0.1,
    "variation": {"flip": "alternating", "shift": 1},
}


@dataclass(frozen=True)
class Recipe:
    """Changes to the common settings, for trainings of certain lengths; the first that fits."""

    name: str
    change: dict[str, Any]
    least_epochs: int
    most_epochs: int
    least_images: int = 0


RECIPES = (
    Recipe(
        "large",
        {"network.widths": [64, 128, 256], "variation.erase": 8, "batch_size": 64},
        20,
        24,
        least_images=30_000,
    ),
    Recipe(
        "medium",
        {"network.widths": [48, 96, 192], "variation.erase": 8, "batch_size": 64},
        12,
        32,
    ),
    Recipe("small", {"network.widths": [16, 48, 128]}, 1, 16),
)
# Small networks, which `--recipe` names.
SMALLEST = (
    Recipe("tiny", {"network.widths": [16, 32, 64]}, 32, 32),
    Recipe("compact", {"network.widths": [16, 48, 96]}, 32, 32),
)


def training_speed() -> float:
    """Billions of floating-point operations per second in a convolution and its gradient."""
    import tensorflow as tf

    x, kernel = tf.ones((128, 13, 13, 32)), tf.ones((3, 3, 32, 64))

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            total = tf.reduce_sum(tf.square(tf.nn.conv2d(x, kernel, 1, "SAME")))
        return tape.gradient(total, (x, kernel))

    step()
    speeds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(5):
            gradients = step()
        gradients[1].numpy()
        speeds.append(5 * 3 * 2e-9 * 128 * 13**2 * 9 * 32 * 64 / (time.perf_counter() - began))
    return max(speeds)


def operations(training: TrainSettings) -> float:
    """Billions of floating-point operations in a training step's convolutions, per image."""
    from tasks.core.networks.families import build_network

    total = 0.0
    for layer in build_network(training, (28, 28, 1), 10, 0).layers:
        if hasattr(layer, "kernel") and len(layer.kernel.shape) == 4:
            height, width = layer.output.shape[1:3]
            total += (
                2e-9
                * height
                * width
                * math.prod(layer.kernel.shape)
                * (3 if layer.trainable else 1)
            )
    return total


def chosen(seconds: float, images: int, speed: float) -> tuple[str, TrainSettings]:
    """The largest recipe that fits, with as many epochs as fit."""
    for recipe in RECIPES:
        training = changed(changed(TrainSettings(), _COMMON), recipe.change)
        epoch = images * operations(training) / (speed * _USE)
        epochs = int((seconds - _START_S) / epoch)
        enough = images >= recipe.least_images
        if (enough and epochs >= recipe.least_epochs) or recipe is RECIPES[-1]:
            epochs = max(1, min(epochs, recipe.most_epochs))
            return recipe.name, changed(training, {"epochs": epochs})
    raise AssertionError("the last recipe always fits")


def whole(name: str) -> TrainSettings:
    """A recipe with all its epochs."""
    recipe = next(recipe for recipe in (*RECIPES, *SMALLEST) if recipe.name == name)
    training = changed(changed(TrainSettings(), _COMMON), recipe.change)
    return changed(training, {"epochs": recipe.most_epochs})


def milliseconds(path: Path, images: NDArray[np.uint8]) -> tuple[float, float]:
    """The time of an image, predicted by plain Keras in batches of 256, and alone."""
    import keras

    model = keras.models.load_model(path, compile=False, safe_mode=True)
    x = images.astype(np.float32) / 255
    found = []
    for size, count in ((256, 40 * 256), (1, 256)):
        batches = [x[start : start + size] for start in range(0, min(count, len(x)), size)]
        batches = [batch for batch in batches if len(batch) == size]
        times = []
        for _ in range(3):
            began = time.perf_counter()
            for batch in batches:
                model.predict_on_batch(batch)
            times.append(time.perf_counter() - began)
        found.append(1e3 * min(times) / (size * len(batches)))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    names = [recipe.name for recipe in (*RECIPES, *SMALLEST)]
    parser.add_argument("--recipe", choices=names, help="instead of what fits into the seconds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--store", type=Path, default=Path("artifacts/accuracy"))
    given = parser.parse_args()
    settings = settings_of(
        "fashion-mnist",
        given.images * 4 // 5,
        given.images - given.images * 4 // 5,
        10_000,
        {"weights": "off"},
    )
    profile = resolve_profile(ExecutionSettings(device="cpu"))
    configure(profile)
    run = BareRun(given.store, profile)
    speed = training_speed()
    if given.recipe:
        name, training = given.recipe, whole(given.recipe)
    else:
        name, training = chosen(given.seconds, given.images, speed)
    products = product_speed()
    print(
        f"convolutions: {speed:.0f} GFLOP/s, products of matrices: {products:.0f}; "
        f"recipe {name}, {training.epochs} epochs",
        flush=True,
    )
    table_of_rows = given.store / "rows.jsonl"
    written = {row.training for row in rows(table_of_rows)}
    arrays = run.preprocessed(settings)
    model = next(model for model in recipe_models(settings) if model.name == FINAL)
    known = given.store / "seconds.json"
    # By training: its seconds, and the machine's speed just before it.
    seconds: dict[str, list[float]] = json.loads(known.read_text()) if known.exists() else {}
    accuracies, times = [], []
    for seed in range(given.seeds):
        replicate = Replicate(number=seed + 1, fold=None, seed=seed)
        stage = stages.retrain(training, replicate)
        made = run(stage, arrays=arrays)
        key = made.key
        if stage.name not in run.cached:
            seconds[key] = [run.seconds[stage.name].wall, products]
            known.write_text(json.dumps(seconds, indent=1))
        scored = run(stages.evaluate(model, stage.name), model=made, arrays=arrays)
        facts = run.facts(scored)
        accuracies.append(100 * facts["test_accuracy"])
        took, then = seconds.get(key, [float("nan"), products])
        times.append(took)
        print(
            f"seed {seed}: {accuracies[-1]:.2f} %, {times[-1]:.1f} s, "
            f"{made.facts['params']:,} parameters",
            flush=True,
        )
        row = Row(
            program="fashion-flow",
            recipe=name,
            epochs=training.epochs,
            images=given.images,
            seed=seed,
            budget=None if given.recipe else given.seconds,
            version=key[:12],
            accuracy=accuracies[-1],
            seconds=took if key in seconds else None,
            parameters=made.facts["params"],
            speed=then,
        )
        if row.training not in written:
            append(table_of_rows, row)
        if given.predictions:
            with run.store.opened(run.made[evaluation_name(stage.name)], TEST_PREDICTIONS) as file:
                table = pq.read_table(file)
            pq.write_table(pa.table({"predicted": table["predicted"]}), given.predictions)
    file = run.store.local(made.files[MODEL])
    with_others, alone = milliseconds(file, test_file()[0][..., None])
    print(f"an image takes {with_others:.2f} ms in batches of 256, {alone:.1f} ms alone")
    print(f"accuracy {mean(accuracies):.2f} seconds {mean(times):.0f}")


if __name__ == "__main__":
    try:
        main()
    except FashionFlowError as error:
        sys.exit(f"error: {error}")
