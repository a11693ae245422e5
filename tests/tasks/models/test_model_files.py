"""Model files: their bytes are a function of the model, and plain Keras reads them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.settings.training import TrainSettings

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    # Keras 3.15 converts variables by `np.array`, whose NumPy 2 signature TensorFlow 2.21 lacks.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

ROOT = Path(__file__).parents[3]
# Every kind of layer, and the L2 penalty, whose settings are stored with the model.
EVERYTHING = TrainSettings(
    filters=(4, 6),
    kernel_sizes=(2, 3),
    pooled=(True, False),
    padding="same",
    batch_norm=True,
    dense=(8, 5),
    dropout=0.25,
    l2=0.001,
)
SHAPE = (9, 8, 1)
SAVERS = {"keras": "save_keras", "h5": "save_h5"}

# What another process does: build, save twice some seconds apart from the others, print digests.
ELSEWHERE = """
import hashlib, json, sys, time
from pathlib import Path
from tasks.engine.profile import configure
arguments = json.loads(sys.argv[1])
configure(arguments["profile"])
from tasks.core.networks.stack import build_network
from tasks.core.settings.training import TrainSettings
from tasks.models import model_files
for _ in range(arguments["built_before"]):
    build_network(TrainSettings(), (28, 28, 1), 10, 0)
time.sleep(arguments["wait"])
settings = TrainSettings.model_validate(arguments["settings"])
model = build_network(settings, tuple(arguments["shape"]), 3, 5)
digests = {}
for suffix, saver in arguments["savers"].items():
    path = Path(arguments["folder"], "model." + suffix)
    getattr(model_files, saver)(model, path)
    digests[suffix] = hashlib.sha256(path.read_bytes()).hexdigest()
print(json.dumps(digests))
"""


def built() -> Any:
    from tasks.core.networks.stack import build_network

    return build_network(EVERYTHING, SHAPE, 3, seed=5)


def saved(model: Any, path: Path) -> Path:
    from tasks.models import model_files

    getattr(model_files, SAVERS[path.suffix[1:]])(model, path)
    return path


@pytest.fixture(scope="module")
def processes(
    tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[subprocess.Popen[str]]]:
    """Two fresh processes that save the model, seconds apart, with other hash seeds."""
    started = []
    for number in range(2):
        arguments = {
            "profile": dict(tensorflow_ready),
            "built_before": number,
            "wait": 3 * number,
            "settings": EVERYTHING.model_dump(mode="json"),
            "shape": SHAPE,
            "savers": SAVERS,
            "folder": str(tmp_path_factory.mktemp(f"process_{number}")),
        }
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", ELSEWHERE, json.dumps(arguments)],
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": str(number)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    yield started
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("processes")  # They work while this process does.
@pytest.mark.parametrize("suffix", SAVERS)
def test_two_builds_in_one_process_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    first = saved(built(), tmp_path / f"first.{suffix}").read_bytes()
    second = saved(built(), tmp_path / f"second.{suffix}").read_bytes()
    assert first == second


def test_other_weights_give_other_bytes(tmp_path: Path) -> None:
    model = built()
    before = [saved(model, tmp_path / f"model.{suffix}").read_bytes() for suffix in SAVERS]
    bias = model.get_layer("dense_1").bias
    bias.assign(bias + 1e-6)
    after = [saved(model, tmp_path / f"model.{suffix}").read_bytes() for suffix in SAVERS]
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_nothing_in_the_archive_tells_when_or_where_it_was_written(tmp_path: Path) -> None:
    path = saved(built(), tmp_path / "model.keras")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        metadata = json.loads(archive.read("metadata.json"))
    assert sorted(entry.filename for entry in entries) == [
        "config.json",
        "metadata.json",
        "model.weights.h5",
    ]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert set(metadata) == {"keras_version"}
    assert str(tmp_path).encode() not in path.read_bytes()
    assert [child.name for child in tmp_path.iterdir()] == ["model.keras"]


def modules_named_in(config: Any) -> Iterator[tuple[str, str | None]]:
    if isinstance(config, dict):
        if "module" in config:
            yield config["module"], config.get("registered_name")
        for value in config.values():
            yield from modules_named_in(value)
    elif isinstance(config, list):
        for value in config:
            yield from modules_named_in(value)


def test_the_model_needs_no_code_but_keras(tmp_path: Path) -> None:
    with zipfile.ZipFile(saved(built(), tmp_path / "model.keras")) as archive:
        config = json.loads(archive.read("config.json"))
    found = set(modules_named_in(config))
    assert len(found) > 3
    assert {(module.split(".")[0], name) for module, name in found if module != "builtins"} <= {
        ("keras", None),
        ("keras", "Functional"),
    }


@pytest.mark.parametrize("suffix", SAVERS)
def test_plain_keras_loads_the_file_and_predicts_the_same(suffix: str, tmp_path: Path) -> None:
    import keras

    from tasks.models.model_files import load_keras
    from tests.support import predict

    model = built()
    for weight in model.weights:  # Batch statistics too, which start at 0 and 1.
        weight.assign(weight + 0.05)
    path = saved(model, tmp_path / f"model.{suffix}")
    x = np.random.default_rng(0).random((40, *SHAPE), dtype=np.float32)
    expected = predict(model, x)
    loaded = [keras.models.load_model(path, compile=False, safe_mode=True)]
    if suffix == "keras":
        loaded.append(load_keras(path))
    for copy in loaded:
        assert copy.predict(x, batch_size=256, verbose=0).tobytes() == expected.tobytes()
        assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
        assert float(sum(copy.losses)) == float(sum(model.losses)) > 0


def test_code_stored_in_a_model_is_refused(tmp_path: Path) -> None:
    import keras

    from tasks.models.model_files import load_keras

    inputs = keras.Input((2,), name="image")
    outputs = keras.layers.Lambda(lambda x: x + 1, output_shape=(2,), name="code")(inputs)
    path = saved(keras.Model(inputs, outputs, name="network"), tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Lambda"):
        load_keras(path)


@pytest.fixture(scope="module")
def digests_elsewhere(processes: list[subprocess.Popen[str]]) -> list[dict[str, str]]:
    """By suffix, the digests of the files that the processes wrote."""
    found = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        found.append(json.loads(output.splitlines()[-1]))
    return found


# Last, so that the processes had time.
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_fresh_processes_at_other_times_give_the_same_bytes(
    suffix: str, digests_elsewhere: list[dict[str, str]], tmp_path: Path
) -> None:
    here = hashlib.sha256(saved(built(), tmp_path / f"m.{suffix}").read_bytes()).hexdigest()
    assert [digests[suffix] for digests in digests_elsewhere] == [here, here]
