"""Trainings and scores depend on settings and seed alone, and match Keras's definitions."""

from __future__ import annotations

import math
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tasks.core.errors import NumericalError
from tasks.core.records import Record, Stage
from tasks.core.seeds import generator
from tasks.core.settings.base import changed
from tasks.core.settings.training import AugmentSettings, TrainSettings
from tasks.core.stage_specs import RetrainSpec, TrainSpec
from tasks.core.training.progress import Progress
from tasks.engine.keys import key_of
from tasks.storage.checkpoints import Checkpoints
from tasks.storage.exchange import Outputs
from tasks.storage.local_path import LocalPath
from tasks.storage.store import Store
from tests.support import basis, spec_of

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    # Keras 3.15 converts variables by `np.array`, whose NumPy 2 signature TensorFlow 2.21 lacks.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

SHAPE = (8, 8, 1)
CLASSES = 3
# With all that is random or has a state: dropout, batch statistics, a smaller last batch.
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
    """Noise whose brightness depends on the class."""
    from tasks.core.training.examples import Examples

    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    light = (labels / classes).reshape(-1, *[1] * len(shape))
    x = np.clip(rng.normal(light, 0.2, (n, *shape)), 0, 1).astype(np.float32)
    return Examples(x, labels, classes)


def trained(seed: int, augmentation: AugmentSettings | None = None) -> tuple[bytes, list[Any]]:
    """Every variable's bytes after a training, seed generators included, and the history."""
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

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


def test_trainings_in_parallel_threads_do_not_affect_each_other(first: Any, other: Any) -> None:
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


def test_history_has_one_row_per_epoch(first: Any) -> None:
    _, history = first
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert set(row) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
        assert all(type(value) is float for value in row.values())
        assert 0 <= row["accuracy"] <= 1


def test_augmentation_changes_the_training(first: Any) -> None:
    augmented = trained(0, AugmentSettings())
    assert augmented[0] != first[0]
    assert set(augmented[1][0]) == set(first[1][0])


class Recorder:
    """Replaces a model and records the arguments of `fit`."""

    weights: tuple[Any, ...] = ()
    variables: tuple[Any, ...] = ()

    def __init__(self) -> None:
        import keras

        self.trainable_variables = [keras.Variable([0.0])]
        self.epochs: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.given: list[dict[str, Any]] = []
        self.sizes: list[list[int]] = []
        self.pipelines: list[Any] = []

    def _flatten_layers(self) -> tuple[Any, ...]:
        return ()

    def compile(self, **_: Any) -> None:
        pass

    def fit(self, batches: Any, **given: Any) -> Any:
        parts = [(x.numpy(), y.numpy()) for x, y in batches]
        self.pipelines.append(batches)
        self.sizes.append([len(x) for x, _ in parts])
        x, y = (np.concatenate(side) for side in zip(*parts, strict=True))
        self.epochs.append((x, y))
        self.given.append(given)
        return SimpleNamespace(history={"loss": [1.0], "accuracy": [0.5]})


def recorded(examples: Any, epochs: int, seed: int, augmentation: Any = None) -> Recorder:
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    recorder = Recorder()
    schedule = Schedule(epochs, 16, 0.001, augmentation=augmentation)
    train(recorder, examples, None, schedule, seed)
    return recorder


def numbered(n: int) -> Any:
    """Examples whose pixel and label are both their number."""
    from tasks.core.training.examples import Examples

    return Examples(np.arange(n, dtype=np.float32).reshape(n, 1), np.arange(n), n)


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


def test_labels_stay_with_their_images_and_keras_does_not_shuffle_again() -> None:
    recorder = recorded(numbered(20), epochs=2, seed=0)
    for x, y in recorder.epochs:
        assert y.argmax(axis=1).tolist() == x[:, 0].tolist()
    for given, sizes in zip(recorder.given, recorder.sizes, strict=True):
        assert (given["shuffle"], given["epochs"]) == (False, 1)
        assert sizes == [16, 4]


def test_autotuning_of_the_input_pipeline_is_off() -> None:
    recorder = recorded(numbered(20), epochs=2, seed=0)
    for pipeline, sizes in zip(recorder.pipelines, recorder.sizes, strict=True):
        assert pipeline.options().autotune.enabled is False
        # With it, Keras knows the number of batches and does not ask for another one.
        assert int(pipeline.cardinality()) == len(sizes)


def test_augmentation_depends_on_seed_and_epoch_and_does_not_modify_the_examples() -> None:
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
def test_gradient_steps_per_epoch_are_the_notebooks(samples: int, steps: int) -> None:
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    model = build_network(changed(DENSE, {"dense": ()}), (1, 1, 1), CLASSES, seed=0)
    examples = images(samples, 0, shape=(1, 1, 1))
    seen: list[Any] = []
    end = train(model, examples, None, Schedule(1, 128, 0.001), seed=0, on_epoch=seen.append)
    assert int(model.optimizer.iterations.numpy()) == steps
    assert seen == [end]
    assert set(end.history[0]) == {"epoch", "loss", "accuracy"}


def trained_weights(examples: Any, validation: Any = None) -> tuple[list[NDArray[Any]], Any]:
    """The weights after three steps, each on all examples, and the history."""
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    model = build_network(DENSE, SHAPE, CLASSES, seed=0)
    end = train(model, examples, validation, Schedule(3, len(examples), 0.001), seed=0)
    return model.get_weights(), end.history


def test_examples_count_by_their_weights() -> None:
    examples = images(40, 0)
    kept = np.arange(40) % 2 == 0
    weights = np.where(kept, np.float32(2), np.float32(0))
    found, history = trained_weights(replace(examples, weights=weights))
    expected, of_half = trained_weights(examples.take(np.flatnonzero(kept)))
    other, _ = trained_weights(examples)
    for one, same, different in zip(found, expected, other, strict=True):
        np.testing.assert_allclose(one, same, rtol=0, atol=1e-5)
        assert np.abs(one - different).max() > 1e-4
    assert history[-1]["loss"] == pytest.approx(of_half[-1]["loss"], rel=1e-5)


def test_scores_ignore_weights() -> None:
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import evaluate

    examples, validation = images(40, 0), images(20, 1)
    weighted = replace(validation, weights=np.linspace(1, 9, 20, dtype=np.float32))
    _, plain = trained_weights(examples, validation)
    assert trained_weights(examples, weighted)[1] == plain
    model = build_network(DENSE, SHAPE, CLASSES, seed=0)
    losses = {evaluate(model, one, "categorical_crossentropy")[0] for one in (validation, weighted)}
    assert len(losses) == 1


def test_images_are_trained_on_like_their_scaled_copies() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, *SHAPE)).astype(np.uint8)
    examples = replace(images(40, 0), x=pixels)
    scaled = replace(examples, x=pixels.astype(np.float32) / np.float32(255))
    found, expected = (trained_weights(one, one) for one in (examples, scaled))
    assert found[1] == expected[1]
    for one, same in zip(found[0], expected[0], strict=True):
        assert one.tobytes() == same.tobytes()


def with_a_broken_pixel() -> Any:

    good = images(20, 0, shape=(2, 2, 1))
    broken = np.arange(20).reshape(-1, 1, 1, 1) == 7
    return replace(good, x=np.where(broken, np.float32(np.nan), good.x))


def test_a_loss_that_is_not_finite_stops_the_training_with_advice() -> None:
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    model = build_network(changed(DENSE, {"dense": ()}), (2, 2, 1), CLASSES, seed=0)
    rows: list[Any] = []
    schedule = Schedule(5, 10, 0.5)
    with pytest.raises(NumericalError) as stopped:
        train(model, with_a_broken_pixel(), None, schedule, seed=0, on_epoch=rows.append)
    for words in ("loss not finite after epoch 1 ", "learning rate 0.5", "lower the learning rate"):
        assert words in str(stopped.value)
    assert rows == []


def test_weights_that_are_not_finite_stop_the_training_even_if_the_loss_is_finite() -> None:
    """On CPUs, TensorFlow's ReLU turns NaN into 0, so NaN weights do not reach the loss."""
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    model = build_network(DENSE, (2, 2, 1), CLASSES, seed=0)
    with pytest.raises(NumericalError):
        train(model, with_a_broken_pixel(), None, Schedule(1, 10, 0.001), seed=0)


def test_predictions_use_no_dropout_and_do_not_depend_on_batches() -> None:
    from tasks.core.networks.stack import build_network
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
    """A network with an L2 penalty, and images; `scale` multiplies the logits."""
    from tasks.core.networks.stack import build_network

    model = build_network(changed(DENSE, {"l2": 0.01}), SHAPE, 10, seed=0)
    last = model.get_layer("probabilities")
    last.kernel.assign(last.kernel * scale)
    return model, images(300, 3, classes=10)


# If a loss of Keras gets the output of a softmax layer, it uses the layer's logits instead
# (`_get_logits` in keras/src/backend/tensorflow/nn.py; the same in Keras 2). Binary cross-entropy
# is then that of the *sigmoid* of the logits, and nothing is clipped.
@pytest.mark.parametrize("scale", [1, 60])
@pytest.mark.parametrize("loss", ["categorical_crossentropy", "binary_crossentropy"])
def test_scores_are_the_notebooks_losses_of_the_logits(loss: str, scale: float) -> None:
    import keras

    from tasks.models.fit import score

    model, examples = network_with_logits(scale)
    found, probabilities = score(model, examples, loss, "val")
    model.compile(loss=loss, metrics=["accuracy"])
    evaluated = model.evaluate(*examples.batch(slice(None)), verbose=0, return_dict=True)
    assert found["val_loss"] == pytest.approx(evaluated["loss"], rel=1e-5)

    last = model.get_layer("probabilities")
    before = keras.Model(model.input, last.input).predict(examples.x, verbose=0)
    logits = before.astype(float) @ last.kernel.numpy() + last.bias.numpy()
    y = np.eye(10)[examples.labels]
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


def test_fitting_a_network_stores_its_model_history_and_scores(tmp_path: Path) -> None:
    from tasks.models.fit import fit_network
    from tasks.models.model_files import load_keras
    from tests.support import predict

    outputs = outputs_in(tmp_path)
    held_out = images(40, 1)
    penalised = changed(SMALL, {"l2": 0.01})
    spec = TrainSpec(training=penalised, seed=0)
    model, facts = fit_network(spec, images(100, 0), held_out, outputs)

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
    assert table["label"].to_pylist() == held_out.labels.tolist()
    assert table["predicted"].to_pylist() == probabilities.argmax(axis=1).tolist()


def test_a_network_fitted_without_validation_has_no_validation_scores(tmp_path: Path) -> None:
    from tasks.models.fit import fit_network

    outputs = outputs_in(tmp_path)
    spec = RetrainSpec(training=DENSE, seed=0)
    _, facts = fit_network(spec, images(200, 0), None, outputs)
    assert sorted(outputs.files) == ["history", "model"]
    history = pq.read_table(tmp_path / outputs.files["history"].path)
    assert set(history.column_names) == {"epoch", "loss", "accuracy"}
    assert (facts["val_loss"], facts["val_accuracy"]) == (None, None)
    assert "lowest_validation_loss_epoch" not in facts
    assert facts["steps_per_epoch"] == 2
    assert facts["train_loss"] > 0


def outputs_in(folder: Path) -> Outputs:
    root = LocalPath(folder)
    stage = root / "stages" / "model" / "key"
    stage.mkdir(parents=True)
    return Outputs(root, stage, Stage("model", spec_of("train")), "key", basis())


# Resuming a training

EPOCHS = 4
WITH_EVERYTHING = changed(
    SMALL, {"epochs": EPOCHS, "augmentation": AugmentSettings().model_dump(), "l2": 0.001}
)


def train_from(start: Progress | None, epochs: int = EPOCHS) -> list[Progress]:
    """The states after each epoch of a training that resumes from `start` with a new network."""
    from tasks.core.networks.fast_layers import fast_network
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    spec = WITH_EVERYTHING
    model = fast_network(build_network(spec, SHAPE, CLASSES, seed=0))
    schedule = Schedule(epochs, spec.batch_size, 0.001, augmentation=spec.augmentation)
    states: list[Progress] = []
    end = train(model, images(100, 0), images(40, 1), schedule, 0, start, states.append)
    assert states == [] or end is states[-1]
    return states or [end]


def in_bytes(state: Progress) -> tuple[list[bytes], Any]:
    return [value.tobytes() for value in state.variables], state.history


@pytest.fixture(scope="module")
def uninterrupted() -> list[Progress]:
    """The states after epochs 1 to 4."""
    states = train_from(None)
    assert [state.epoch for state in states] == [1, 2, 3, 4]
    return states


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
def test_a_resumed_training_ends_with_the_same_bytes_as_an_uninterrupted_one(
    uninterrupted: list[Progress], epoch: int, tmp_path: Path
) -> None:
    saving = Checkpoints("model", LocalPath(tmp_path), "lineage", EPOCHS, (), (), lambda: None)
    saving.save(uninterrupted[epoch - 1])
    states = train_from(saving.latest())
    assert [state.epoch for state in states] == [*range(epoch + 1, EPOCHS + 1)] or epoch == EPOCHS
    for state in states:
        assert in_bytes(state) == in_bytes(uninterrupted[state.epoch - 1])


def test_a_training_stopped_after_each_epoch_ends_with_the_same_bytes(
    uninterrupted: list[Progress],
) -> None:
    state = None
    for epoch in range(1, EPOCHS + 1):
        (state,) = train_from(state, epochs=epoch)
        assert in_bytes(state) == in_bytes(uninterrupted[epoch - 1])


@pytest.mark.parametrize(("count", "epochs", "batch"), [(100, 4, 32), (10, 1, 10), (64, 30, 1)])
def test_a_cosine_rises_over_a_tenth_of_the_steps_and_falls_to_zero(
    count: int, epochs: int, batch: int
) -> None:
    from tasks.core.training.optimizers import RateTable
    from tasks.core.training.schedule import Schedule

    peak = 0.25
    rates = Schedule(epochs, batch, peak, decay="cosine").rates(count)
    assert rates is not None
    rate = RateTable(rates)
    steps = epochs * math.ceil(count / batch)
    rising = math.ceil(steps / 10)
    found = [float(rate(step)) for step in range(steps + 1)]
    for step, value in enumerate(found):
        if step < rising:
            expected = peak * (1 + (rising - 1) * step / rising) / rising
        else:
            expected = peak * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2
        assert value == pytest.approx(expected, abs=1e-6), step
        assert value > 0 or step == steps, "each step learns"
    assert Schedule(epochs, batch, peak).rates(count) is None


def test_a_training_with_a_falling_rate_resumes_exactly() -> None:
    """The rate depends on the step, which is part of the state."""
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    def from_epoch(start: Progress | None) -> list[Progress]:
        model = build_network(SMALL, SHAPE, CLASSES, seed=0)
        states: list[Progress] = []
        schedule = Schedule(3, 32, 0.01, decay="cosine")
        train(model, images(100, 0), None, schedule, 0, start, states.append)
        return states

    whole = from_epoch(None)
    assert in_bytes(from_epoch(whole[0])[-1]) == in_bytes(whole[-1])
    constant = build_network(SMALL, SHAPE, CLASSES, seed=0)
    other = train(constant, images(100, 0), None, Schedule(3, 32, 0.01), 0)
    assert other.history[-1] != whole[-1].history[-1]


def test_scores_may_prepare_each_batch() -> None:
    """Inputs too large for memory are prepared batch by batch."""
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import evaluate

    model = build_network(SMALL, SHAPE, CLASSES, seed=0)
    examples = images(50, 0)
    seen: list[int] = []

    def halved(x: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(len(x))
        return x * np.float32(0.5)

    found = evaluate(model, examples, "categorical_crossentropy", halved, batch=20)
    half = replace(examples, x=examples.x / 2)
    loss, probabilities = evaluate(model, half, "categorical_crossentropy")
    assert seen == [20, 20, 10]
    assert found[0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found[1], probabilities, atol=1e-6)


def never(_progress: Progress) -> None:
    pytest.fail("there is no epoch left")


def test_a_completed_training_trains_no_further(uninterrupted: list[Progress]) -> None:
    from tasks.core.networks.stack import build_network
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    model = build_network(WITH_EVERYTHING, SHAPE, CLASSES, seed=0)
    start = uninterrupted[1]
    end = train(model, images(100, 0), None, Schedule(2, 32, 0.001), 0, start, never)
    assert end is start
    found = [np.asarray(variable.numpy()).tobytes() for variable in model.variables]
    assert found == in_bytes(start)[0][: len(found)], "the model is restored to that epoch"


def without(state: Progress, kept: Callable[[str], bool]) -> Progress:
    """A state in which variables that are not kept have the values of a new training."""
    import keras

    from tasks.core.networks.stack import build_network

    model = build_network(WITH_EVERYTHING, SHAPE, CLASSES, seed=0)
    optimizer = keras.optimizers.RMSprop(0.001)
    optimizer.build(model.trainable_variables)
    fresh = [*model.variables, *optimizer.variables]
    names = [variable.path for variable in model.variables] + ["optimizer"] * 99
    pairs = zip(names, fresh, state.variables, strict=False)
    mixed = tuple(
        value if kept(name) else keras.ops.convert_to_numpy(variable)
        for name, variable, value in pairs
    )
    assert len(mixed) == len(state.variables)
    return Progress(state.history, mixed)


@pytest.mark.parametrize(
    "missing", ["optimizer", "seed_generator", "moving_mean", "kernel"], ids=str
)
def test_every_part_of_a_state_matters(uninterrupted: list[Progress], missing: str) -> None:
    start = uninterrupted[1]
    assert in_bytes(without(start, lambda _: True)) == in_bytes(start)
    poorer = without(start, lambda name: missing not in name)
    assert in_bytes(poorer) != in_bytes(start), "such a variable exists and has changed"
    end = train_from(poorer)[-1]
    assert in_bytes(end)[0] != in_bytes(uninterrupted[-1])[0]


def test_a_state_of_another_network_is_refused(uninterrupted: list[Progress]) -> None:
    start = uninterrupted[1]
    with pytest.raises(ValueError, match="zip"):
        train_from(Progress(start.history, start.variables[:-1]))


def test_global_random_state_does_not_matter_when_resuming(
    uninterrupted: list[Progress],
) -> None:
    random.seed(7)
    np.random.seed(7)
    assert in_bytes(train_from(uninterrupted[0])[-1]) == in_bytes(uninterrupted[-1])


# Stopped stages


class StoppedError(Exception):
    """Simulates the end of a process."""


def stop_after(outputs: Outputs, epochs: int) -> Outputs:
    """The same outputs, which refuse further checkpoints after `epochs`."""
    saved: list[int] = []

    def check() -> None:
        saved.append(1)
        if len(saved) > epochs:
            raise StoppedError

    def stopping(settings: Any, end: int) -> Checkpoints:
        return replace(Outputs.checkpoints(outputs, settings, end), check=check)

    vars(outputs)["checkpoints"] = stopping
    return outputs


def training_stage(name: str = "iteration_1", epochs: int = EPOCHS, **more: Any) -> Stage:
    training = changed(WITH_EVERYTHING, {"epochs": epochs})
    return Stage(name, TrainSpec(training=training, seed=0), {"beginning": ()}, **more)


def fit_stage(
    store: Store, stage: Stage, stopped_after: int | None = None, **inputs: Record
) -> tuple[Record, int]:
    """Fit a stage; return its record and the epoch after which it resumed."""
    from tasks.models.fit import fit_network

    key, stands_for = key_of(stage, {}, {"device": "cpu"})
    outputs = store.writer(stage, key, stands_for, inputs)
    if stopped_after is not None:
        outputs = stop_after(outputs, stopped_after)
    assert isinstance(stage.spec, TrainSpec)
    _, facts = fit_network(stage.spec, images(100, 0), images(40, 1), outputs)
    return store.commit(outputs, facts), outputs.resumed_after


def names_in(store: Store, record: Record) -> list[str]:
    names = [path.name for path in store.folder(record.stage, record.key).iterdir()]
    return sorted(re.sub(r"-[0-9a-f]{64}", "", name) for name in names)


RESULT = ["history.parquet", "model.keras", "record.json", "validation_predictions.parquet"]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Record:
    store = Store(str(tmp_path_factory.mktemp("never_stopped")))
    record, after = fit_stage(store, training_stage())
    assert after == 0
    assert names_in(store, record) == RESULT
    return record


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_resumed_stage_stores_the_same_files(
    tmp_path: Path, never_stopped: Record, epoch: int
) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(StoppedError):
        fit_stage(store, training_stage(), stopped_after=epoch)
    (folder,) = (tmp_path / "stages" / "iteration_1").iterdir()
    assert len(list(folder.glob("checkpoint-*"))) == len(list(folder.iterdir())) == min(epoch, 1)
    record, after = fit_stage(store, training_stage())
    assert after == epoch
    assert record == never_stopped
    assert names_in(store, record) == RESULT


def test_a_shorter_training_starts_from_a_longer_one_s_snapshot(
    tmp_path: Path, never_stopped: Record
) -> None:
    store = Store(str(tmp_path))
    longer = training_stage("overfitting", EPOCHS + 1, snapshots=(EPOCHS,))
    beginning, _ = fit_stage(store, longer)
    assert names_in(store, beginning) == sorted([*RESULT, f"snapshot-{EPOCHS:06d}.npz"])
    record, after = fit_stage(store, training_stage(), beginning=beginning)
    assert after == EPOCHS
    assert record == never_stopped
    assert names_in(store, record) == RESULT


def test_a_longer_training_starts_where_a_shorter_one_ended(tmp_path: Path) -> None:
    store, elsewhere = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    beginning, _ = fit_stage(store, training_stage("overfitting", 2, snapshots=(EPOCHS,)))
    record, after = fit_stage(store, training_stage(), beginning=beginning)
    assert after == 2
    assert record == fit_stage(elsewhere, training_stage())[0]


def decaying(decay: str, name: str = "iteration_1", epochs: int = EPOCHS, **more: Any) -> Stage:
    """A training whose rates depend on its number of epochs."""
    stage = training_stage(name, epochs, **more)
    assert isinstance(stage.spec, TrainSpec)
    training = changed(stage.spec.training, {"decay": decay, "average": {"kind": "last"}})
    return replace(stage, spec=stage.spec.model_copy(update={"training": training}))


@pytest.mark.parametrize("decay", ["linear", "cosine", "one_cycle"])
def test_a_training_with_a_decay_pauses_and_goes_on_to_the_same_number_of_epochs(
    tmp_path: Path, decay: str
) -> None:
    expected, _ = fit_stage(Store(str(tmp_path / "whole")), decaying(decay))
    # Stopped after two epochs of four, and continued.
    store = Store(str(tmp_path / "paused"))
    with pytest.raises(StoppedError):
        fit_stage(store, decaying(decay), stopped_after=2)
    record, after = fit_stage(store, decaying(decay))
    assert (record, after) == (expected, 2)
    # Continued from a snapshot that another stage left after two epochs of four, not of five.
    for epochs, continued in ((EPOCHS, 2), (EPOCHS + 1, 0)):
        store = Store(str(tmp_path / f"of_{epochs}"))
        first = decaying(decay, "overfitting", epochs, snapshots=(2,))
        beginning, _ = fit_stage(store, first)
        assert "snapshot-000002.npz" in names_in(store, beginning)
        record, after = fit_stage(store, decaying(decay), beginning=beginning)
        assert (record, after) == (expected, continued)


def test_a_training_does_not_start_from_one_with_other_settings(
    tmp_path: Path, never_stopped: Record
) -> None:
    store = Store(str(tmp_path))
    other = training_stage("overfitting", EPOCHS, snapshots=(EPOCHS,))
    spec = other.spec.model_copy(update={"seed": 1})
    beginning, _ = fit_stage(store, replace(other, spec=spec))
    record, after = fit_stage(store, training_stage(), beginning=beginning)
    assert after == 0
    assert record == never_stopped


def test_turning_points_are_the_first_of_equals() -> None:
    from tasks.models.fit import turning_points

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
