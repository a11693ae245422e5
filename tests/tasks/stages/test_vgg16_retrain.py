"""Transfer that competes: trainings that hold a fold out, and the final training of both phases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tasks.core.networks.vgg16_layout import weight_shapes
from tasks.core.records import Record, Stage
from tasks.core.settings.training import ClassWeight
from tasks.core.settings.transfer import TransferVariant
from tasks.core.stage_spec import TransferHead, TransferTraining
from tasks.core.stage_specs import Vgg16TrainSpec
from tasks.core.training.progress import Progress
from tasks.core.transfer_specs import Vgg16RetrainSpec
from tasks.storage.checkpoints import Checkpoints
from tests.tasks.stages.test_vgg16_stages import ABOUT, labels, model_of, weights_of
from tests.tasks.stages.workbench import NAMES, Computed, Workbench

SIZES = {"train": 6, "validation": 4}
# What block 3 is given, and what it makes of it, of images of 32 x 32 pixels.
BELOW, LAST = ("block2_pool", (8, 8, 128)), ("block3_pool", (4, 4, 256))
VARIANT = TransferVariant(
    preprocessing="vgg16",
    features="block3_pool",
    dense=4,
    epochs=2,
    fine_tune_epochs=3,
    batch_size=4,
    loss="categorical_crossentropy",
    learning_rate=1e-3,
    fine_tune_learning_rate=1e-4,
    decay="cosine",
)
READS = {"features": ("train", "validation", "facts")}

Parts = dict[str, dict[str, NDArray[Any]]]


def outputs_of(layer: tuple[str, tuple[int, ...]]) -> Parts:
    """Made-up outputs of a layer for the images of both splits."""
    name, shape = layer
    rng = np.random.default_rng(len(name))
    return {
        split: {"x": rng.random((size, *shape), np.float32), "y": labels(size)}
        for split, size in SIZES.items()
    }


def rearranged(parts: Parts, trained: NDArray[Any], held_out: NDArray[Any]) -> Parts:
    """The same images divided otherwise, by their positions in both splits together."""
    both = {key: np.concatenate([part[key] for part in parts.values()]) for key in ("x", "y")}
    return {
        split: {key: values[positions] for key, values in both.items()}
        for split, positions in (("train", trained), ("validation", held_out))
    }


def features(bench: Workbench, parts: Parts) -> Record:
    return bench.stored("vgg16_block", arrays=parts, **ABOUT)


def base_weights(bench: Workbench) -> Record:
    rng = np.random.default_rng(2)
    weights = {
        name: rng.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in weight_shapes().items()
        if name[len("block")] in "123"
    }
    return bench.stored("vgg16_weights", arrays={"weights": weights})


def training(epochs: int, rate: float) -> TransferTraining:
    return TransferTraining(
        epochs=epochs,
        learning_rate=rate,
        batch_size=VARIANT.batch_size,
        loss=VARIANT.loss,
        decay=VARIANT.decay,
    )


def head_trained(
    bench: Workbench, parts: Parts, fold: int | None = None, **more: Record
) -> Computed:
    spec = Vgg16TrainSpec(
        training=training(VARIANT.epochs, VARIANT.learning_rate),
        preprocessing="vgg16",
        after="block3_pool",
        seed=0,
        head=TransferHead(side=32, dense=VARIANT.dense, dropout=VARIANT.dropout),
        fold=fold,
    )
    reads = READS | {"weights": ("weights",)} | ({"folds": ("folds",)} if fold else {})
    given = {"features": features(bench, parts), "weights": base_weights(bench)}
    return bench.compute(Stage("vgg16_frozen", spec, reads), **given, **more)


def fine_tuned(bench: Workbench, parts: Parts, start: Record) -> Computed:
    spec = Vgg16TrainSpec(
        training=training(VARIANT.fine_tune_epochs, VARIANT.fine_tune_learning_rate),
        preprocessing="vgg16",
        after="block2_pool",
        seed=0,
    )
    stage = Stage("vgg16_fine_tuned", spec, READS | {"start": ("model",)})
    return bench.compute(stage, features=features(bench, parts), start=start)


def retrained(bench: Workbench, class_weight: ClassWeight = None) -> Computed:
    spec = Vgg16RetrainSpec(training=VARIANT, seed=0, class_weight=class_weight)
    reads = READS | {"head_features": READS["features"], "weights": ("weights",)}
    return bench.compute(
        Stage("final", spec, reads),
        features=features(bench, outputs_of(BELOW)),
        head_features=features(bench, outputs_of(LAST)),
        weights=base_weights(bench),
    )


@pytest.fixture(scope="module")
def final(
    tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Computed:
    """The final training."""
    return retrained(Workbench(tmp_path_factory.mktemp("final"), tensorflow_ready))


def test_a_training_holds_its_fold_out(keras_bench: Workbench) -> None:
    """It is the training on images that were divided in that way from the start."""
    fold = np.array([1, 2, 2, 1, 2, 2, 1, 2, 2, 2])
    folds = keras_bench.stored("folds", tables={"folds": pa.table({"fold": fold})})
    parts = outputs_of(LAST)
    done = head_trained(keras_bench, parts, fold=1, folds=folds)
    chosen = rearranged(parts, np.flatnonzero(fold != 1), np.flatnonzero(fold == 1))
    expected = head_trained(keras_bench, chosen)
    assert done.digests == expected.digests
    assert done.facts == expected.facts
    assert done.facts["train_samples"] == 7


def test_the_final_training_is_both_phases_on_all_images(
    keras_bench: Workbench, final: Computed, tmp_path: Path
) -> None:
    everything, none = np.arange(10), np.arange(3)
    last, below = (rearranged(outputs_of(layer), everything, none) for layer in (LAST, BELOW))
    frozen = head_trained(keras_bench, last)
    tuned = fine_tuned(keras_bench, below, frozen.record)
    assert weights_of(model_of(final, tmp_path)) == weights_of(model_of(tuned, tmp_path))
    assert (final.facts["epochs"], final.facts["train_samples"]) == (5, 10)
    assert final.facts["train_accuracy"] == tuned.facts["train_accuracy"]
    assert final.facts["val_accuracy"] is None
    history = final.table("history")
    assert history["epoch"].to_pylist() == [1, 2, 3, 4, 5]
    both = [row.table("history")["loss"].to_pylist() for row in (frozen, tuned)]
    assert history["loss"].to_pylist() == [*both[0], *both[1]]


def test_the_final_model_has_a_file_of_each_format(final: Computed, tmp_path: Path) -> None:
    import keras

    assert final.files == {
        "model": "keras",
        "final": "h5",
        "history": "parquet",
        "usage": "json",
    }
    usage = json.loads(final.content("usage"))
    assert usage["files"] == {"keras": "model.keras", "hdf5": "final.h5"}
    assert (usage["input"]["shape"], usage["input"]["method"]) == (["n", 32, 32, 3], "vgg16")
    path = tmp_path / "final.h5"
    path.write_bytes(final.content("final"))
    other = keras.models.load_model(path, compile=False)
    x = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    predicted = [np.asarray(one(x, training=False)) for one in (model_of(final, tmp_path), other)]
    assert predicted[0].tobytes() == predicted[1].tobytes()


def test_the_final_training_uses_the_weights_of_classes(
    keras_bench: Workbench, final: Computed
) -> None:
    uneven = retrained(keras_bench, {NAMES[0]: 9})
    assert uneven.digests["model"] != final.digests["model"]


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def test_a_final_training_that_was_stopped_ends_with_the_same_bytes(
    keras_bench: Workbench, final: Computed, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoints.save
    seen: list[int] = []

    def stop(checkpoints: Checkpoints, progress: Progress) -> None:
        save(checkpoints, progress)
        seen.append(progress.epoch)
        if seen == [1, 2]:
            raise StoppedError

    monkeypatch.setattr(Checkpoints, "save", stop)
    with pytest.raises(StoppedError):
        retrained(keras_bench)
    done = retrained(keras_bench)
    assert seen == [1, 2, 3], "fine-tuning continued after its second epoch"
    assert done.digests == final.digests
    assert done.facts == final.facts
