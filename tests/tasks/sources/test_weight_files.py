"""VGG16's weights are read from all kinds of files that Keras writes; other files are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.networks.vgg16_layout import BLOCKS, layer_shapes, random_weights
from tasks.sources.weight_files import read_weights

# Keras 3.15 converts variables by `np.array`, whose NumPy 2 signature TensorFlow 2.21 lacks.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept:DeprecationWarning"
)

Weights = dict[str, NDArray[np.float32]]
Shape = tuple[int, ...]
# As in the published file, written by Keras 1.
KERAS_1_NAMES = ("{}_W_1:0", "{}_b_1:0")
KERAS_2_NAMES = ("{0}/kernel:0", "{0}/bias:0")
TOP: dict[str, Shape] = {"fc1": (512, 4096), "fc2": (4096, 4096), "predictions": (4096, 1000)}
VGG19_BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for files of about 60 MB, removed after the last test of this module."""
    path = tmp_path_factory.mktemp("weights")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def weights() -> Weights:
    drawn = random_weights(seed=4)
    # With equal biases, a wrong order of layers would go unnoticed.
    rng = np.random.default_rng(4)
    for name in drawn:
        if name.endswith("bias"):
            drawn[name] = rng.normal(0, 0.1, drawn[name].shape).astype(np.float32)
    return drawn


def convolutions(blocks: tuple[tuple[int, ...], ...]) -> dict[str, Shape]:
    """Kernel shapes of a VGG network, by Keras's name of the layer."""
    shapes: dict[str, Shape] = {}
    before = 3
    for block, filters in enumerate(blocks, start=1):
        for number, count in enumerate(filters, start=1):
            shapes[f"block{block}_conv{number}"] = (3, 3, before, count)
            before = count
    return shapes


def write_legacy(
    path: Path,
    kernels: dict[str, Shape],
    weights: Weights | None = None,
    names: tuple[str, str] = KERAS_1_NAMES,
    dtype: str = "float32",
) -> Path:
    """Weights as Keras 1 and 2 stored them; without `weights`, empty datasets, so that even
    VGG16's top takes no space."""
    layers = ["input_1"]
    for layer in kernels:
        layers += [layer, f"{layer[:6]}_pool"] if layer.endswith("conv2") else [layer]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer)
            shapes = [kernels[layer], kernels[layer][-1:]] if layer in kernels else []
            listed = [name.format(layer) for name, _ in zip(names, shapes, strict=False)]
            group.attrs["weight_names"] = [name.encode() for name in listed]
            for name, role, shape in zip(listed, ("kernel", "bias"), shapes, strict=False):
                group.create_dataset(name, shape, dtype)
                if weights is not None:
                    group[name][...] = weights[f"{layer}/{role}"]
    return path


def write_keras_3(path: Path, groups: dict[str, tuple[Shape, ...]]) -> Path:
    """Empty datasets in the layout of Keras 3's `save_weights`."""
    with h5py.File(path, "w") as file:
        for group, shapes in groups.items():
            variables = file.create_group(f"layers/{group}/vars")
            for index, shape in enumerate(shapes):
                variables.create_dataset(str(index), shape, "float32")
    return path


def same(found: Weights, expected: Weights) -> bool:
    return list(found) == list(expected) and all(
        found[name].tobytes() == expected[name].tobytes() for name in expected
    )


@pytest.fixture(scope="module")
def published(folder: Path, weights: Weights) -> Path:
    """A file in the layout of the published one."""
    return write_legacy(folder / "published.h5", dict(layer_shapes()), weights)


def test_blocks_here_match_the_layout() -> None:
    assert convolutions(BLOCKS) == layer_shapes()
    assert len(convolutions(VGG19_BLOCKS)) == 16


def test_the_published_layout_is_read(published: Path, weights: Weights) -> None:
    assert same(read_weights(published), weights)


def test_a_file_of_keras_2_is_read(folder: Path, weights: Weights) -> None:
    path = write_legacy(folder / "keras_2.h5", dict(layer_shapes()), weights, KERAS_2_NAMES)
    assert same(read_weights(path), weights)
    path.unlink()


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, weights: Weights) -> Any:
    """Keras's own VGG16 with the weights."""
    request.getfixturevalue("tensorflow_ready")
    import keras

    built = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    built.set_weights(list(weights.values()))
    return built


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_a_base_with_weights_that_keras_saved_predicts_the_same(
    suffix: str, model: Any, folder: Path, weights: Weights
) -> None:
    from keras.src.legacy.saving import legacy_h5_format

    from tasks.core.networks import vgg16

    path = folder / f"saved{suffix}"
    if suffix == ".weights.h5":
        model.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    found = read_weights(path)
    path.unlink()
    assert same(found, weights)

    base = vgg16.build_base(32)
    vgg16.set_weights(base, found)
    x = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    expected = model.predict(x, verbose=0)
    assert base.predict(x, verbose=0).tobytes() == expected.tobytes()
    assert (expected > 0).mean() > 0.1


def test_keras_reads_the_same_from_the_published_layout(
    published: Path, model: Any, weights: Weights
) -> None:
    """So Keras accepts the file that this test writes by hand."""
    model.set_weights([np.zeros_like(value) for value in weights.values()])
    model.load_weights(published)
    for found, expected in zip(model.get_weights(), weights.values(), strict=True):
        assert found.tobytes() == expected.tobytes()


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read_weights(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    return message


def test_a_classifier_on_top_is_ignored(tmp_path: Path) -> None:
    legacy = write_legacy(tmp_path / "top.h5", dict(layer_shapes()) | TOP)
    dense = {f"dense{'_' * bool(i)}{i or ''}": shape for i, shape in enumerate(TOP.values())}
    keras_3 = write_keras_3(
        tmp_path / "top.weights.h5", numbered(convolutions(BLOCKS)) | with_biases(dense)
    )
    for path in (legacy, keras_3):
        found = read_weights(path)
        assert {name: value.shape for name, value in found.items()} == {
            name: value.shape for name, value in random_weights(0).items()
        }


def with_biases(kernels: dict[str, Shape]) -> dict[str, tuple[Shape, ...]]:
    return {name: (shape, shape[-1:]) for name, shape in kernels.items()}


def numbered(kernels: dict[str, Shape]) -> dict[str, tuple[Shape, ...]]:
    """Kernels and biases under the names that Keras 3 gives to convolutions."""
    names = ["conv2d", *(f"conv2d_{index}" for index in range(1, len(kernels)))]
    return with_biases(dict(zip(names, kernels.values(), strict=True)))


def test_vgg19_is_refused_although_it_has_every_layer_of_vgg16(tmp_path: Path) -> None:
    vgg19 = convolutions(VGG19_BLOCKS)
    assert vgg19.items() > layer_shapes().items()
    further = "VGG16 has no block3_conv4/kernel, found float32 (3, 3, 256, 256)"
    assert further in refusal(write_legacy(tmp_path / "vgg19.h5", vgg19))
    named = write_keras_3(tmp_path / "vgg19_named.weights.h5", with_biases(vgg19))
    assert further in refusal(named)
    # By number, the last layer of VGG19's third block takes the place of VGG16's `block4_conv1`.
    assert (
        "block4_conv1/kernel should be float32 (3, 3, 256, 512), found float32 (3, 3, 256, 256)"
    ) in refusal(write_keras_3(tmp_path / "vgg19.weights.h5", numbered(vgg19)))


def test_one_convolution_too_many_at_the_end_is_refused(tmp_path: Path) -> None:
    longer = convolutions((*BLOCKS, (512,)))
    path = write_keras_3(tmp_path / "longer.weights.h5", numbered(longer))
    assert "VGG16 has no conv2d_13/kernel, found float32 (3, 3, 512, 512)" in refusal(path)


def change_shape(kernels: dict[str, Shape]) -> dict[str, Shape]:
    return kernels | {"block3_conv2": (3, 3, 256, 128)}


def drop_layer(kernels: dict[str, Shape]) -> dict[str, Shape]:
    return {name: shape for name, shape in kernels.items() if name != "block3_conv2"}


@pytest.mark.parametrize(
    ("change", "came"),
    [(change_shape, "float32 (3, 3, 256, 128)"), (drop_layer, "nothing")],
)
def test_a_wrong_layer_is_named_with_both_shapes(
    change: Callable[[dict[str, Shape]], dict[str, Shape]], came: str, tmp_path: Path
) -> None:
    message = refusal(write_legacy(tmp_path / "wrong.h5", change(dict(layer_shapes()))))
    assert f"block3_conv2/kernel should be float32 (3, 3, 256, 256), found {came}" in message


def test_weights_of_another_precision_are_refused(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "half.h5", dict(layer_shapes()), dtype="float16")
    expected = "block1_conv1/kernel should be float32 (3, 3, 3, 64), found float16 (3, 3, 3, 64)"
    assert expected in refusal(path)


@pytest.mark.usefixtures("tensorflow_ready")
@pytest.mark.parametrize("suffix", ["weights.h5", "h5"])
def test_a_file_of_another_model_is_refused(suffix: str, tmp_path: Path) -> None:
    from tasks.core.networks.stack import build_network
    from tasks.core.settings.training import TrainSettings

    path = tmp_path / f"other.{suffix}"
    model = build_network(TrainSettings(dense=(4,)), (28, 28, 1), 10, seed=0)
    if suffix == "h5":
        model.save(path)
    else:
        model.save_weights(path)
    assert "block1_conv1/kernel should be float32 (3, 3, 3, 64), found" in refusal(path)


def test_a_truncated_file_is_refused(published: Path, folder: Path) -> None:
    content = published.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        path = folder / "truncated.h5"
        path.write_bytes(content[:length])
        assert "is not an HDF5 file with weights" in refusal(path)
        path.unlink()


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "weights.h5"
    text.write_text("<html>404 Not Found</html>\n" * 100)
    assert "is not an HDF5 file with weights" in refusal(text)
    assert "is not an HDF5 file with weights" in refusal(tmp_path / "missing.h5")
    assert "is not an HDF5 file with weights" in refusal(tmp_path)


def test_a_file_without_the_weights_that_it_lists_is_refused(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "damaged.h5", dict(layer_shapes()))
    with h5py.File(path, "a") as file:
        del file["block2_conv1"]["block2_conv1_W_1:0"]
    assert "block2_conv1_W_1:0" in refusal(path)


def test_an_hdf5_file_without_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    assert "block1_conv1/kernel should be float32 (3, 3, 3, 64), found nothing" in refusal(path)
