"""The four IDX files of MNIST and Fashion-MNIST, each uncompressed or as `.gz`."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources.bounded_files import read_uncompressed

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
IDX_NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def locate(folder: Path, name: str) -> Path | None:
    """An IDX file in a folder, preferably uncompressed; None if it is missing."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if os.path.isfile(path)), None)


def require_idx_files(folder: Path, origin: str) -> list[Path]:
    """The four IDX files in a folder, in the order of `IDX_NAMES`.

    Raises:
        UserError: some are missing; the message begins with `origin`.
    """
    located = {name: locate(folder, name) for name in IDX_NAMES}
    missing = [name for name, path in located.items() if path is None]
    if missing:
        raise UserError(
            f"{origin}: expected a folder with {', '.join(IDX_NAMES)} (each as it is or as .gz); "
            f"missing: {listed(missing)}."
        )
    return [path for path in located.values() if path is not None]


def read_idx_file(path: Path) -> bytes:
    """The uncompressed content of an IDX file.

    Raises:
        UserError: it cannot be read or unpacked.
    """
    return read_uncompressed(path, str(path), compressed=path.suffix == ".gz")
