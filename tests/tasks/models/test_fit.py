"""What a training of an own network saves, plain Keras loads, whatever its optimiser was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.records import Stage
from tasks.core.settings.base import changed
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import RetrainSpec
from tasks.engine.own_code import read_code
from tasks.storage.store import Store
from tests.own_nets import written
from tests.support import basis, on_disk, predicted_by_plain_keras
from tests.tasks.core.networks.test_own import examples

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]
# A sequence within the network, and batch normalisation and dropout.
NETS = """
import keras
from keras import layers


def build(input_shape, classes):
    inputs = keras.Input(input_shape)
    part = keras.Sequential(
        [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.3), layers.ReLU()]
    )
    x = layers.GlobalAveragePooling2D()(part(inputs))
    return keras.Model(inputs, layers.Dense(classes)(x))
"""


@pytest.mark.parametrize("optimizer", ["rmsprop", "muon"])
def test_plain_keras_loads_what_was_trained_as_keras_and_as_hdf5(
    optimizer: str, tmp_path: Path
) -> None:
    from tasks.models.fit import fit_network
    from tasks.models.model_files import fits_hdf5, save_h5

    function = written(tmp_path / "nets", NETS)
    change: dict[str, Any] = {
        "network.function": function,
        "optimizer.name": optimizer,
        "decay": "linear",
        "batch_size": 16,
        "epochs": 2,
    }
    spec = RetrainSpec(training=changed(TrainSettings(), change), seed=0)
    stage = Stage("final", spec, own_code=read_code(function))
    outputs = Store(str(tmp_path / "store")).writer(stage, "0" * 64, basis())
    model, _ = fit_network(spec, examples(), examples(20), outputs)
    assert fits_hdf5(model)
    save_h5(model, tmp_path / "model.h5")
    x = examples(9).batch(slice(None))[0]
    saved = on_disk(outputs.folder) / "model.keras"
    for found in predicted_by_plain_keras(x, tmp_path / "model.h5", saved):
        np.testing.assert_allclose(found, np.asarray(model(x, training=False)), atol=1e-5)


def test_operations_in_models_within_sequences_do_not_fit_hdf5() -> None:
    import keras

    from tasks.models.model_files import fits_hdf5

    inputs = keras.Input((4,))
    doubled = keras.Model(inputs, inputs + inputs)
    for inner, fits in ((doubled, False), (keras.layers.ReLU(), True)):
        sequence = keras.Sequential([keras.Sequential([inner]), keras.layers.Dense(2)])
        outer = keras.Model(inputs, sequence(inputs))
        assert fits_hdf5(outer) == fits
