"""A user's own data set: its files, and how to read them.

To add a format, write a module with `EXPECTED`, `accepts`, `files` and `read`, like `npz_file`, and
list it in `FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.core.data.labelled_images import Dataset
from tasks.core.errors import UserError
from tasks.sources import idx_files, npz_file


@dataclass(frozen=True)
class DatasetFormat:
    """A form in which a data set can be given as a path.

    Attributes:
        expected: what the path must be, for error messages.
        accepts: whether a path has this form; the content is not checked yet.
        files: all files of the data set; their digests enter the cache key.
        read: the data set. Images are `(n, h, w)` or `(n, h, w, c)` uint8 with 1 or 3 channels,
            labels `(n,)` integers.
    """

    expected: str
    accepts: Callable[[Path], bool]
    files: Callable[[Path], list[Path]]
    read: Callable[[Path], Dataset]


FORMATS = (
    DatasetFormat(idx_files.EXPECTED, idx_files.accepts, idx_files.files, idx_files.read),
    DatasetFormat(npz_file.EXPECTED, npz_file.accepts, npz_file.files, npz_file.read),
)
_EXPECTED = ", or ".join(known.expected for known in FORMATS)


def dataset_files(path: Path) -> list[Path]:
    """The files that `read_dataset` reads.

    Raises:
        UserError: the path has no known form, or files are missing.
    """
    return _format_of(path).files(path)


def read_dataset(path: Path) -> Dataset:
    """Read a data set in any of the known forms.

    Raises:
        UserError: the path has no known form, or something is missing, damaged or inconsistent.
    """
    return _format_of(path).read(path)


def _format_of(path: Path) -> DatasetFormat:
    found = next((known for known in FORMATS if known.accepts(path)), None)
    if found:
        return found
    # Unlike `Path.exists`, this answers False if the path may not be accessed.
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist or cannot be accessed; expected {_EXPECTED}.")
    raise UserError(f"{path} is not a data set in a known form; expected {_EXPECTED}.")
