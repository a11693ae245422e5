"""Fashion-MNIST: find it on this machine, download it, and read it with its digests checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from tasks.core.data.idx import parse_idx
from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES, Dataset, Split
from tasks.core.errors import UnavailableError, UserError
from tasks.core.messages import first_line
from tasks.sources.bounded_files import read_uncompressed
from tasks.sources.download import download
from tasks.sources.idx_files import (
    IDX_NAMES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    locate,
    read_idx_file,
    require_idx_files,
)

# SHA-256 of the uncompressed bytes: compressing again changes a .gz file, but not its content.
FASHION_MNIST_FILES: Mapping[str, str] = {
    TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# Downloads go here, relative to the current folder.
RAW_FOLDER = Path("data/raw/fashion-mnist")

FASHION_MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


def find_fashion_mnist(environ: Mapping[str, str], root: Path) -> Path | None:
    """The first folder that contains the four files of Fashion-MNIST, each as it is or as `.gz`.

    Looks in `$FASHION_MNIST_DIR`, in `data/raw/fashion-mnist` below `root`, and in Keras's folder
    of downloads. Only names are compared; `read_fashion_mnist` checks the content.

    Raises:
        UserError: `$FASHION_MNIST_DIR` is set, but files are missing there.
    """
    named = environ.get("FASHION_MNIST_DIR")
    if named:
        folder = Path(named)
        require_idx_files(folder, f"FASHION_MNIST_DIR={named}")
        return folder
    keras_home = environ.get("KERAS_HOME") or Path(environ.get("HOME", "~"), ".keras")
    for folder in (
        root / RAW_FOLDER,
        Path(os.path.expanduser(keras_home), "datasets", "fashion-mnist"),
    ):
        if all(locate(folder, name) for name in IDX_NAMES):
            return folder
    return None


def download_fashion_mnist(folder: Path, log: Callable[[str], None]) -> Path:
    """Download the files of Fashion-MNIST that `folder` lacks, from the server that Keras uses.

    A file gets its final name only after the digest of its uncompressed content was checked. Files
    that already exist are checked and kept.

    Raises:
        UnavailableError: a download failed; the message says what to do without a network.
        UserError: a file that already exists is damaged.
    """
    for name in FASHION_MNIST_FILES:
        present = locate(folder, name)
        if present:
            _read_checked(name, present)
            continue
        url = f"{FASHION_MNIST_URL}{name}.gz"
        log(f"downloading {url} to {folder}")
        try:
            download(url, folder / f"{name}.gz", verify=partial(_verify, name, url), log=log)
        except UnavailableError as error:
            raise UnavailableError(
                "Fashion-MNIST could not be downloaded "
                f"({first_line(error.__cause__ or error, 100)}). Put its four files into {folder}, "
                "or into another folder that FASHION_MNIST_DIR names."
            ) from error
    return folder


def read_fashion_mnist(folder: Path) -> Dataset:
    """Read Fashion-MNIST: 60,000 training and 10,000 test images, `(n, 28, 28, 1)` uint8.

    The digests of the uncompressed files are checked, which also fixes counts and shapes.

    Raises:
        UserError: a file is missing, cannot be read or unpacked, or is not the published one.
    """
    files = require_idx_files(folder, str(folder))
    x_train, y_train, x_test, y_test = (
        parse_idx(_read_checked(name, file), str(file))
        for name, file in zip(IDX_NAMES, files, strict=True)
    )
    return Dataset(
        Split(x_train[..., np.newaxis], y_train),
        Split(x_test[..., np.newaxis], y_test),
        FASHION_MNIST_CLASSES,
    )


def _read_checked(name: str, path: Path) -> bytes:
    data = read_idx_file(path)
    _check_digest(name, data, str(path))
    return data


def _verify(name: str, url: str, path: Path) -> None:
    _check_digest(name, read_uncompressed(path, url, compressed=True), url)


def _check_digest(name: str, data: bytes, origin: str) -> None:
    found, expected = hashlib.sha256(data).hexdigest(), FASHION_MNIST_FILES[name]
    if found != expected:
        raise UserError(
            f"{origin}: expected Fashion-MNIST's {name} with SHA-256 {expected} (uncompressed), "
            f"found {len(data)} bytes with {found}. If the file is damaged, delete it and "
            "download it again."
        )
