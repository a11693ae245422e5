"""Folders of IDX files are read; messages explain what is wrong."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.sources import bounded_files
from tasks.sources.datasets import read_dataset
from tasks.sources.idx_files import TRAIN_IMAGES, TRAIN_LABELS
from tests.tasks.sources.tiny_datasets import Arrays, tiny, write_idx


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (1, 1)])
def test_a_folder_is_read(tmp_path: Path, shape: tuple[int, ...], compress: bool) -> None:
    arrays = tiny(shape=shape)
    data = read_dataset(write_idx(tmp_path, arrays, compress=compress))

    expected = arrays["x_train"].reshape(6, *shape[:2], -1)
    np.testing.assert_array_equal(data.train.images, expected)
    np.testing.assert_array_equal(data.test.labels, arrays["y_test"])
    assert data.class_names == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    "text", ["cat\ndog\nÜ-Boot\n", "cat\r\ndog\r\nÜ-Boot", "\ufeffcat\ndog\nÜ-Boot\n\n"]
)
def test_class_names(tmp_path: Path, text: str) -> None:
    write_idx(tmp_path, tiny())
    (tmp_path / "class_names.txt").write_bytes(text.encode())

    assert read_dataset(tmp_path).class_names == ("cat", "dog", "Ü-Boot")


def test_class_names_in_a_pipe_that_nobody_writes_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, tiny())
    os.mkfifo(tmp_path / "class_names.txt")

    with pytest.raises(UserError, match=r"class_names\.txt is not a file; write one class name"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"cat\ndog\ncat\n", "class_names.txt: class names must differ; repeated: cat"),
        (b"cat\n\ndog\n", "expected one name per class"),
        (b"", "expected one name per class"),
        (b"cat\n\xff\xfe\nx\n", "expected UTF-8"),
        (b"cat\ndog\n", "label 2 has no class; expected labels from 0 to 1"),
        (b"cat\ndog\nmouse\nfox\n", "no image of class 'fox'"),
    ],
)
def test_bad_class_names(tmp_path: Path, content: bytes, expected: str) -> None:
    write_idx(tmp_path, tiny())
    (tmp_path / "class_names.txt").write_bytes(content)

    with pytest.raises(UserError, match=expected):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"y_train": np.zeros(5, np.uint8)}, "6 images but 5 labels"),
        ({"x_test": np.zeros((3, 9, 5), np.uint8)}, "must have the same shape"),
        ({"x_train": np.zeros((6, 4), np.uint8)}, "images have shape"),
        ({"x_train": np.zeros((6, 4, 5, 2), np.uint8)}, "1 or 3 channels"),
        ({"y_test": np.zeros((3, 3), np.uint8)}, "labels have shape"),
        ({"y_test": np.array([0, 1, 3], np.uint8)}, "label 3 has no class"),
        ({"y_test": np.array([0, 1, 1], np.uint8)}, "no image of class 2; expected"),
        (
            {"x_train": np.zeros((0, 4, 5), np.uint8), "y_train": np.zeros(0, np.uint8)},
            "no images",
        ),
    ],
)
def test_inconsistent_arrays(tmp_path: Path, change: Arrays, expected: str) -> None:
    write_idx(tmp_path, tiny() | change)

    with pytest.raises(UserError, match=expected):
        read_dataset(tmp_path)


def test_a_file_in_another_format(tmp_path: Path) -> None:
    write_idx(tmp_path, tiny())
    (tmp_path / TRAIN_LABELS).write_bytes(b"not IDX")

    with pytest.raises(UserError, match=f"{TRAIN_LABELS}: not an IDX file"):
        read_dataset(tmp_path)


def test_a_file_that_unpacks_to_too_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path, tiny())
    (tmp_path / TRAIN_IMAGES).unlink()
    (tmp_path / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(bytes(2**22)))
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 2**20)

    with pytest.raises(UserError, match="unpacks to more than 1048576 bytes"):
        read_dataset(tmp_path)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _mode: str) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    write_idx(tmp_path, tiny())
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything

    with pytest.raises(UserError, match=f"{TRAIN_IMAGES}: can't be read .Permission denied"):
        read_dataset(tmp_path)
