"""Mixed precision, as far as it can be tried on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.core.settings.base import changed
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import RetrainSpec
from tests.tasks.core.networks.test_families import CLASSES, EVERYTHING, SHAPE, examples

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]
STACK = TrainSettings(
    filters=(4,), kernel_sizes=(3,), pooled=(True,), batch_norm=True, dense=(8,), batch_size=16
)
COMPACT = changed(
    changed(TrainSettings(), EVERYTHING),
    {"network": {"family": "compact", "widths": [4], "views": "flips"}},
)
NETWORKS = {"stack": STACK, "compact": COMPACT}
PRECISIONS = ("bfloat16", "float16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("training", NETWORKS.values(), ids=NETWORKS)
def test_layers_compute_in_16_bits_with_weights_and_probabilities_in_32(
    training: TrainSettings, precision: str
) -> None:
    import keras

    from tasks.core.networks.families import build_network
    from tasks.core.networks.precision import mixed_precision

    with mixed_precision(precision):
        mixed = build_network(training, SHAPE, CLASSES, 0)
    plain = build_network(training, SHAPE, CLASSES, 0)
    assert keras.config.dtype_policy().name == "float32"
    *hidden, last = [layer for layer in mixed.layers if layer.weights or layer is mixed.layers[-1]]
    assert {layer.compute_dtype for layer in hidden} == {precision}
    assert last.compute_dtype == "float32"
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    for one, two in zip(mixed.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    x = examples(9).batch(slice(None))[0]
    found, expected = (np.asarray(model(x, training=False)) for model in (mixed, plain))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(found - expected).max() > 1e-6


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_float16_scales_the_loss_and_the_scale_is_resumed(precision: str) -> None:
    from tasks.core.networks.families import build_network
    from tasks.core.networks.precision import mixed_precision
    from tasks.core.training.loop import train
    from tasks.core.training.schedule import Schedule

    def trained(start: Any) -> tuple[Any, list[Any]]:
        with mixed_precision(precision):
            model = build_network(STACK, SHAPE, CLASSES, 0)
        states: list[Any] = []
        train(model, examples(40), None, Schedule(3, 16, 0.01), 0, start, states.append)
        return model, states

    model, states = trained(None)
    paths = [variable.path for variable in model.optimizer.variables]
    assert any("dynamic_scale" in path for path in paths) == (precision == "float16")
    assert len(states[-1].variables) == len(model.variables) + len(paths)
    assert states[-1].history[-1]["loss"] < states[-1].history[0]["loss"]
    if precision == "float16":
        at = next(at for at, path in enumerate(paths) if "dynamic_scale" in path)
        assert states[-1].variables[len(model.variables) + at] >= 1
    _, again = trained(states[0])
    for one, two in zip(states[-1].variables, again[-1].variables, strict=True):
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("kind", ["nested", "wrapped", "float32"])
def test_layers_of_models_and_layers_within_a_network_scale_the_loss_too(kind: str) -> None:
    import keras
    from keras import layers

    from tasks.core.networks.families import build_network
    from tasks.core.networks.precision import scaled_optimizer

    def build(shape: Any, classes: int) -> Any:
        dtype = "float32" if kind == "float32" else "mixed_float16"
        part: Any = layers.Dense(4, dtype=dtype)
        inputs = keras.Input(shape)
        if kind == "wrapped":
            x = layers.TimeDistributed(part, dtype="float32")(inputs)
        else:
            x = keras.Sequential([keras.Input(shape), keras.Sequential([part])])(inputs)
        return keras.Model(inputs, layers.Dense(classes)(layers.Flatten()(x)))

    training = changed(TrainSettings(), {"network": {"function": "own:build"}})
    model = build_network(training, SHAPE, CLASSES, 0, build)
    plain = keras.optimizers.SGD()
    plain.build(model.trainable_variables)
    found = scaled_optimizer(plain, model)
    assert isinstance(found, keras.optimizers.LossScaleOptimizer) == (kind != "float32")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("training", NETWORKS.values(), ids=NETWORKS)
def test_what_is_saved_and_scored_computes_in_float32(
    training: TrainSettings, precision: str, tmp_path: Path
) -> None:
    import keras
    import pyarrow.parquet as pq

    from tasks.core.records import Stage
    from tasks.models.fit import fit_network
    from tasks.storage.store import Store
    from tests.support import basis, on_disk

    spec = RetrainSpec(training=changed(training, {"epochs": 2}), seed=0)
    of = basis(profile={"precision": precision})
    outputs = Store(str(tmp_path)).writer(Stage("final", spec), "0" * 64, of)
    fit_network(spec, examples(60), examples(20), outputs)
    saved = keras.models.load_model(on_disk(outputs.folder) / "model.keras", safe_mode=True)
    layers = [layer for layer in saved.layers if layer.weights]
    assert {layer.dtype_policy.name for layer in layers} == {"float32"}
    found = np.asarray(saved(examples(20).batch(slice(None))[0], training=False))
    table = pq.read_table(on_disk(outputs.folder) / "validation_predictions.parquet")
    predicted = table["predicted"].to_numpy()
    np.testing.assert_array_equal(found.argmax(axis=1), predicted)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mixed_precision_is_for_gpus_and_in_the_profile(
    precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.engine import profile

    with pytest.raises(UserError, match=f"{precision}.*for GPUs.*execution.precision=float32"):
        profile.resolve_profile(ExecutionSettings(device="cpu", precision=precision))
    monkeypatch.setattr(profile, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr(profile, "graphics", lambda _: {"gpu": "a model"})
    found, other = (
        profile.resolve_profile(ExecutionSettings(device="gpu", precision=one))
        for one in (precision, "float32")
    )
    assert found == other | {"precision": precision}
