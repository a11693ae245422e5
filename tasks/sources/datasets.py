"""Raw data sets: where Fashion-MNIST is found or fetched, and how files become a `Dataset`."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.idx import parse_idx
from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES, Dataset, checked_dataset
from tasks.core.errors import UnavailableError, UserError
from tasks.sources.download import download

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
IDX_NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

# SHA-256 of the uncompressed bytes: compressing again changes a .gz file, but not its content.
FASHION_MNIST_FILES: Mapping[str, str] = {
    TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# Where downloads go, below the folder in which the program is started.
RAW_FOLDER = Path("data/raw/fashion-mnist")

FASHION_MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

CLASS_NAMES_FILE = "class_names.txt"
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")

_EXPECTED_PATH = (
    f"a folder with the IDX files {', '.join(IDX_NAMES)} (.gz or not), or a .npz file with the "
    f"arrays {', '.join(NPZ_KEYS)}"
)

# Far above any image data set that fits in memory; a file that unpacks to more is no such data set.
MAX_UNCOMPRESSED_BYTES = 16 * 2**30
_CHUNK_BYTES = 2**20

# What zipfile and NumPy raise for damaged archives, headers that lie and pickled objects.
_NPZ_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
)


def find_fashion_mnist(environ: Mapping[str, str], root: Path) -> Path | None:
    """The first folder that holds the four files of Fashion-MNIST, each as it is or as `.gz`.

    Looks in `$FASHION_MNIST_DIR`, in `data/raw/fashion-mnist` below `root`, and where Keras keeps
    its downloads. Only the names are looked at; `read_fashion_mnist` checks the content.

    Raises:
        UserError: `$FASHION_MNIST_DIR` is set, but files are missing there.
    """
    named = environ.get("FASHION_MNIST_DIR")
    if named:
        folder = Path(named)
        _require_idx_files(folder, f"FASHION_MNIST_DIR={named}")
        return folder
    keras_home = environ.get("KERAS_HOME") or Path(environ.get("HOME", "~"), ".keras")
    for folder in (
        root / RAW_FOLDER,
        Path(os.path.expanduser(keras_home), "datasets", "fashion-mnist"),
    ):
        if all(_located(folder, name) for name in IDX_NAMES):
            return folder
    return None


def download_fashion_mnist(folder: Path, log: Callable[[str], None]) -> Path:
    """Fetch what `folder` lacks of Fashion-MNIST's four files, from where Keras gets them.

    A file gets its final name once its uncompressed content has the right digest. Files that are
    there already are checked and kept.

    Raises:
        UnavailableError: a file could not be had; says how to do without a network.
        UserError: a file that is there already is damaged.
    """
    for name in FASHION_MNIST_FILES:
        present = _located(folder, name)
        if present:
            _read_fashion_mnist_file(name, present)
            continue
        url = f"{FASHION_MNIST_URL}{name}.gz"
        log(f"downloading {url} to {folder}")
        try:
            download(url, folder / f"{name}.gz", verify=partial(_verify, name, url), log=log)
        except UnavailableError as error:
            raise UnavailableError(
                f"{error}\nWithout a network, put Fashion-MNIST's four files "
                f"({', '.join(FASHION_MNIST_FILES)}; .gz or not) into {folder}, or into another "
                "folder that FASHION_MNIST_DIR names."
            ) from error
    return folder


def _verify(name: str, url: str, path: Path) -> None:
    _check_digest(name, _read_bytes(path, url, compressed=True), url)


def read_fashion_mnist(folder: Path) -> Dataset:
    """Read Fashion-MNIST: 60,000 training and 10,000 test images, `(n, 28, 28, 1)` uint8.

    The digests of the uncompressed files are checked, and with them numbers and shapes.

    Raises:
        UserError: a file is missing, cannot be read or unpacked, or is not the published one.
    """
    files = _require_idx_files(folder, str(folder))
    x_train, y_train, x_test, y_test = (
        parse_idx(_read_fashion_mnist_file(name, file), str(file))
        for name, file in zip(IDX_NAMES, files, strict=True)
    )
    return checked_dataset(x_train, y_train, x_test, y_test, FASHION_MNIST_CLASSES, str(folder))


def path_files(path: Path) -> list[Path]:
    """The files whose content is the data set at `path`: those that `read_path` reads.

    Raises:
        UserError: `path` is neither a folder with the four IDX files nor a `.npz` file.
    """
    # os.path's questions are answered by False, not by an error, where nothing may be looked at.
    if os.path.isdir(path):
        files = _require_idx_files(path, str(path))
        names = path / CLASS_NAMES_FILE
        return [*files, names] if names.exists() else files
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist or is out of reach; expected {_EXPECTED_PATH}.")
    if path.suffix.lower() != ".npz" or not os.path.isfile(path):
        raise UserError(f"{path} is neither a folder nor a .npz file; expected {_EXPECTED_PATH}.")
    return [path]


def read_path(path: Path) -> Dataset:
    """Read a data set of the user's own: a folder of IDX files under MNIST's names, or a `.npz`.

    Images are `(n, h, w)` or `(n, h, w, c)` uint8 with 1 or 3 channels, labels `(n,)` integers.
    Classes are named by the lines of the folder's `class_names.txt`, or by the archive's
    `class_names`; without them by their numbers.

    Raises:
        UserError: something is missing, cannot be read or does not fit together.
    """
    files = path_files(path)
    if files == [path]:
        return _read_npz(path)
    idx_files, names_file = files[: len(IDX_NAMES)], files[len(IDX_NAMES) :]
    x_train, y_train, x_test, y_test = (
        parse_idx(_read_bytes(file, str(file), compressed=_is_gzip(file)), str(file))
        for file in idx_files
    )
    names = _read_class_names(names_file[0]) if names_file else None
    return checked_dataset(x_train, y_train, x_test, y_test, names, str(path))


def _located(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if os.path.isfile(path)), None)


def _require_idx_files(folder: Path, origin: str) -> list[Path]:
    located = {name: _located(folder, name) for name in IDX_NAMES}
    missing = [name for name, path in located.items() if path is None]
    if missing:
        raise UserError(
            f"{origin}: expected a folder with {', '.join(IDX_NAMES)} (each as it is or as .gz); "
            f"missing: {', '.join(missing)}."
        )
    return [path for path in located.values() if path is not None]


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def _read_fashion_mnist_file(name: str, path: Path) -> bytes:
    data = _read_bytes(path, str(path), compressed=_is_gzip(path))
    _check_digest(name, data, str(path))
    return data


def _check_digest(name: str, data: bytes, origin: str) -> None:
    found, expected = hashlib.sha256(data).hexdigest(), FASHION_MNIST_FILES[name]
    if found != expected:
        raise UserError(
            f"{origin}: expected Fashion-MNIST's {name} with SHA-256 {expected} (uncompressed), "
            f"found {len(data)} bytes with {found}. A damaged file has to be deleted and fetched "
            "again."
        )


def _read_bytes(path: Path, origin: str, *, compressed: bool) -> bytes:
    """The whole content of a file, uncompressed; an error rather than memory without end."""
    content = io.BytesIO()
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                if content.tell() + len(chunk) > MAX_UNCOMPRESSED_BYTES:
                    raise UserError(
                        f"{origin}: more than {MAX_UNCOMPRESSED_BYTES} bytes when unpacked; "
                        "expected a data set that fits in memory."
                    )
                content.write(chunk)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"{origin}: expected a whole gzip file, but it is damaged ({error}). A damaged file "
            "has to be deleted and fetched again."
        ) from error
    except OSError as error:
        raise UserError(f"{origin}: cannot be read: {error}.") from error
    return content.getvalue()


def _read_class_names(path: Path) -> tuple[str, ...]:
    data = _read_bytes(path, str(path), compressed=False)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, one class name a line ({error}).") from error
    return _checked_names([line.strip() for line in text.rstrip().split("\n")], str(path))


def _checked_names(names: Sequence[str], origin: str) -> tuple[str, ...]:
    if not all(name.strip() for name in names) or not names:
        raise UserError(f"{origin}: expected one name for each class, found {list(names)!r}.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{origin}: class names must differ; repeated: {', '.join(repeated)}.")
    return tuple(names)


def _read_npz(path: Path) -> Dataset:
    arrays = _read_npz_arrays(path)
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise UserError(
            f"{path}: class_names has shape {names.shape} and dtype {names.dtype}; expected "
            "(classes,) strings, such as np.array(['cat', 'dog'])."
        )
    checked = None if names is None else _checked_names(names.tolist(), f"{path}: class_names")
    x_train, y_train, x_test, y_test = (arrays[key] for key in NPZ_KEYS)
    return checked_dataset(x_train, y_train, x_test, y_test, checked, str(path))


def _read_npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of `NPZ_KEYS`, and `class_names` if the archive has them."""
    try:
        _check_zip(path)
        with np.load(path, allow_pickle=False) as arrays:
            missing = [key for key in NPZ_KEYS if key not in arrays.files]
            if missing:
                raise UserError(
                    f"{path}: expected the arrays {', '.join(NPZ_KEYS)} and optionally "
                    f"class_names; missing: {', '.join(missing)}; found: "
                    f"{', '.join(arrays.files) or 'none'}."
                )
            wanted = (key for key in (*NPZ_KEYS, "class_names") if key in arrays.files)
            return {key: _npz_array(arrays, key, path) for key in wanted}
    except _NPZ_DAMAGE as error:
        raise UserError(f"{path}: cannot be read as a .npz archive: {error}.") from error


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: expected a zip archive as np.savez writes it; it is something else, or "
            "truncated."
        )
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_UNCOMPRESSED_BYTES:
        raise UserError(
            f"{path}: {unpacked} bytes when unpacked; expected at most {MAX_UNCOMPRESSED_BYTES}, "
            "a data set that fits in memory."
        )


def _npz_array(arrays: Mapping[str, Any], key: str, path: Path) -> NDArray[Any]:
    try:
        array = arrays[key]
    except _NPZ_DAMAGE as error:
        raise UserError(
            f"{path}: {key} cannot be read ({error}); expected an array of numbers or strings, "
            "stored whole and without pickle, so not of dtype object."
        ) from error
    if not isinstance(array, np.ndarray):  # NumPy hands out the bytes of what is no .npy file.
        raise UserError(f"{path}: {key} is not an array in the .npy format; write it by np.savez.")
    return array
