"""Pictures are classified in batches and in order; models that do not fit are refused."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.core.data.photographs import ImageFormat
from tasks.core.errors import FashionFlowError, UserError
from tasks.models.classifier import Classifier, Prediction, classify
from tasks.models.model_lookup import TrainedModel, find_model
from tasks.sources.pictures import Unreadable, read_pictures
from tasks.storage.store import Store
from tests.tasks.models.usages import USAGE, written


@pytest.fixture(scope="module")
def trained(
    tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> TrainedModel:
    """A network that predicts `right` for light images and `left` for dark ones."""
    import keras

    from tasks.models.model_files import save_keras

    assert tensorflow_ready
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.set_weights([np.stack([-np.ones(16), np.ones(16)], axis=1), np.array([4.0, -4.0])])
    folder = tmp_path_factory.mktemp("model")
    save_keras(model, folder / "model.keras")
    (folder / "usage.json").write_bytes(written(USAGE))
    return find_model(str(folder), None, Store(str(folder / "store")))


def test_pictures_are_classified_in_batches_and_in_order(
    trained: TrainedModel, tmp_path: Path
) -> None:
    light = np.arange(600) % 3 == 0
    x = np.where(light[:, None, None], np.uint8(255), np.uint8(0)).repeat(4, 1).repeat(4, 2)
    np.savez(tmp_path / "many.npz", x=x)
    paths = [tmp_path / "many.npz", tmp_path / "nowhere.png", tmp_path / "many.npz"]
    found = list(classify(read_pictures(paths, trained.usage.image_format), trained))
    assert len(found) == 1201
    assert isinstance(found[600], Unreadable)
    del found[600]
    assert [item.source for item in found[:2]] == [f"{paths[0]}[0]", f"{paths[0]}[1]"]
    assert all(isinstance(item, Prediction) for item in found)
    best = [item.ranked(1)[0][0] for item in found if isinstance(item, Prediction)]
    assert best == [*light.astype(int), *light.astype(int)]
    first = found[0]
    assert isinstance(first, Prediction)
    assert first.probabilities.sum() == pytest.approx(1)
    assert [index for index, _ in first.ranked(5)] == [1, 0]


def test_the_model_is_not_loaded_if_no_picture_can_be_read(tmp_path: Path) -> None:
    nothing: Any = None
    found = list(classify(read_pictures([tmp_path / "no"], ImageFormat(4, 4, 1)), nothing))
    assert [type(item) for item in found] == [Unreadable]


def test_files_that_are_not_models_or_do_not_match_their_usage_are_refused(
    trained: TrainedModel, tmp_path: Path
) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")

    def refused(changes: dict[str, Any], model: bytes | None = None) -> str:
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(trained.path.parent, folder)
        (folder / "usage.json").write_bytes(written(USAGE | changes))
        if model is not None:
            (folder / "model.keras").write_bytes(model)
        with pytest.raises(FashionFlowError) as error:
            Classifier(find_model(str(folder), None, Store(str(folder / "store"))))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "cannot load it" in refused({}, b"no model")
    assert "cannot load it" in refused({}, trained.path.read_bytes()[:-500])
    assert "do not belong together" in refused({"class_names": ["a", "b", "c"]})
    larger = {"image": {"shape": [5, 5, 1], "ground": 0.0}}
    assert "do not belong together" in refused(larger)
    assert "do not belong together" in refused(
        larger | {"input": {"shape": ["n", 5, 5, 1], "method": "scaled"}}
    )


def test_h5_models_predict_the_same_and_code_in_them_is_refused(
    trained: TrainedModel, tmp_path: Path
) -> None:
    import keras

    from tasks.models.model_files import load_keras, save_h5

    shutil.copy(trained.path.with_name("usage.json"), tmp_path)
    path = tmp_path / "model.h5"
    save_h5(load_keras(trained.path), path)
    images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)
    store = Store(str(tmp_path / "store"))
    found = Classifier(find_model(str(path), None, store)).probabilities(images)
    assert (found == Classifier(trained).probabilities(images)).all()

    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Lambda(lambda x: x[:, 0, :2, 0])(inputs)
    save_h5(keras.Model(inputs, outputs), path)
    with pytest.raises(UserError, match="cannot load it"):
        Classifier(find_model(str(path), None, store))
