"""Transfer from VGG16 at the notebook's size: plain Keras compared with the flow's stages.

    python benchmarks/transfer.py [--train 8000 --validation 2000 --test 2000 --epochs 11]

The notebook's way is plain Keras: in each epoch, every image passes through all of VGG16. The
flow's way is that of its stages (variant `as_notebook`), including reading, hashing, writing and
checkpoints. Both start from the same random weights on the same images, train the frozen base and
then block 5, and score the test images after each. The images are Fashion-MNIST if it is on this
machine, otherwise synthetic ones; their content does not affect the time. CPU seconds are printed
beside wall-clock seconds, since other programs can slow a machine down. At full size the benchmark
takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bare import BareRun, Seconds, dataset_at_hand, settings_of

from flows.recipe import stages
from flows.recipe.contents import recipe_models
from flows.recipe.transfer import transfer
from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES
from tasks.core.data.preprocessing import one_hot
from tasks.core.settings.run_settings import Settings
from tasks.engine.profile import configure, resolve_profile

PARTS = ("frozen base", "fine-tuned")


def flows_way(
    run: BareRun, settings: Settings, arrays: Any
) -> tuple[dict[str, Seconds], list[str]]:
    """The time of each part, and the scores."""
    made = transfer(run, settings, arrays)
    scores = []
    for model in recipe_models(settings):
        if model.transfer:
            found = run(stages.evaluate(model, model.name), model=made[model.name], arrays=arrays)
            accuracies = run.facts(made[model.name]) | run.facts(found)
            scores.append(_scores(accuracies["val_accuracy"], accuracies["test_accuracy"]))
    features = run.took("vgg16_block4", "vgg16_block5")
    frozen = run.took("vgg16_frozen", "test_vgg16_frozen")
    tuned = run.took("vgg16_fine_tuned", "test_vgg16_fine_tuned")
    return {"features": features, "frozen base": features + frozen, "fine-tuned": tuned}, scores


def notebooks_way(
    settings: Settings, splits: dict[str, dict[str, np.ndarray]]
) -> tuple[dict[str, Seconds], list[str]]:
    """The notebook's cells 3a to 3e, starting from the same weights."""
    import keras
    import tensorflow as tf

    from tasks.core.networks import vgg16
    from tasks.core.networks.vgg16_layout import random_weights

    way = settings.transfer.as_notebook
    keras.utils.set_random_seed(settings.seed)  # TensorFlow shuffles with it
    clock = Seconds.now()
    classes = len(FASHION_MNIST_CLASSES)
    x, y = {}, {}
    for name, split in splits.items():
        grey = split["x"].astype(np.float32)[..., 0]
        x[name] = tf.image.resize(np.repeat(grey[..., np.newaxis], 3, -1), [way.side, way.side])
        y[name] = one_hot(split["y"], classes)
    base = vgg16.build_base(way.side)
    vgg16.set_weights(base, random_weights(settings.seed))
    model = vgg16.build_complete(base, way.dense, way.dropout, classes, settings.seed)
    seconds, scores = {}, []
    for part, epochs in zip(PARTS, (way.epochs, way.fine_tune_epochs), strict=True):
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
        seconds[part] = Seconds.now() - clock
        clock = Seconds.now()
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
    # Importing TensorFlow counts for neither side.
    profile = resolve_profile(settings.execution)
    configure(profile)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        run = BareRun(Path(folder), profile)
        arrays = run.preprocessed(settings)
        here, our_scores = flows_way(run, settings, arrays)
        splits = {name: run.arrays("preprocess", name) for name in ("train", "validation", "test")}
        there, their_scores = notebooks_way(settings, splits)
    print(f"{'seconds (CPU)':<17}{'notebook':>17}{'flow':>17}{'ratio':>13}")
    print(f"{'(features)':<17}{'':>17}{here['features']!s:>17}")
    for side in (there, here):
        side["in all"] = side["frozen base"] + side["fine-tuned"]
    for part in (*PARTS, "in all"):
        wall, cpu = there[part].wall / here[part].wall, there[part].cpu / here[part].cpu
        ratio = f"{wall:.1f} ({cpu:.1f})"
        print(f"{part:<17}{there[part]!s:>17}{here[part]!s:>17}{ratio:>13}")
    print("The flow's 'frozen base' includes the features. Accuracies (random weights: a control):")
    for part, theirs, mine in zip(PARTS, their_scores, our_scores, strict=True):
        print(f"  {part}: notebook {theirs}; flow {mine}")
    print(f"ratio {there['in all'].wall / here['in all'].wall:.1f}")


if __name__ == "__main__":
    main()
