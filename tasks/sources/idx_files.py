"""Data sets as a folder of four IDX files with MNIST's names, each uncompressed or as `.gz`."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.core.data.idx import parse_idx
from tasks.core.data.labelled_images import Dataset, checked_dataset
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources.bounded_files import read_uncompressed
from tasks.sources.class_names import CLASS_NAMES_FILE, read_class_names

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
IDX_NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

EXPECTED = f"a folder with the IDX files {', '.join(IDX_NAMES)} (.gz or not)"


def accepts(path: Path) -> bool:
    """Whether a path is a folder."""
    # Unlike `Path.is_dir`, this answers False if the path may not be accessed.
    return os.path.isdir(path)


def files(path: Path) -> list[Path]:
    """The four IDX files in the order of `IDX_NAMES`, then `class_names.txt` if it exists.

    Raises:
        UserError: an IDX file is missing, or `class_names.txt` is not a file.
    """
    names = path / CLASS_NAMES_FILE
    # A pipe without a writer would be read forever.
    if names.exists() and not names.is_file():
        raise UserError(f"{names} is not a file; write one class name per line into a file.")
    return [*require_idx_files(path, str(path)), *([names] if names.exists() else [])]


def read(path: Path) -> Dataset:
    """Read the folder; without `class_names.txt`, classes are called by their numbers.

    Raises:
        UserError: a file is missing or cannot be read, or the arrays do not fit together.
    """
    found = files(path)
    idx_files, names_file = found[: len(IDX_NAMES)], found[len(IDX_NAMES) :]
    x_train, y_train, x_test, y_test = (
        parse_idx(read_idx_file(file), str(file)) for file in idx_files
    )
    names = read_class_names(names_file[0]) if names_file else None
    return checked_dataset(x_train, y_train, x_test, y_test, names, str(path))


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
