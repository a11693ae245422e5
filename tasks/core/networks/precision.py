"""Mixed precision: layers compute with 16 bits, weights and probabilities have 32.

Gradients in float16 can be too small for it, so the loss is scaled before they are computed
(Micikevicius et al., "Mixed precision training", 2018). bfloat16 has float32's range.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

MIXED = ("bfloat16", "float16")


@contextmanager
def mixed_precision(precision: str) -> Iterator[None]:
    """Build the layers of a network for computing in `precision`, in this thread."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def on_cpus() -> bool:
    """Whether networks are computed on processors alone.

    GPUs multiply matrices of float32 as TensorFloat-32, which has three digits: too few for methods
    that magnify rounding errors.
    """
    return all(name.startswith("cpu") for name in keras.distribution.list_devices())


def output_precision() -> str:
    """The precision of probabilities: that of the weights of the network being built."""
    return str(keras.config.dtype_policy().variable_dtype)


def scaled_optimizer(
    optimizer: keras.optimizers.Optimizer, model: keras.Model
) -> keras.optimizers.Optimizer:
    """The optimizer of a model; it scales the loss if layers of the model compute in float16.

    Layers of models and layers within it count, too.
    """
    if all(layer.compute_dtype != "float16" for layer in model._flatten_layers()):
        return optimizer
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    scaled.build(model.trainable_variables)
    return scaled
