"""The notebook as a plain script, with which `benchmarks/run.py` compares the flow.

    python benchmarks/notebook_script.py --data FOLDER --weights vgg16_notop.h5 --out FOLDER
        [--train 8000 --validation 2000 --test 2000] [--epochs N] [--no-transfer]

The notebook's cells in order and at its sizes, as its author would write them with Keras 3: `fit`
with arrays, `ImageDataGenerator`, all images through all of VGG16 in each epoch, plots of
everything. TensorFlow chooses its number of threads. `--out` gets the plots, the final model and
`measured.json`: for each part of the notebook the wall-clock seconds, the CPU seconds and the
process's peak memory so far; for each model its size, its training and its test accuracy.

Differences from the notebook, and why:

- The data come from Fashion-MNIST's four IDX files or from an .npz, and VGG16's weights from a
  file, since downloads are not compared.
- Plots are saved, not shown. Progress and model summaries are not printed, which saves a little
  time.
- One function builds the networks of the nine iterations, instead of nine copies.
- Step 6 evaluates the overfitting model. The notebook's cell evaluates another model by mistake,
  at the same cost.
- The final model is trained on training and validation images, 10,000 in 79 steps, as the
  notebook's text says and as the flow does. The notebook's cell uses the 8,000 training images by
  mistake.
- Labels always have ten columns, and the steps of augmentation follow from the number of images
  (250 batches of 32 at the notebook's size), so that the script runs at other sizes, too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import Input, Model, layers, models, optimizers, regularizers
from keras.applications import VGG16
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from keras.utils import to_categorical
from matplotlib import pyplot as plt

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
BATCH = 128

# Step 7: how each iteration's network differs from the overfitting model.
BEST = {"first": (3, 3), "padding": "same", "dropout": 0.25}
ITERATIONS: dict[int, dict[str, Any]] = {
    1: {},
    2: {"dense": (64,)},
    3: {"dense": (128, 32)},
    4: {"l2": 0.001},
    5: {"dropout": 0.25},
    6: {"dropout": 0.25, "batch_norm": True},
    7: {"dropout": 0.25, "first": (3, 3)},
    8: BEST,
}


@dataclass(frozen=True)
class Split:
    """Raw images `(n, 28, 28)` uint8 and labels `(n,)`."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def y(self) -> np.ndarray:
        return to_categorical(self.labels, len(CLASS_NAMES))

    def scaled(self, *shape: int) -> np.ndarray:
        return self.images.reshape((len(self), *shape)).astype("float32") / 255


@dataclass(frozen=True)
class Arrays:
    """Inputs and one-hot labels of training, validation and test images."""

    x: Any
    y: np.ndarray
    held_out: tuple[Any, np.ndarray] | None
    test_x: Any
    test_y: np.ndarray


@dataclass
class Notebook:
    """What the cells share: the folder of plots, the limit of epochs, and the measurements."""

    out: Path
    most_epochs: int | None
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    models: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.parts[name] = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    def epochs(self, wanted: int) -> int:
        return min(wanted, self.most_epochs or wanted)

    def show(self, name: str) -> None:
        plt.savefig(self.out / f"{name}.png")
        plt.close()

    def evaluated(self, name: str, model: Model, arrays: Arrays, epochs: int, batch: int) -> None:
        _, accuracy = model.evaluate(arrays.test_x, arrays.test_y, verbose=0)
        self.models[name] = {
            "params": model.count_params(),
            "epochs": self.epochs(epochs),
            "batch_size": batch,
            "train_samples": len(arrays.y),
            "test_accuracy": accuracy,
        }


def main() -> None:
    options = arguments()
    matplotlib.use("Agg")
    options.out.mkdir(parents=True, exist_ok=True)
    notebook = Notebook(options.out, options.epochs)
    with notebook.part("data"):
        train_images, train_labels, test_images, test_labels = read(options.data)
        explore(notebook, train_images, train_labels, test_labels)
        check_sizes(options, len(train_images), len(test_images))
        train = Split(train_images[: options.train], train_labels[: options.train])
        valid = Split(train_images[-options.validation :], train_labels[-options.validation :])
        test = Split(test_images[: options.test], test_labels[: options.test])
        x, valid_x, test_x = (split.scaled(28, 28, 1) for split in (train, valid, test))
        arrays = Arrays(x, train.y, (valid_x, valid.y), test_x, test.y)
    with notebook.part("baseline"):
        baseline(notebook, train, test)
    with notebook.part("low_capacity"):
        fit_and_evaluate(notebook, "low_capacity", low_capacity(), arrays, epochs=20, batch=512)
    with notebook.part("overfitting"):
        fit_and_evaluate(notebook, "overfitting", convnet(), arrays, epochs=40)
    for number, change in ITERATIONS.items():
        with notebook.part(f"iteration_{number}"):
            fit_and_evaluate(notebook, f"iteration_{number}", convnet(**change), arrays)
    with notebook.part("iteration_9"):
        augmented(notebook, arrays)
    with notebook.part("final"):
        final(notebook, train, valid, arrays)
    if options.transfer:
        transfer(notebook, options.weights, train, valid, test)
    measured = {"parts": notebook.parts, "models": notebook.models}
    (options.out / "measured.json").write_text(json.dumps(measured, indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FASHION_MNIST_DIR"),
        help="folder with Fashion-MNIST's IDX files, or an .npz; FASHION_MNIST_DIR by default",
    )
    parser.add_argument("--weights", type=Path, help="VGG16 weights without top (.h5)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for plots, model and measurements"
    )
    for name, default in (("train", 8000), ("validation", 2000), ("test", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default, help="number of images")
    parser.add_argument("--epochs", type=int, help="upper limit for the epochs of each training")
    parser.add_argument("--no-transfer", dest="transfer", action="store_false")
    options = parser.parse_args()
    if options.data is None:
        parser.error("expected --data or FASHION_MNIST_DIR: where Fashion-MNIST is")
    if options.transfer and options.weights is None:
        parser.error("expected --weights FILE with VGG16's weights, or --no-transfer")
    return options


def check_sizes(options: argparse.Namespace, train: int, test: int) -> None:
    if options.train + options.validation > train or options.test > test:
        sys.exit(
            f"error: {options.data} has {train:,} training and {test:,} test images; expected "
            f"{options.train + options.validation:,} and {options.test:,}. Ask for fewer with "
            "--train, --validation and --test."
        )


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, then test images and labels."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            x_train, y_train, x_test, y_test = (
                arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")
            )
        return x_train, y_train, x_test, y_test
    labels = [idx(path / f"{name}-labels-idx1-ubyte", 8) for name in ("train", "t10k")]
    images = [
        idx(path / f"{name}-images-idx3-ubyte", 16).reshape(-1, 28, 28)
        for name in ("train", "t10k")
    ]
    return images[0], labels[0], images[1], labels[1]


def idx(path: Path, header: int) -> np.ndarray:
    packed = path.with_name(f"{path.name}.gz")
    if not (packed.exists() or path.exists()):
        sys.exit(f"error: expected Fashion-MNIST's {packed.name} in {path.parent}; see --data.")
    with gzip.open(packed) if packed.exists() else path.open("rb") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def explore(
    notebook: Notebook, images: np.ndarray, labels: np.ndarray, test_labels: np.ndarray
) -> None:
    """Step 1: the first 25 images, and the class balance."""
    plt.figure(figsize=(8, 8))
    for i in range(25):
        plt.subplot(5, 5, i + 1)
        plt.xticks([])
        plt.yticks([])
        plt.grid(visible=False)
        plt.imshow(images[i], cmap=plt.cm.binary)
        plt.xlabel(CLASS_NAMES[labels[i]])
    notebook.show("samples")
    train = pd.Series(labels).value_counts(dropna=False).sort_index()
    test = pd.Series(test_labels).value_counts(dropna=False).sort_index()
    both = pd.concat([train, test], axis=1)
    both.plot(
        kind="bar",
        rot=0,
        figsize=[8, 2],
        fontsize=7,
        title=["Training: No. of samples by label", "Test: No. of samples by label"],
        legend=False,
        subplots=True,
        layout=(1, 2),
    )
    notebook.show("balance")


def baseline(notebook: Notebook, train: Split, test: Split) -> None:
    """Step 5a: one hidden dense layer."""
    arrays = Arrays(train.scaled(28 * 28), train.y, None, test.scaled(28 * 28), test.y)
    model = models.Sequential(
        [
            Input((28 * 28,)),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    compiled(model)
    model.fit(arrays.x, arrays.y, epochs=notebook.epochs(5), batch_size=BATCH, verbose=0)
    notebook.evaluated("baseline", model, arrays, 5, BATCH)


def low_capacity() -> Model:
    """Step 5b: a small convnet."""
    model = models.Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(16, (7, 7), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return compiled(model)


def convnet(
    first: tuple[int, int] = (2, 2),
    padding: str = "valid",
    dense: tuple[int, ...] = (256, 64),
    dropout: float = 0.0,
    l2: float = 0.0,
    batch_norm: bool = False,
) -> Model:
    """Step 6's overfitting model, and step 7's variants of it."""
    model = models.Sequential([Input((28, 28, 1))])
    for filters, kernel, pooled in ((64, first, True), (128, (3, 3), True), (128, (3, 3), False)):
        model.add(layers.Conv2D(filters, kernel, activation="relu", padding=padding))
        if batch_norm:
            model.add(layers.BatchNormalization())
        if pooled:
            model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Flatten())
    for units in dense:
        penalty = regularizers.l2(l2) if l2 else None
        model.add(layers.Dense(units, activation="relu", kernel_regularizer=penalty))
        if dropout:
            model.add(layers.Dropout(dropout))
    model.add(layers.Dense(10, activation="softmax"))
    return compiled(model)


def compiled(model: Model) -> Model:
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def fit_and_evaluate(
    notebook: Notebook,
    name: str,
    model: Model,
    arrays: Arrays,
    epochs: int = 11,
    batch: int = BATCH,
    highest_loss: float = 1.2,
) -> None:
    history = model.fit(
        arrays.x,
        arrays.y,
        epochs=notebook.epochs(epochs),
        batch_size=batch,
        validation_data=arrays.held_out,
        verbose=0,
    )
    plot_results(notebook, name, history.history, highest_loss)
    notebook.evaluated(name, model, arrays, epochs, batch)


def augmented(notebook: Notebook, arrays: Arrays) -> None:
    """Iteration 9: augmentation."""
    model = convnet(**BEST)
    datagen = ImageDataGenerator(
        rotation_range=40,
        width_shift_range=0.2,
        height_shift_range=0.2,
        shear_range=0.2,
        zoom_range=0.2,
        horizontal_flip=True,
    )
    datagen.fit(arrays.x)
    assert arrays.held_out
    history = model.fit(
        datagen.flow(arrays.x, arrays.y, batch_size=32),
        steps_per_epoch=-(-len(arrays.y) // 32),
        epochs=notebook.epochs(11),
        validation_data=arrays.held_out,
        validation_steps=-(-len(arrays.held_out[1]) // 32),
        verbose=0,
    )
    plot_results(notebook, "iteration_9", history.history)
    notebook.evaluated("iteration_9", model, arrays, 11, 32)


def final(notebook: Notebook, train: Split, valid: Split, arrays: Arrays) -> None:
    """Step 7b: the architecture of iteration 8 on training and validation images."""
    both = Split(
        np.concatenate((train.images, valid.images)), np.concatenate((train.labels, valid.labels))
    )
    arrays = Arrays(both.scaled(28, 28, 1), both.y, None, arrays.test_x, arrays.test_y)
    model = convnet(**BEST)
    fitted = model.fit(arrays.x, arrays.y, epochs=notebook.epochs(11), batch_size=BATCH, verbose=0)
    plot_final(notebook, fitted.history)
    notebook.evaluated("final", model, arrays, 11, BATCH)
    model.save(notebook.out / "fashion_mnist_final.h5")


def transfer(notebook: Notebook, weights: Path, train: Split, valid: Split, test: Split) -> None:
    """Part 3: VGG16 with a frozen base, then with block 5 trained, too."""
    with notebook.part("vgg16_frozen"):
        x, valid_x, test_x = (
            tf.image.resize(np.repeat(split.images[..., np.newaxis], 3, -1), [32, 32])
            for split in (train, valid, test)
        )
        show_transformed(notebook, train, x)
        arrays = Arrays(x, train.y, (valid_x, valid.y), test_x, test.y)
        conv_base = VGG16(weights=str(weights), include_top=False, input_shape=(32, 32, 3))
        model = models.Sequential(
            [
                conv_base,
                layers.Flatten(),
                layers.Dense(256, activation="relu"),
                layers.Dropout(0.25),
                layers.Dense(10, activation="softmax"),
            ]
        )
        conv_base.trainable = False
        compiled_slow(model)
        fit_and_evaluate(notebook, "vgg16_frozen", model, arrays, highest_loss=0.3)
    with notebook.part("vgg16_fine_tuned"):
        conv_base.trainable = True
        for layer in conv_base.layers:
            layer.trainable = layer.name.startswith("block5")
        compiled_slow(model)
        fit_and_evaluate(notebook, "vgg16_fine_tuned", model, arrays, highest_loss=0.3)


def compiled_slow(model: Model) -> None:
    optimizer = optimizers.RMSprop(learning_rate=1e-5)
    model.compile(loss="binary_crossentropy", optimizer=optimizer, metrics=["accuracy"])


def show_transformed(notebook: Notebook, train: Split, rgb: tf.Tensor) -> None:
    plt.figure(figsize=(8, 8))
    plt.subplots_adjust(hspace=0.40)
    for i in range(3):
        for column, images in enumerate((train.images, rgb)):
            plt.subplot(3, 2, 2 * i + column + 1)
            plt.imshow(images[i], cmap=plt.cm.binary)
            plt.title(CLASS_NAMES[train.labels[i]])
    notebook.show("transformed")


def plot_results(
    notebook: Notebook, name: str, history: dict[str, list[float]], highest_loss: float = 1.2
) -> None:
    plt.figure(figsize=(15, 5))
    epochs = range(1, len(history["loss"]) + 1)
    limits = {"loss": (0.0, highest_loss), "accuracy": (0.5, 1.0)}
    for number, (key, limit) in enumerate(limits.items(), start=1):
        plt.subplot(1, 2, number)
        plt.plot(epochs, history[key], "bo", label=f"Training {key}")
        plt.plot(epochs, history[f"val_{key}"], "b", label=f"Validation {key}")
        plt.ylim(limit)
        plt.title(f"{key.capitalize()} per epoch", fontsize=14)
        plt.xlabel("Epochs")
        plt.ylabel(key.capitalize())
        plt.grid()
        plt.legend()
    notebook.show(name)


def plot_final(notebook: Notebook, history: dict[str, list[float]]) -> None:
    epochs = range(1, len(history["loss"]) + 1)
    _, ax1 = plt.subplots(figsize=(15, 5), dpi=80)
    ax2 = ax1.twinx()
    lines = ax1.plot(epochs, history["accuracy"], "b-", label="Accuracy")
    lines += ax2.plot(epochs, history["loss"], "r-", label="Loss")
    plt.title("Optimised model - full training data - accuracy and loss per epoch")
    ax1.set_xlabel("Epoch")
    ax1.set_ylabel("Accuracy")
    ax2.set_ylabel("Loss")
    ax1.set_xticks(list(epochs))
    ax1.legend(lines, [line.get_label() for line in lines], loc="best", frameon=False)
    notebook.show("final")


if __name__ == "__main__":
    main()
