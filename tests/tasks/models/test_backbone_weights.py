"""Weights of `keras.applications` from files: what Keras itself would compute with them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.core.networks.imagenet_files import IMAGENET
from tests.support import predict

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

DEVIATIONS = [0.229, 0.224, 0.225]


@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNetV2"])
def test_published_weights_give_what_keras_s_own_network_gives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras puts another layer into EfficientNetB with ImageNet's weights only."""
    import keras
    from keras.src.utils import file_utils

    from tasks.core.networks import backbones
    from tasks.models.backbone_weights import load_weights

    published = backbones.application(name, 32, seed=1)
    for layer in published.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_variance.assign(np.reshape(DEVIATIONS, layer.adapt_variance.shape))
            layer.finalize_state()
    path = tmp_path / "published_notop.h5"
    published.save_weights(str(path).replace(".h5", ".weights.h5"))
    path = path.with_name("published_notop.weights.h5")
    asked: list[tuple[str, str, str | None]] = []

    def get_file(fname: str, origin: str, file_hash: str | None = None, **_more: Any) -> str:
        asked.append((origin, fname, file_hash))
        return str(path)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MobileNetV2, about the size that it was trained on
        theirs = getattr(keras.applications, name)(include_top=False, input_shape=(32, 32, 3))
    there = IMAGENET[name]
    assert asked == [(there.url, there.name, there.digest)]
    ours = backbones.application(name, 32, seed=0)
    load_weights(ours, name, path)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    found, expected = predict(ours, x), predict(theirs, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_a_file_without_the_weights_is_refused(content: bytes, tmp_path: Path) -> None:
    from tasks.core.networks import backbones
    from tasks.models.backbone_weights import load_weights

    path = tmp_path / "mine.weights.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match="these are not weights of MobileNetV2 without top"):
        load_weights(backbones.application("MobileNetV2", 32, 0), "MobileNetV2", path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    from tasks.core.networks import backbones
    from tasks.models.backbone_weights import load_weights

    path = tmp_path / "other.weights.h5"
    backbones.application("MobileNetV3Small", 32, 0).save_weights(path)
    with pytest.raises(UserError, match="these are not weights of MobileNetV2 without top"):
        load_weights(backbones.application("MobileNetV2", 32, 0), "MobileNetV2", path)
