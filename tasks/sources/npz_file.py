"""Data sets as one `.npz` file."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.labelled_images import Dataset, checked_dataset
from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed
from tasks.sources import bounded_files
from tasks.sources.class_names import checked_class_names

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
NAMES_KEY = "class_names"

EXPECTED = f"a .npz file with the arrays {', '.join(NPZ_KEYS)}"

# What zipfile and NumPy raise for damaged archives, wrong headers and pickled objects.
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


def accepts(path: Path) -> bool:
    """Whether a path is a file whose name ends with `.npz`."""
    return path.suffix.lower() == ".npz" and os.path.isfile(path)


def files(path: Path) -> list[Path]:
    """The one file."""
    return [path]


def read(path: Path) -> Dataset:
    """Read the archive; without an array `class_names`, classes are called by their numbers.

    Raises:
        UserError: an array is missing or cannot be read, or the arrays do not fit together.
    """
    arrays = _read_arrays(path)
    names = arrays.get(NAMES_KEY)
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise UserError(
            f"{path}: class_names has shape {names.shape} and dtype {names.dtype}; expected "
            "(classes,) strings, such as np.array(['cat', 'dog'])."
        )
    origin = f"{path}: {NAMES_KEY}"
    checked = None if names is None else checked_class_names(names.tolist(), origin)
    x_train, y_train, x_test, y_test = (arrays[key] for key in NPZ_KEYS)
    return checked_dataset(x_train, y_train, x_test, y_test, checked, str(path))


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of `NPZ_KEYS`, and `class_names` if the archive has it."""
    try:
        _check_zip(path)
        with np.load(path, allow_pickle=False) as arrays:
            missing = [key for key in NPZ_KEYS if key not in arrays.files]
            if missing:
                raise UserError(
                    f"{path}: expected the arrays {', '.join(NPZ_KEYS)} and optionally "
                    f"{NAMES_KEY}; missing: {listed(missing)}; found: "
                    f"{listed(arrays.files) or 'none'}."
                )
            wanted = (key for key in (*NPZ_KEYS, NAMES_KEY) if key in arrays.files)
            return {key: _read_array(arrays, key, path) for key in wanted}
    except _NPZ_DAMAGE as error:
        raise UserError(
            f"{path}: cannot be read as a .npz archive ({first_line(error)}); write it again with "
            "np.savez."
        ) from error


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: expected a zip archive as written by np.savez; it is another kind of file, "
            "or truncated."
        )
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    limit = bounded_files.MAX_UNCOMPRESSED_BYTES
    if unpacked > limit:
        raise UserError(
            f"{path}: unpacks to {unpacked} bytes; expected a data set that fits in memory, at "
            f"most {limit} bytes."
        )


def _read_array(arrays: Mapping[str, Any], key: str, path: Path) -> NDArray[Any]:
    try:
        array = arrays[key]
    except _NPZ_DAMAGE as error:
        raise UserError(
            f"{path}: {key} cannot be read ({first_line(error)}); expected an array of numbers or "
            "strings, complete and without pickled objects, so not of dtype object."
        ) from error
    if not isinstance(array, np.ndarray):  # NumPy returns the bytes of a member that is not .npy.
        raise UserError(
            f"{path}: {key} is not an array in the .npy format; write it with np.savez."
        )
    return array
