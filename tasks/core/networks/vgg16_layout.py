"""The layers of VGG16's convolutional base (Simonyan and Zisserman, 2014) and their weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tasks.core.array_types import Float32
from tasks.core.errors import UserError
from tasks.core.seeds import generator

KERNEL = 3
CHANNELS = 3
# Filters of each convolution, block by block; each block ends with 2 x 2 max pooling.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
BLOCK_5 = "block5_pool"
# ImageNet's mean of blue, green and red, which was subtracted from VGG16's training images
# (`keras.applications.imagenet_utils`, mode "caffe").
MEAN_BGR = (103.939, 116.779, 123.68)

Weights = dict[str, Float32]


def layer_shapes() -> dict[str, tuple[int, int, int, int]]:
    """The kernel shape `(height, width, in, out)` of each convolution, by its name in Keras."""
    shapes = {}
    before = CHANNELS
    for block, filters in enumerate(BLOCKS, start=1):
        for number, count in enumerate(filters, start=1):
            shapes[f"block{block}_conv{number}"] = (KERNEL, KERNEL, before, count)
            before = count
    return shapes


def block_below(layer: str) -> str:
    """The pooling layer at the end of the block before `layer`'s, e.g. `block4_pool`."""
    return f"block{int(layer[len('block')]) - 1}_pool"


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every weight by its name, e.g. `block1_conv1/kernel`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, shape in layer_shapes().items():
        shapes |= {f"{layer}/kernel": shape, f"{layer}/bias": shape[-1:]}
    return shapes


def check_weights(weights: Mapping[str, Float32], origin: str) -> None:
    """Check that these are the weights of VGG16 without its top.

    Raises:
        UserError: a weight is missing or has a different shape or dtype; the message names it.
    """
    for name, shape in weight_shapes().items():
        found = weights.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            came = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise UserError(
                f"{origin}: these are not weights of VGG16 without top: {name} should be "
                f"float32 {shape}, found {came}. Use weights of VGG16."
            )


def random_weights(seed: int) -> Weights:
    """Seeded random weights for a control run: Glorot-uniform kernels, zero biases."""
    weights: Weights = {}
    for name, shape in weight_shapes().items():
        drawn = generator(seed, f"vgg16 {name}").uniform(-1, 1, shape) * _glorot_limit(shape)
        weights[name] = drawn.astype(np.float32)
    return weights


def _glorot_limit(shape: tuple[int, ...]) -> float:
    """sqrt(6 / (fan in + fan out)) for a kernel (Glorot and Bengio, 2010); 0 for a bias."""
    if len(shape) != 4:
        return 0.0
    height, width, fan_in, fan_out = shape
    return float(np.sqrt(6 / (height * width * (fan_in + fan_out))))
