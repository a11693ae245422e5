"""3 x 3 convolutions of small maps: TensorFlow's own compared with Winograd's method.

    python benchmarks/convolutions.py [--rounds 5]

Sizes are those of VGG16's blocks for images of 32, 64 and 96 pixels, in batches of the frozen pass.
Both sides compute the same convolution with bias and ReLU, in turn in one process: forwards with a
kernel that never changes, and forwards and backwards as in training. Times are the least of all
rounds. The last line is the mean ratio of both, geometric.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.core.seeds import generator
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import configure, resolve_profile

# Images, side, channels, filters.
SIZES = (
    (256, 8, 128, 256),
    (256, 8, 256, 256),
    (256, 4, 256, 512),
    (256, 4, 512, 512),
    (64, 16, 128, 256),
    (64, 16, 256, 256),
    (64, 8, 256, 512),
    (64, 8, 512, 512),
    (64, 4, 512, 512),
)


def least_seconds(calls: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The least time of each call, made in turn; the first round traces and does not count."""
    found = [math.inf] * len(calls)
    for number in range(rounds + 1):
        for index, call in enumerate(calls):
            began = time.perf_counter()
            call()
            if number:
                found[index] = min(found[index], time.perf_counter() - began)
    return found


def calls_of(layer: Any, x: Any, kernel: Any, bias: Any) -> tuple[Callable[[], Any], ...]:
    """The convolution of `x`, and its gradients, as compiled functions."""
    import tensorflow as tf

    @tf.function  # type: ignore[untyped-decorator]
    def forwards(x: Any) -> Any:
        return layer(x)

    @tf.function  # type: ignore[untyped-decorator]
    def backwards(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(loss, [x, kernel.value, bias.value])

    return lambda: forwards(x), lambda: backwards(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    configure(resolve_profile(ExecutionSettings()))
    import keras
    import tensorflow as tf

    from tasks.core.networks.fast_convolutions import FastConvolution
    from tasks.core.networks.winograd import WinogradConvolution

    print("images side channels filters   forwards: ms, here, ratio    training: ms, here, ratio")
    ratios = []
    for images, side, channels, filters in SIZES:
        drawn = generator(0, "images").standard_normal((images, side, side, channels))
        x = tf.constant(np.maximum(drawn, 0), "float32")
        layer = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")
        layer.build(x.shape)
        shared = (x, layer.kernel, layer.bias)
        plain, plain_training = calls_of(FastConvolution(layer), *shared)
        frozen, _ = calls_of(WinogradConvolution(layer, frozen=True), *shared)
        _, training = calls_of(WinogradConvolution(layer), *shared)
        found = least_seconds([plain, frozen, plain_training, training], rounds)
        ratios += [found[0] / found[1], found[2] / found[3]]
        ms = [1000 * seconds for seconds in found]
        print(
            f"{images:>6}{side:>5}{channels:>9}{filters:>8}"
            f"{ms[0]:>15.1f}{ms[1]:>7.1f}{ratios[-2]:>6.2f}"
            f"{ms[2]:>15.1f}{ms[3]:>7.1f}{ratios[-1]:>6.2f}",
            flush=True,
        )
    print(f"ratio {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}")


if __name__ == "__main__":
    main()
