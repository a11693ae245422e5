"""Transfer with ImageNet's weights, where they are: `VGG16_WEIGHTS` names a file with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bare import BareRun
from flows.recipe.backbone import stages_of
from flows.recipe.transfer import transfer
from tasks.core.settings.run_settings import Settings
from tasks.sources.weight_files import read_weights
from tests.support import predict

WEIGHTS = os.environ.get("VGG16_WEIGHTS", "")
pytestmark = pytest.mark.skipif(
    not WEIGHTS, reason="VGG16_WEIGHTS does not name a file with ImageNet's weights"
)
FASHION_MNIST = pytest.mark.skipif(
    "FASHION_MNIST_DIR" not in os.environ, reason="FASHION_MNIST_DIR does not name the real files"
)


def test_the_weights_are_the_published_ones() -> None:
    """Values that others have published, in Keras's layout."""
    weights = read_weights(Path(WEIGHTS))
    first = weights["block1_conv1/kernel"][0, 0, 0, :3]
    np.testing.assert_allclose(first, [0.42947057, 0.11727387, 0.03401296], rtol=1e-6)
    bias = weights["block1_conv1/bias"]
    np.testing.assert_allclose(bias[[0, 1, 2, 25]], [0.73429835, 0.09340367, 0.06775674, 0.7446502])
    assert weights["block1_conv2/kernel"][2, 2, 63, 63] == pytest.approx(0.016082443)
    assert weights["block5_conv1/kernel"][1, 0, 63, 269] == pytest.approx(-0.011236359)
    assert weights["block5_conv3/kernel"][0, 2, 0, 400] == pytest.approx(-0.008714244)


def settings_with(**values: Any) -> Settings:
    way = {"side": 48, "epochs": 25, "fine_tune_epochs": 1, "dense": 64, "batch_size": 32}
    transfer = {"variant": "corrected", "corrected": way} | values
    return Settings.model_validate(
        {
            "dataset": "fashion-mnist",
            "subset": {"train": 400, "validation": 300, "test": 100},
            "transfer": transfer,
        }
    )


@FASHION_MNIST
def test_frozen_features_of_imagenet_are_far_better_than_random_ones(
    tensorflow_ready: Mapping[str, Any], tmp_path: Path
) -> None:
    """Here 74 and 41 % of validation images; a standard error is at most 3 points."""
    found = {}
    for name, weights in (
        ("pre-trained", {"weights": "required", "weights_file": WEIGHTS}),
        ("random", {"weights": "random"}),
    ):
        settings = settings_with(**weights)
        run = BareRun(tmp_path / name, tensorflow_ready)
        transfer(run, settings, run.preprocessed(settings))
        found[name] = run.made["vgg16_frozen_corrected"].facts["val_accuracy"]
    assert found["pre-trained"] > 0.7
    assert found["pre-trained"] > found["random"] + 0.1


def test_vgg16_as_any_other_backbone_computes_what_its_own_branch_computes(
    tensorflow_ready: Mapping[str, Any], tmp_path: Path
) -> None:
    from tasks.core.networks import backbones, vgg16
    from tasks.models.model_files import load_keras

    chosen = {"name": "VGG16", "side": 32, "weights_file": WEIGHTS}
    stage = stages_of(settings_with(weights="required", backbone=chosen))[0]
    run = BareRun(tmp_path / "store", tensorflow_ready)
    record = run(stage)
    assert record.facts["tuned_after"] == "block4_pool"
    backbone = load_keras(tmp_path / "store" / record.files["model"].path)
    whole = backbones.frozen_part(backbone, (28, 28, 1), "caffe", "block5_pool")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1))
    x = pixels.astype(np.float32) / np.float32(255)
    base = vgg16.build_base(32)
    vgg16.set_weights(base, read_weights(Path(WEIGHTS)))
    expected = predict(base, vgg16.as_vgg16_input(x, 32, "vgg16"))
    np.testing.assert_allclose(predict(whole, x), expected, rtol=0, atol=1e-4 * expected.max())
