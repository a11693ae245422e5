"""What else one could train on the same images: Keras's fit, fastai, scikit-learn's SVM.

    python benchmarks/peers.py keras  --budgets 60 300 900 --seeds 5
    benchmarks/.peers-venv/bin/python benchmarks/peers.py fastai --budgets 60 300 900 --seeds 5
    benchmarks/.peers-venv/bin/python benchmarks/peers.py svm

The same training and test images as in `benchmarks/accuracy.py`, the same definition of seconds
(from arrays in memory to the trained model; imports do not count, tracing does), both cores. Each
program is used as its own guides use it:

- `keras`: a convnet with batch normalisation, AdamW with warm-up and a cosine, label smoothing,
  random flips and shifts by `tf.data`, `model.fit`. It runs in this project's environment.
- `fastai`: its `xresnet18` with `fit_one_cycle`, label smoothing, random flips, batches of 64.
- `svm`: scikit-learn's `SVC` with its default kernel on pixels; it uses one core.

Networks predict from the mean probabilities of an image and its mirror image, as ours do. Epochs
are chosen for three times (`--budgets`, in seconds on two idle cores); `--epochs` overrides them.
Nothing was tuned on test images. `make peers` sets up the other environment.

Each result is a line of `--out` (a JSON Lines file); a result that is there is not computed again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import accuracy_rows
import fashion
import numpy as np
from accuracy_rows import Row, Training
from numpy.typing import NDArray

# Widths of the convnet, and epochs, by the seconds that they are chosen for.
KERAS = {60: ((32, 64, 128), 3), 300: ((32, 64, 128), 16), 900: ((64, 128, 256), 22)}
FASTAI = {60: 2, 300: 12, 900: 36}
SVM_C = 10.0
SHIFT = 2

Array = NDArray[Any]
# Trains on images and labels; returns what predicts probabilities, and the number of parameters.
Fit = Callable[[Array, Array], tuple[Callable[[Array], Array], int | None]]


def keras_fit(widths: tuple[int, ...], epochs: int, seed: int) -> Fit:
    """Plain Keras, as in its guides."""
    import keras
    import tensorflow as tf

    def varied(image: Any, label: Any) -> tuple[Any, Any]:
        padded = tf.pad(image, [[SHIFT, SHIFT], [SHIFT, SHIFT], [0, 0]], "REFLECT")
        shifted = tf.image.random_crop(padded, image.shape)
        return tf.image.random_flip_left_right(shifted), label

    def network() -> Any:
        x = inputs = keras.Input((28, 28, 1))
        x = keras.layers.Rescaling(1 / 255)(x)
        for number, width in enumerate(widths):
            if number:
                x = keras.layers.MaxPooling2D()(x)
            for _ in range(2):
                x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
                x = keras.layers.BatchNormalization(momentum=0.9)(x)
                x = keras.layers.Activation("relu")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))

    def fit(images: Array, labels: Array) -> tuple[Callable[[Array], Array], int]:
        keras.utils.set_random_seed(seed)
        steps = epochs * -(-len(images) // 128)
        rising = max(1, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            1e-4, max(1, steps - rising), warmup_target=3e-3, warmup_steps=rising
        )
        model = network()
        model.compile(
            keras.optimizers.AdamW(rate, weight_decay=0.05),
            keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        )
        data = tf.data.Dataset.from_tensor_slices(
            (images[..., None].astype(np.float32), np.eye(10, dtype=np.float32)[labels])
        )
        batches = (
            data.shuffle(len(images), seed=seed)
            .map(varied, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(128)
            .prefetch(tf.data.AUTOTUNE)
        )
        model.fit(batches, epochs=epochs, verbose=0)

        def predict(some: Array) -> Array:
            found: Array = model.predict(some[..., None].astype(np.float32), 256, verbose=0)
            return found

        return predict, model.count_params()

    return fit


def import_torch() -> Any:
    """PyTorch, with a torchvision that can be imported beside its CPU build.

    fastai imports torchvision. PyPI's is made for PyTorch's CUDA build; beside the CPU build, its
    operators in C++ are missing, and so it fails where it describes their shapes. Neither its
    operators nor its models are used here.
    """
    import torch

    described = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function
    try:
        import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = described
    return torch


def fastai_fit(epochs: int, seed: int) -> Fit:
    """fastai's xresnet18 with one cycle; weight decay and rate as in its example for Imagenette."""
    torch = import_torch()
    from fastai.callback.schedule import Learner  # with `fit_one_cycle`
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Callback, CancelValidException
    from fastai.losses import LabelSmoothingCrossEntropy
    from fastai.torch_core import set_seed
    from fastai.vision.models.xresnet import xresnet18

    class NoValidation(Callback):
        """All images are trained on, so none are left for scores after each epoch."""

        def before_validate(self) -> None:
            raise CancelValidException

    def fit(images: Array, labels: Array) -> tuple[Callable[[Array], Array], int]:
        set_seed(seed, reproducible=True)
        x = torch.tensor(images[:, None].astype(np.float32) / 255)
        mean, deviation = x.mean(), x.std()
        x, y = (x - mean) / deviation, torch.tensor(labels.astype(np.int64))

        class Batches(DataLoader):
            """Whole batches of the tensors: collating them image by image would cost time."""

            def create_batches(self, samples: Iterator[int]) -> Iterator[Any]:
                order = torch.tensor(list(samples))
                for first in range(0, len(order), self.bs):
                    chosen = order[first : first + self.bs]
                    some = x[chosen]
                    flipped = torch.rand(len(some), 1, 1, 1) < 0.5
                    yield torch.where(flipped, some.flip(3), some), y[chosen]

        loader = Batches(range(len(x)), bs=64, shuffle=True, num_workers=0)
        learner = Learner(
            DataLoaders(loader, loader),
            xresnet18(n_out=10, c_in=1),
            loss_func=LabelSmoothingCrossEntropy(),
            cbs=NoValidation(),
        )
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(epochs, 1e-2, wd=1e-2)

        def predict(some: Array) -> Array:
            scaled = (torch.tensor(some[:, None].astype(np.float32) / 255) - mean) / deviation
            learner.model.train(False)
            with torch.no_grad():
                logits = torch.cat([learner.model(part) for part in scaled.split(256)])
            found: Array = torch.softmax(logits, 1).numpy()
            return found

        return predict, sum(weights.numel() for weights in learner.model.parameters())

    return fit


def svm_fit() -> Fit:
    """scikit-learn's SVM on pixels in [0, 1]."""
    from sklearn.svm import SVC

    def fit(images: Array, labels: Array) -> tuple[Callable[[Array], Array], None]:
        model = SVC(C=SVM_C).fit(images.reshape(len(images), -1) / 255, labels)

        def predict(some: Array) -> Array:
            predicted = model.predict(some.reshape(len(some), -1) / 255)
            found: Array = np.eye(10)[predicted]
            return found

        return predict, None

    return fit


def trainings(given: argparse.Namespace) -> Iterator[tuple[Training, Callable[[], Fit]]]:
    """What to train, and how."""
    if given.peer == "svm":
        recipe = f"SVC, RBF kernel, C={SVM_C:g}"
        of = Training("scikit-learn SVM", recipe, 1, given.images, 0, None, version("scikit-learn"))
        yield of, svm_fit
        return
    for seed in range(given.seeds):
        for budget in given.budgets:
            if given.peer == "keras":
                widths, epochs = KERAS[budget]
                epochs = given.epochs or epochs
                recipe = f"convnet {', '.join(map(str, widths))}"
                program, known = "Keras", f"{version('tensorflow')}, {version('keras')}"
                make = partial(keras_fit, widths, epochs, seed)
            else:
                epochs = given.epochs or FASTAI[budget]
                program, recipe = "fastai", "xresnet18, one cycle"
                known = f"{version('torch')}, {version('fastai')}"
                make = partial(fastai_fit, epochs, seed)
            chosen_for = None if given.epochs else budget
            yield Training(program, recipe, epochs, given.images, seed, chosen_for, known), make


def measured(training: Training, fit: Fit) -> Row:
    """Train and score on all test images."""
    images, labels = fashion.training_file()
    positions = fashion.chosen(training.images, len(images))
    images, labels = images[positions], labels[positions]
    speed = fashion.product_speed()
    began = time.perf_counter()
    predict, parameters = fit(images, labels)
    seconds = time.perf_counter() - began
    test_images, test_labels = fashion.test_file()
    # An SVM on pixels learnt no mirror images.
    views = [test_images] if parameters is None else [test_images, test_images[:, :, ::-1]]
    probabilities = np.mean([predict(view) for view in views], axis=0)
    accuracy = 100 * float((probabilities.argmax(axis=1) == test_labels).mean())
    return Row(
        **vars(training), accuracy=accuracy, seconds=seconds, parameters=parameters, speed=speed
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=["keras", "fastai", "svm"])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--budgets", type=int, nargs="+", choices=KERAS, default=list(KERAS))
    parser.add_argument("--epochs", type=int, help="instead of those chosen for each budget")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("artifacts/accuracy/rows.jsonl"))
    given = parser.parse_args()
    known = {row.training: row for row in accuracy_rows.rows(given.out)}
    for training, make in trainings(given):
        row = known.get(training)
        if row is None:
            row = known[training] = measured(training, make())
            accuracy_rows.append(given.out, row)
        print(
            f"{row.program}, {row.recipe}, {row.epochs} epochs, seed {row.seed}: "
            f"{row.accuracy:.2f} %, {row.seconds:.1f} s; machine {row.speed:.0f} GFLOP/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
