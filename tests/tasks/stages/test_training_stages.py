"""Training, retraining and scoring on the test split, with networks of a few weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.errors import SealedError
from tasks.core.records import Record, Stage
from tasks.core.seal import Mark
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import EvaluateSpec, RetrainSpec, TrainSpec, Vgg16Input
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import FOLD_OF_IMAGE
from tests.support import predict
from tests.tasks.stages.workbench import NAMES, Computed, Workbench, images

SETTINGS = TrainSettings(
    filters=(), kernel_sizes=(), pooled=(), dense=(4,), epochs=2, batch_size=5, learning_rate=0.01
)
PARAMETERS = (12 * 12 + 1) * 4 + (4 + 1) * 3
SIZES = {"train": 12, "validation": 6, "test": 6}


def prepared(split: str) -> dict[str, NDArray[np.uint8]]:
    """The arrays of a split, its classes in turn."""
    size = SIZES[split]
    x = images(size, seed=list(SIZES).index(split))
    return {"x": x, "y": (np.arange(size) % 3).astype(np.uint8)}


def inputs_of(*splits: str) -> NDArray[np.float32]:
    """The images of these splits as networks read them."""
    x = np.concatenate([prepared(split)["x"] for split in splits])
    return x.astype(np.float32) / np.float32(255)


def arrays(bench: Workbench, dataset: str = "fashion-mnist") -> Record:
    facts: dict[str, Any] = {
        "dataset": dataset,
        "class_names": NAMES,
        "image_shape": [12, 12, 1],
        "ground": 0.0,
        "fit": "pad",
        "white": 255,
    }
    return bench.stored("preprocess", arrays={name: prepared(name) for name in SIZES}, **facts)


def loaded(done: Computed, folder: Path, name: str = "model") -> Any:
    """A stored model in plain Keras."""
    import keras

    path = folder / f"loaded.{done.files[name]}"
    path.write_bytes(done.content(name))
    return keras.models.load_model(path, compile=False)


def predictions(done: Computed, split: str) -> NDArray[np.float32]:
    table = done.table(f"{split}_predictions")
    return np.stack([table[f"p{index}"].to_numpy() for index in range(3)], axis=1)


# train


def trained(bench: Workbench, fold: int | None = None, folds: list[int] | None = None) -> Computed:
    spec = TrainSpec(training=SETTINGS, seed=3, fold=fold)
    reads: dict[str, tuple[str, ...]] = {"arrays": ("train", "validation", "facts")}
    inputs = {"arrays": arrays(bench)}
    if folds:
        reads["folds"] = ("folds",)
        columns = {"fold": folds, "label": [n % 3 for n in range(18)]}
        inputs["folds"] = bench.stored(
            "folds", tables={"folds": from_columns(FOLD_OF_IMAGE, columns)}
        )
    return bench.compute(Stage("baseline", spec, reads), **inputs)


def test_a_training_stores_model_history_predictions_and_usage(
    keras_bench: Workbench, tmp_path: Path
) -> None:
    done = trained(keras_bench)
    assert done.state == "Completed"
    assert done.files == {
        "model": "keras",
        "history": "parquet",
        "validation_predictions": "parquet",
        "usage": "json",
    }
    facts = done.facts
    assert (facts["params"], facts["epochs"], facts["batch_size"]) == (PARAMETERS, 2, 5)
    assert (facts["train_samples"], facts["steps_per_epoch"]) == (12, 3)
    usage = json.loads(done.content("usage"))
    assert usage["class_names"] == NAMES
    assert usage["input"]["shape"] == ["n", 12, 12, 1]
    assert usage["files"] == {"keras": "model.keras"}
    model = loaded(done, tmp_path)
    np.testing.assert_allclose(
        predict(model, inputs_of("validation")), predictions(done, "validation"), atol=1e-6
    )


def test_other_epochs_after_a_finished_training_are_trained_and_the_same_as_in_a_new_store(
    keras_bench: Workbench, tmp_path: Path
) -> None:
    def trained_for(epochs: int, bench: Workbench, given: Record) -> Computed:
        training = SETTINGS.model_copy(update={"epochs": epochs})
        spec = TrainSpec(training=training, seed=3, fold=None)
        reads = {"arrays": ("train", "validation", "facts")}
        return bench.compute(Stage("overfitting", spec, reads), arrays=given)

    given = arrays(keras_bench)
    first = trained_for(4, keras_bench, given)
    for epochs in (3, 2, 5):
        done = trained_for(epochs, keras_bench, given)
        assert (done.state, done.facts["epochs"]) == ("Completed", epochs)
        assert len(done.rows("history")) == epochs
        new = Workbench(tmp_path / f"new {epochs}", keras_bench.context.profile)
        assert done.digests == trained_for(epochs, new, arrays(new)).digests
    again = trained_for(4, keras_bench, given)
    assert (again.state, again.digests) == ("Cached", first.digests)


@pytest.mark.parametrize("fold", [None, 2])
def test_images_that_are_not_in_memory_give_the_same_bytes(
    keras_bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: int | None
) -> None:
    folds = [1, 2, 3] * 6 if fold else None
    expected = trained(keras_bench, fold, folds)
    monkeypatch.setattr("tasks.storage.npz.IN_MEMORY", 0)
    found = trained(Workbench(tmp_path / "new", keras_bench.context.profile), fold, folds)
    assert found.state == "Completed"
    assert (found.digests, found.facts) == (expected.digests, expected.facts)


def test_facts_of_a_training_are_those_of_its_model_and_history(keras_bench: Workbench) -> None:
    done = trained(keras_bench)
    right = predictions(done, "validation").argmax(axis=1) == np.arange(6) % 3
    assert done.facts["val_accuracy"] == pytest.approx(right.mean())
    given = predictions(done, "validation")[np.arange(6), np.arange(6) % 3]
    assert done.facts["val_loss"] == pytest.approx(-np.log(given).mean(), rel=1e-5)
    history = done.rows("history")
    assert [row["epoch"] for row in history] == [1, 2]
    losses = [row["val_loss"] for row in history]
    assert done.facts["lowest_validation_loss"] == min(losses)
    assert done.facts["lowest_validation_loss_epoch"] == losses.index(min(losses)) + 1
    assert done.facts["highest_validation_accuracy"] == max(r["val_accuracy"] for r in history)
    percent = 100 * done.facts["val_accuracy"]
    assert f"validation accuracy {percent:.2f} %, record " in done.message


def test_a_fold_is_held_out_of_training_and_validation_images_together(
    keras_bench: Workbench, tmp_path: Path
) -> None:
    folds = [1, 2, 3, 1, 2, 3, 2, 2, 1, 3, 3, 1, 1, 1, 2, 3, 3, 2]
    done = trained(keras_bench, fold=2, folds=folds)
    held_out = [n for n, fold in enumerate(folds) if fold == 2]
    assert done.facts["train_samples"] == 12
    assert done.table("validation_predictions")["label"].to_pylist() == [n % 3 for n in held_out]
    x = inputs_of("train", "validation")[held_out]
    np.testing.assert_allclose(
        predict(loaded(done, tmp_path), x), predictions(done, "validation"), atol=1e-6
    )
    other = trained(keras_bench, fold=1, folds=folds)
    assert other.digests["model"] != done.digests["model"]


def test_a_training_can_not_read_test_scores(keras_bench: Workbench) -> None:
    """Records carry the marks, so the seal is also checked where a stage is computed."""
    spec = TrainSpec(training=SETTINGS, seed=3)
    scored = evaluated(keras_bench, small_model(keras_bench), arrays(keras_bench))
    stage = Stage("baseline", spec, {"arrays": ("test_predictions",)})
    with pytest.raises(SealedError, match="reads arrays/test_predictions, which derives from test"):
        keras_bench.compute(stage, arrays=scored.record)


# retrain


def test_the_final_model_of_own_images_is_not_named_after_others(keras_bench: Workbench) -> None:
    reads = {"arrays": ("train", "validation", "facts")}
    stage = Stage("final", RetrainSpec(training=SETTINGS, seed=3), reads)
    done = keras_bench.compute(stage, arrays=arrays(keras_bench, "own"))
    assert done.files["final"] == "h5"
    assert json.loads(done.content("usage"))["files"]["hdf5"] == "final.h5"


def test_the_final_model_learns_from_training_and_validation_images(
    keras_bench: Workbench, tmp_path: Path
) -> None:
    reads = {"arrays": ("train", "validation", "facts")}
    stage = Stage("final", RetrainSpec(training=SETTINGS, seed=3), reads)
    done = keras_bench.compute(stage, arrays=arrays(keras_bench))
    assert done.files == {
        "model": "keras",
        "history": "parquet",
        "fashion_mnist_final": "h5",
        "usage": "json",
    }
    assert (done.facts["train_samples"], done.facts["steps_per_epoch"]) == (18, 4)
    assert (done.facts["val_loss"], done.facts["val_accuracy"]) == (None, None)
    assert "lowest_validation_loss_epoch" not in done.facts
    assert "val_loss" not in done.table("history").column_names
    assert json.loads(done.content("usage"))["files"] == {
        "keras": "model.keras",
        "hdf5": "fashion_mnist_final.h5",
    }
    x = inputs_of("train", "validation")
    y = np.arange(18) % 12 % 3
    of_keras = predict(loaded(done, tmp_path), x)
    of_h5 = predict(loaded(done, tmp_path, "fashion_mnist_final"), x)
    assert of_keras.tobytes() == of_h5.tobytes()
    assert done.facts["train_accuracy"] == pytest.approx((of_keras.argmax(axis=1) == y).mean())


# evaluate


def model_record(bench: Workbench, model: Any) -> Record:
    from tasks.models.model_files import save_keras

    return bench.stored(
        "baseline", files={"model": ("keras", lambda path: save_keras(model, path))}
    )


def small_model(bench: Workbench) -> Record:
    from tasks.core.networks.stack import build_network

    return model_record(bench, build_network(SETTINGS, (12, 12, 1), 3, seed=1))


def evaluated(bench: Workbench, model: Record, given: Record, **changes: Any) -> Computed:
    values: dict[str, Any] = {"model": "baseline", "loss": "categorical_crossentropy"} | changes
    reads = {"model": ("model",), "arrays": ("test",)}
    stage = Stage("test_baseline", EvaluateSpec(**values), reads)
    return bench.compute(stage, model=model, arrays=given)


def test_test_predictions_are_the_model_s(keras_bench: Workbench, tmp_path: Path) -> None:
    model = small_model(keras_bench)
    done = evaluated(keras_bench, model, arrays(keras_bench))
    assert done.files == {"test_predictions": "parquet"}
    path = tmp_path / "model.keras"
    path.write_bytes(keras_bench.store.content(model, "model"))
    import keras

    expected = predict(keras.models.load_model(path, compile=False), inputs_of("test"))
    np.testing.assert_allclose(predictions(done, "test"), expected, atol=1e-6)
    table = done.table("test_predictions").to_pydict()
    assert table["label"] == [0, 1, 2, 0, 1, 2]
    assert table["predicted"] == expected.argmax(axis=1).tolist()
    right = expected.argmax(axis=1) == np.arange(6) % 3
    assert done.facts["test_accuracy"] == pytest.approx(right.mean())
    loss = -np.log(expected[np.arange(6), np.arange(6) % 3]).mean()
    assert done.facts["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert f"test accuracy {100 * right.mean():.2f} %" in done.message


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "binary_crossentropy"])
def test_the_loss_is_what_keras_reports(keras_bench: Workbench, tmp_path: Path, loss: str) -> None:
    import keras

    record = small_model(keras_bench)
    done = evaluated(keras_bench, record, arrays(keras_bench), loss=loss)
    path = tmp_path / "model.keras"
    path.write_bytes(keras_bench.store.content(record, "model"))
    model = keras.models.load_model(path, compile=False)
    model.compile(loss=loss)
    y = np.eye(3)[prepared("test")["y"]]
    expected = model.evaluate(inputs_of("test"), y, verbose=0)
    assert done.facts["test_loss"] == pytest.approx(expected, rel=1e-5)


def test_images_become_what_vgg16_reads(keras_bench: Workbench) -> None:
    import keras

    from tasks.core.networks.vgg16 import as_vgg16_input

    inputs = keras.Input((32, 32, 3), name="pixels")
    pooled = keras.layers.GlobalAveragePooling2D(name="mean")(inputs)
    outputs = keras.layers.Dense(3, activation="softmax", name="probabilities")(pooled)
    model = keras.Model(inputs, outputs)
    model.layers[-1].set_weights([np.diag([0.01, -0.02, 0.03]), np.array([-1.0, 2.0, 0.5])])
    record = model_record(keras_bench, model)
    for preprocessing in ("raw", "vgg16"):
        images = Vgg16Input(side=32, preprocessing=preprocessing)
        done = evaluated(keras_bench, record, arrays(keras_bench), vgg16_input=images)
        x = as_vgg16_input(inputs_of("test"), 32, preprocessing)
        np.testing.assert_allclose(predictions(done, "test"), predict(model, x), atol=1e-6)


def test_a_scoring_is_logged(keras_bench: Workbench) -> None:
    model, given = small_model(keras_bench), arrays(keras_bench)
    evaluated(keras_bench, model, given)
    (entry,) = keras_bench.scorings(given)
    assert (entry["run"], entry["model"]) == ("run-1", "baseline")
    assert entry["model_digest"] == model.digest(("model",))
    assert entry["test_data"] == given.digest(("test",))
    # What is cached is not scored again.
    assert evaluated(keras_bench, model, given).state == "Cached"
    assert len(keras_bench.scorings(given)) == 1


def test_a_scoring_is_logged_before_it_is_computed(
    keras_bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed afterwards may have seen the test scores."""
    model, given = small_model(keras_bench), arrays(keras_bench)

    def fail(*_arguments: Any) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr("tasks.models.fit.score", fail)
    with pytest.raises(RuntimeError, match="killed"):
        evaluated(keras_bench, model, given)
    assert len(keras_bench.scorings(given)) == 1


def test_scores_are_marked(keras_bench: Workbench) -> None:
    """Although nothing that was read here is."""
    done = evaluated(keras_bench, small_model(keras_bench), arrays(keras_bench))
    assert done.marks == {"test_predictions": set(Mark), "facts": set(Mark)}
