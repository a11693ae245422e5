"""Fashion-MNIST as arrays, and the speed of this machine, with nothing but NumPy.

So that programs of other environments (`benchmarks/peers.py`) read the same images and are measured
by the same yardstick.
"""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRAIN_FILE_IMAGES = 60_000
VALIDATION = 2_000
_HEADER = {1: 8, 3: 16}
_SIDE = 1024


def read(name: str, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of `$FASHION_MNIST_DIR`, or of data/raw/fashion-mnist, compressed or not."""
    folder = Path(os.environ.get("FASHION_MNIST_DIR") or "data/raw/fashion-mnist")
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.exists():
        content = plain.read_bytes()
    elif packed.exists():
        content = gzip.decompress(packed.read_bytes())
    else:
        raise SystemExit(f"error: {packed} is missing; set FASHION_MNIST_DIR to its folder")
    shape = [int(n) for n in np.frombuffer(content, ">u4", dimensions, 4)]
    return np.frombuffer(content, np.uint8, offset=_HEADER[dimensions]).reshape(shape)


def training_file() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`(n, 28, 28)` images and `(n,)` labels."""
    return read("train-images-idx3-ubyte", 3), read("train-labels-idx1-ubyte", 1)


def test_file() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`(n, 28, 28)` images and `(n,)` labels."""
    return read("t10k-images-idx3-ubyte", 3), read("t10k-labels-idx1-ubyte", 1)


def chosen(images: int, available: int) -> NDArray[np.intp]:
    """Positions of the training images: the first four fifths and the last fifth, in this order.

    These are the notebook's slices, on which `benchmarks/accuracy.py` trains, too.
    """
    last = images - images * 4 // 5
    return np.r_[: images - last, available - last : available]


def product_speed() -> float:
    """Billions of floating-point operations per second in a product of float32 matrices."""
    a = np.ones((_SIDE, _SIDE), np.float32)
    a @ a
    least = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        a @ a
        least = min(least, time.perf_counter() - began)
    return 2e-9 * _SIDE**3 / least
