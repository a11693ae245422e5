"""Transfer from VGG16 at the notebook's size: the notebook's way and ours, in seconds.

    python benchmarks/transfer.py [--train 8000 --validation 2000 --test 2000 --epochs 11]

The notebook's way is plain Keras: every image passes all of VGG16 in each epoch. Ours are the very
stages of the flow (variant `as_notebook`), reading, hashing, writing and checkpoints included. Both
start from the same random weights on the same images, train the frozen stage and block 5, and score
the test images after each. Images are Fashion-MNIST where it is on this machine, else drawn ones;
which they are changes no time. At full size it takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bare import BareRun, dataset_at_hand, settings_of

from flows import stages
from flows.recipe import model_stages
from flows.transfer import transfer
from tasks.core.settings import Settings
from tasks.runtime import configure, resolve_profile


def ours(run: BareRun, settings: Settings, arrays: Any) -> tuple[dict[str, float], list[str]]:
    """Seconds of each part, and what the scores are."""
    made = transfer(run, settings, arrays)
    scores = []
    for model in model_stages(settings):
        if model.transfer:
            found = run(stages.evaluate(model), model=made[model.name], arrays=arrays)
            accuracies = run.facts(made[model.name]) | run.facts(found)
            scores.append(_scores(accuracies["val_accuracy"], accuracies["test_accuracy"]))
    seconds = run.seconds
    features = seconds["vgg16_block4"] + seconds["vgg16_block5"]
    frozen = seconds["vgg16_frozen"] + seconds["test_vgg16_frozen"]
    tuned = seconds["vgg16_fine_tuned"] + seconds["test_vgg16_fine_tuned"]
    return {"features": features, "frozen base": features + frozen, "fine-tuned": tuned}, scores


def notebooks(
    settings: Settings, splits: dict[str, dict[str, np.ndarray]]
) -> tuple[dict[str, float], list[str]]:
    """The notebook's cells 3a to 3e, from the same weights."""
    import keras
    import tensorflow as tf

    from tasks.core import vgg16
    from tasks.core.vgg16_layout import random_weights

    way = settings.transfer.as_notebook
    keras.utils.set_random_seed(settings.seed)  # TensorFlow shuffles with it
    clock = time.perf_counter()
    x, y = {}, {}
    for name, split in splits.items():
        grey = np.rint(split["x"] * 255)[..., 0]
        x[name] = tf.image.resize(np.repeat(grey[..., np.newaxis], 3, -1), [way.side, way.side])
        y[name] = split["y"]
    base = vgg16.build_base(way.side)
    vgg16.set_weights(base, random_weights(settings.seed))
    classes = y["train"].shape[1]
    model = vgg16.build_complete(base, way.dense, way.dropout, classes, settings.seed)
    seconds, scores = {}, []
    for part, epochs in (("frozen base", way.epochs), ("fine-tuned", way.fine_tune_epochs)):
        base.trainable = part == "fine-tuned"
        if base.trainable:
            for layer in base.layers:
                layer.trainable = layer.name.startswith("block5")
        optimizer = keras.optimizers.RMSprop(learning_rate=way.learning_rate)
        model.compile(loss=way.loss, optimizer=optimizer, metrics=["accuracy"])
        fitted = model.fit(
            x["train"],
            y["train"],
            epochs=epochs,
            batch_size=way.batch_size,
            validation_data=(x["validation"], y["validation"]),
            verbose=0,
        )
        _, accuracy = model.evaluate(x["test"], y["test"], verbose=0)
        scores.append(_scores(fitted.history["val_accuracy"][-1], accuracy))
        seconds[part] = time.perf_counter() - clock
        clock = time.perf_counter()
    return seconds, scores


def _scores(validation: float, test: float) -> str:
    return f"validation {100 * validation:.2f} %, test {100 * test:.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("train", 8000), ("validation", 2000), ("test", 2000), ("epochs", 11)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    epochs = {"epochs": given.epochs, "fine_tune_epochs": given.epochs}
    settings = settings_of(
        dataset_at_hand(),
        given.train,
        given.validation,
        given.test,
        {"weights": "random", "variant": "as_notebook", "as_notebook": epochs},
    )
    # TensorFlow's own start belongs to neither side.
    profile = resolve_profile(settings.execution)
    configure(profile)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        run = BareRun(Path(folder), profile)
        arrays = run.preprocessed(settings)
        here, our_scores = ours(run, settings, arrays)
        splits = {name: run.arrays("preprocess", name) for name in ("train", "validation", "test")}
        there, their_scores = notebooks(settings, splits)
    print(f"{'seconds':<14}{'notebook':>10}{'ours':>10}{'ratio':>8}")
    print(f"{'(features)':<14}{'':>10}{here['features']:>10.1f}")
    for part in ("frozen base", "fine-tuned"):
        ratio = there[part] / here[part]
        print(f"{part:<14}{there[part]:>10.1f}{here[part]:>10.1f}{ratio:>8.1f}")
    total, our_total = (sum(side[part] for part in there) for side in (there, here))
    print(f"{'in all':<14}{total:>10.1f}{our_total:>10.1f}{total / our_total:>8.1f}")
    print("'frozen base' of ours includes the features. Accuracies (random weights: a control):")
    for part, theirs, mine in zip(there, their_scores, our_scores, strict=True):
        print(f"  {part}: notebook's way {theirs}; ours {mine}")
    print(f"ratio {total / our_total:.1f}")


if __name__ == "__main__":
    main()
