"""VGG16's layers and their weights, without Keras."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.core.networks.vgg16_layout import (
    Weights,
    block_below,
    check_weights,
    layer_shapes,
    random_weights,
    weight_shapes,
)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(seed=0)


def test_the_weights_have_the_number_that_the_notebook_prints() -> None:
    assert len(layer_shapes()) == 13
    assert sum(int(np.prod(shape)) for shape in weight_shapes().values()) == 14_714_688


def test_layers_follow_one_another_by_their_channels() -> None:
    shapes = list(layer_shapes().items())
    assert shapes[0] == ("block1_conv1", (3, 3, 3, 64))
    assert shapes[-1] == ("block5_conv3", (3, 3, 512, 512))
    for (_, before), (_, after) in pairwise(shapes):
        assert before[3] == after[2]


@pytest.mark.parametrize(("layer", "below"), [("block5_pool", 4), ("block4_pool", 3)])
def test_the_block_below_a_layer(layer: str, below: int) -> None:
    assert block_below(layer) == f"block{below}_pool"


def test_random_weights_are_seeded_glorot_uniform_kernels_and_no_biases(weights: Weights) -> None:
    again, other = random_weights(seed=0), random_weights(seed=1)
    check_weights(weights, "random")
    starts = set()
    for name, value in weights.items():
        assert value.tobytes() == again[name].tobytes()
        if name.endswith("bias"):
            assert not value.any()
            continue
        assert (value != other[name]).mean() > 0.99
        limit = np.sqrt(6 / (9 * (value.shape[2] + value.shape[3])))
        assert np.abs(value).max() <= limit
        assert value.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
        starts.add(tuple(np.sign(value.ravel()[:100])))
    assert len(starts) == 13


def test_check_weights_names_the_layer_and_both_shapes(weights: Weights) -> None:
    name = "block3_conv2/kernel"
    shapes = r"block3_conv2/kernel should be float32 \(3, 3, 256, 256\), found "
    with pytest.raises(UserError, match=rf"^mine: .*{shapes}float32 \(3, 3, 256, 255\)"):
        check_weights(weights | {name: weights[name][..., 1:]}, "mine")
    with pytest.raises(UserError, match=rf"{shapes}float64 \(3, 3, 256, 256\)"):
        check_weights(weights | {name: weights[name].astype(float)}, "mine")
    with pytest.raises(UserError, match=rf"{shapes}nothing"):
        check_weights({key: weights[key] for key in weights if key != name}, "mine")
