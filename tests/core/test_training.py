"""Training and scores come from the settings and the seed alone, and are what Keras calls them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tasks.core.errors import NumericalError
from tasks.core.records import Stage
from tasks.core.seeds import generator
from tasks.core.specs import AugmentSettings, TrainSettings, changed
from tasks.store import Outputs
from tests.support import basis

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    # Keras 3.15 converts variables by `np.array`, whose NumPy 2 signature TensorFlow 2.21 lacks.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

SHAPE = (8, 8, 1)
CLASSES = 3
# Everything that draws numbers or keeps a state: dropout, batch statistics, a ragged last batch.
SMALL = TrainSettings(
    filters=(4,),
    kernel_sizes=(3,),
    pooled=(True,),
    batch_norm=True,
    dense=(8,),
    dropout=0.25,
    epochs=2,
    batch_size=32,
)
DENSE = TrainSettings(filters=(), kernel_sizes=(), pooled=(), dense=(6,), epochs=1)


def images(n: int, seed: int, shape: tuple[int, ...] = SHAPE, classes: int = CLASSES) -> Any:
    """Noise whose brightness tells the class."""
    from tasks.core.training import Examples

    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    light = (labels / classes).reshape(-1, *[1] * len(shape))
    x = np.clip(rng.normal(light, 0.2, (n, *shape)), 0, 1).astype(np.float32)
    return Examples(x, np.eye(classes, dtype=np.float32)[labels])


def trained(seed: int, augmentation: AugmentSettings | None = None) -> tuple[bytes, list[Any]]:
    """Every variable's bytes after a training, seed generators included, and the history."""
    from tasks.core.models import build_network
    from tasks.core.training import Schedule, train

    model = build_network(SMALL, SHAPE, CLASSES, seed)
    schedule = Schedule(2, SMALL.batch_size, 0.001, augmentation=augmentation)
    history = list(train(model, images(100, 0), images(40, 1), schedule, seed).history)
    variables = [*model.variables, *model.optimizer.variables]
    return b"".join(np.asarray(variable.numpy()).tobytes() for variable in variables), history


@pytest.fixture(scope="module")
def first() -> tuple[bytes, list[Any]]:
    return trained(seed=0)


@pytest.fixture(scope="module")
def other() -> tuple[bytes, list[Any]]:
    return trained(seed=1)


@pytest.fixture
def moved_global_state() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(99)
    np.random.seed(99)
    yield
    random.setstate(python)
    np.random.set_state(numpy)


@pytest.mark.usefixtures("moved_global_state")
def test_the_same_seed_gives_the_same_bytes_whatever_the_global_state(first: Any) -> None:
    assert trained(seed=0) == first


def test_another_seed_gives_another_training(first: Any, other: Any) -> None:
    assert len(other[0]) == len(first[0])
    assert other[0] != first[0]
    assert [row["loss"] for row in other[1]] != [row["loss"] for row in first[1]]


def test_trainings_side_by_side_do_not_disturb_each_other(first: Any, other: Any) -> None:
    found: dict[int, Any] = {}
    together = threading.Barrier(2)

    def work(seed: int) -> None:
        together.wait(timeout=60)
        found[seed] = trained(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: first, 1: other}


def test_history_has_a_row_an_epoch_and_its_columns(first: Any) -> None:
    _, history = first
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert set(row) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
        assert all(type(value) is float for value in row.values())
        assert 0 <= row["accuracy"] <= 1


def test_augmented_training_is_another_one(first: Any) -> None:
    augmented = trained(0, AugmentSettings())
    assert augmented[0] != first[0]
    assert set(augmented[1][0]) == set(first[1][0])


class Recorder:
    """In a model's place: keeps what it is given to fit."""

    weights: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.epochs: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.given: list[dict[str, Any]] = []

    def compile(self, **_: Any) -> None:
        pass

    def fit(self, x: NDArray[Any], y: NDArray[Any], **given: Any) -> Any:
        self.epochs.append((x, y))
        self.given.append(given)
        return SimpleNamespace(history={"loss": [1.0], "accuracy": [0.5]})


def recorded(examples: Any, epochs: int, seed: int, augmentation: Any = None) -> Recorder:
    from tasks.core.training import Schedule, train

    recorder = Recorder()
    schedule = Schedule(epochs, 16, 0.001, augmentation=augmentation)
    train(recorder, examples, None, schedule, seed)
    return recorder


def numbered(n: int) -> Any:
    """Examples whose pixel and label both tell their number."""
    from tasks.core.training import Examples

    return Examples(np.arange(n, dtype=np.float32).reshape(n, 1), np.eye(n, dtype=np.float32))


def test_the_order_of_samples_is_a_function_of_seed_and_epoch() -> None:
    examples = numbered(50)
    long = [x[:, 0] for x, _ in recorded(examples, epochs=3, seed=7).epochs]
    short = [x[:, 0] for x, _ in recorded(examples, epochs=2, seed=7).epochs]
    elsewhere = [x[:, 0] for x, _ in recorded(examples, epochs=2, seed=8).epochs]
    assert [order.tolist() for order in long[:2]] == [order.tolist() for order in short]
    assert len({tuple(order) for order in (*long, *elsewhere)}) == 5
    for epoch, order in enumerate(long, start=1):
        assert sorted(order) == list(range(50))
        assert order.tolist() == generator(7, "order", epoch).permutation(50).tolist()


def test_labels_go_with_their_images_and_keras_does_not_shuffle_again() -> None:
    recorder = recorded(numbered(20), epochs=2, seed=0)
    for x, y in recorder.epochs:
        assert y.argmax(axis=1).tolist() == x[:, 0].tolist()
    for given in recorder.given:
        assert (given["shuffle"], given["epochs"], given["batch_size"]) == (False, 1, 16)


def test_augmentation_comes_from_seed_and_epoch_and_leaves_the_examples_alone() -> None:
    examples = images(30, 0)
    before = examples.x.copy()
    plain = recorded(examples, epochs=2, seed=0)
    distorted, again, elsewhere = (
        recorded(examples, epochs=2, seed=seed, augmentation=AugmentSettings())
        for seed in (0, 0, 1)
    )
    (x_1, y_1), (x_2, y_2) = distorted.epochs
    assert [x.tobytes() for x, _ in again.epochs] == [x_1.tobytes(), x_2.tobytes()]
    assert elsewhere.epochs[0][0].tobytes() != x_1.tobytes()
    back = [np.argsort(generator(0, "order", epoch).permutation(30)) for epoch in (1, 2)]
    assert not np.allclose(x_1[back[0]], x_2[back[1]], atol=0.05)
    assert not np.allclose(x_1, plain.epochs[0][0], atol=0.05)
    for y, (_, unchanged) in zip((y_1, y_2), plain.epochs, strict=True):
        assert y.tobytes() == unchanged.tobytes()
    assert examples.x.tobytes() == before.tobytes()


@pytest.mark.parametrize(("samples", "steps"), [(8_000, 63), (10_000, 79)])
def test_gradient_steps_an_epoch_are_the_notebooks(samples: int, steps: int) -> None:
    from tasks.core.models import build_network
    from tasks.core.training import Schedule, train

    model = build_network(changed(DENSE, {"dense": ()}), (1, 1, 1), CLASSES, seed=0)
    examples = images(samples, 0, shape=(1, 1, 1))
    seen: list[Any] = []
    end = train(model, examples, None, Schedule(1, 128, 0.001), seed=0, on_epoch=seen.append)
    assert int(model.optimizer.iterations.numpy()) == steps
    assert seen == [end]
    assert set(end.history[0]) == {"epoch", "loss", "accuracy"}


def with_a_broken_pixel() -> Any:
    from tasks.core.training import Examples

    good = images(20, 0, shape=(2, 2, 1))
    broken = np.arange(20).reshape(-1, 1, 1, 1) == 7
    return Examples(np.where(broken, np.float32(np.nan), good.x), good.y)


def test_a_loss_that_is_not_finite_ends_the_training_with_advice() -> None:
    from tasks.core.models import build_network
    from tasks.core.training import Schedule, train

    model = build_network(changed(DENSE, {"dense": ()}), (2, 2, 1), CLASSES, seed=0)
    rows: list[Any] = []
    schedule = Schedule(5, 10, 0.5)
    with pytest.raises(NumericalError) as stopped:
        train(model, with_a_broken_pixel(), None, schedule, seed=0, on_epoch=rows.append)
    for words in ("loss not finite after epoch 1 ", "learning rate 0.5", "lower the learning rate"):
        assert words in str(stopped.value)
    assert rows == []


def test_weights_that_are_not_finite_end_the_training_though_the_loss_is_finite() -> None:
    """TensorFlow's ReLU makes NaN zero on CPUs, so that NaN weights don't reach the loss."""
    from tasks.core.models import build_network
    from tasks.core.training import Schedule, train

    model = build_network(DENSE, (2, 2, 1), CLASSES, seed=0)
    with pytest.raises(NumericalError):
        train(model, with_a_broken_pixel(), None, Schedule(1, 10, 0.001), seed=0)


def test_predictions_leave_dropout_off_and_do_not_depend_on_batches() -> None:
    from tasks.core.models import build_network
    from tests.support import predict

    settings = changed(SMALL, {"dropout": 0.9})
    model = build_network(settings, SHAPE, CLASSES, seed=0)
    without = build_network(changed(settings, {"dropout": 0}), SHAPE, CLASSES, seed=5)
    without.set_weights(model.get_weights())
    x = images(300, 2).x
    probabilities = predict(model, x)
    assert probabilities.shape == (300, CLASSES)
    assert probabilities.tobytes() == predict(model, x).tobytes()
    assert probabilities.tobytes() == predict(without, x).tobytes()
    np.testing.assert_allclose(probabilities[:7], predict(model, x[:7]), rtol=1e-5)
    assert not np.allclose(probabilities, np.asarray(model(x, training=True)), atol=0.05)


def network_with_logits(scale: float) -> tuple[Any, Any]:
    """A network with an L2 penalty and images; `scale` stretches what goes into the softmax."""
    from tasks.core.models import build_network

    model = build_network(changed(DENSE, {"l2": 0.01}), SHAPE, 10, seed=0)
    last = model.get_layer("probabilities")
    last.kernel.assign(last.kernel * scale)
    return model, images(300, 3, classes=10)


# Keras's losses, when they get a softmax's output from a layer, take that layer's logits instead
# (`_get_logits` in keras/src/backend/tensorflow/nn.py, Keras 2 likewise): binary cross-entropy is
# then that of the *sigmoid* of the logits, and nothing is clipped.
@pytest.mark.parametrize("scale", [1, 60])
@pytest.mark.parametrize("loss", ["categorical_crossentropy", "binary_crossentropy"])
def test_scores_are_the_notebooks_losses_of_the_logits(loss: str, scale: float) -> None:
    import keras

    from tasks.fit import score

    model, examples = network_with_logits(scale)
    found, probabilities = score(model, examples, loss, "val")
    model.compile(loss=loss, metrics=["accuracy"])
    evaluated = model.evaluate(examples.x, examples.y, verbose=0, return_dict=True)
    assert found["val_loss"] == pytest.approx(evaluated["loss"], rel=1e-5)

    last = model.get_layer("probabilities")
    before = keras.Model(model.input, last.input).predict(examples.x, verbose=0)
    logits = before.astype(float) @ last.kernel.numpy() + last.bias.numpy()
    y = examples.y.astype(float)
    if loss == "categorical_crossentropy":
        expected = np.mean(np.logaddexp.reduce(logits, axis=1) - (logits * y).sum(axis=1))
    else:
        expected = np.mean(y * np.logaddexp(0, -logits) + (1 - y) * np.logaddexp(0, logits))
    softmax = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, softmax, atol=1e-5)
    penalty = float(sum(model.losses))
    assert penalty > 0.1
    assert set(found) == {"val_loss", "val_accuracy"}
    right = np.mean(logits.argmax(axis=1) == y.argmax(axis=1))
    assert found["val_accuracy"] == pytest.approx(right, rel=1e-6)
    assert found["val_loss"] == pytest.approx(expected + penalty, rel=1e-5)


def test_a_fitted_network_leaves_its_model_history_and_scores(tmp_path: Path) -> None:
    from tasks.fit import fit_network
    from tasks.model_files import load_keras
    from tests.support import predict

    outputs = outputs_in(tmp_path)
    held_out = images(40, 1)
    penalised = changed(SMALL, {"l2": 0.01})
    settings = {"training": penalised.model_dump(mode="json"), "seed": 0}
    model, facts = fit_network(settings, images(100, 0), held_out, outputs)

    assert sorted(outputs.files) == ["history", "model", "validation_predictions"]
    history = pq.read_table(tmp_path / outputs.files["history"].path).to_pylist()
    assert [row["epoch"] for row in history] == [1, 2]
    lowest = min(history, key=lambda row: row["val_loss"])
    highest = max(history, key=lambda row: row["val_accuracy"])
    assert facts["lowest_validation_loss"] == lowest["val_loss"]
    assert facts["lowest_validation_loss_epoch"] == lowest["epoch"]
    assert facts["highest_validation_accuracy"] == highest["val_accuracy"]
    assert facts["highest_validation_accuracy_epoch"] == highest["epoch"]
    assert facts["val_loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-5)
    assert (facts["epochs"], facts["batch_size"]) == (2, 32)
    assert (facts["train_samples"], facts["steps_per_epoch"]) == (100, 4)
    assert facts["params"] == model.count_params()

    probabilities = predict(load_keras(tmp_path / outputs.files["model"].path), held_out.x)
    table = pq.read_table(tmp_path / outputs.files["validation_predictions"].path)
    stored = np.stack([table[f"p{index}"].to_numpy() for index in range(CLASSES)], axis=1)
    assert stored.tobytes() == probabilities.tobytes()
    assert table["label"].to_pylist() == held_out.y.argmax(axis=1).tolist()
    assert table["predicted"].to_pylist() == probabilities.argmax(axis=1).tolist()


def test_a_network_fitted_without_validation_has_no_validation_scores(tmp_path: Path) -> None:
    from tasks.fit import fit_network

    outputs = outputs_in(tmp_path)
    settings = {"training": DENSE.model_dump(mode="json"), "seed": 0}
    _, facts = fit_network(settings, images(200, 0), None, outputs)
    assert sorted(outputs.files) == ["history", "model"]
    history = pq.read_table(tmp_path / outputs.files["history"].path)
    assert set(history.column_names) == {"epoch", "loss", "accuracy"}
    assert (facts["val_loss"], facts["val_accuracy"]) == (None, None)
    assert "lowest_validation_loss_epoch" not in facts
    assert facts["steps_per_epoch"] == 2
    assert facts["train_loss"] > 0


def outputs_in(folder: Path) -> Outputs:
    stage = folder / "stages" / "model" / "key"
    stage.mkdir(parents=True)
    return Outputs(folder, stage, Stage("model", "train"), "key", basis())


def test_turning_points_are_the_first_of_equals() -> None:
    from tasks.fit import turning_points

    rows = [
        {"epoch": float(epoch), "val_loss": loss, "val_accuracy": accuracy}
        for epoch, (loss, accuracy) in enumerate([(3, 0.1), (1, 0.5), (1, 0.4), (2, 0.5)], start=1)
    ]
    assert turning_points(rows) == {
        "lowest_validation_loss": 1,
        "lowest_validation_loss_epoch": 2,
        "highest_validation_accuracy": 0.5,
        "highest_validation_accuracy_epoch": 2,
    }
