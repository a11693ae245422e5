"""Tiny data sets as files, for the tests of their readers."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from tasks.sources.idx_files import IDX_NAMES
from tests.support import encode_idx

Arrays = dict[str, Any]


def tiny(classes: int = 3, shape: tuple[int, ...] = (4, 5)) -> Arrays:
    """Two training images and one test image of each class, with values that tell them apart."""
    draw = np.random.default_rng(0).integers
    return {
        "x_train": draw(0, 256, (2 * classes, *shape), np.uint8),
        "y_train": np.arange(2 * classes, dtype=np.uint8) % classes,
        "x_test": draw(0, 256, (classes, *shape), np.uint8),
        "y_test": np.arange(classes, dtype=np.uint8),
    }


def write_idx(folder: Path, arrays: Arrays, *, compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(IDX_NAMES, arrays.values(), strict=True):
        data = encode_idx(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


def write_npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path
