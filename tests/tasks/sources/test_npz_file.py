"""Data sets in `.npz` files are read; messages explain what is wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.sources import bounded_files
from tasks.sources.datasets import read_dataset
from tests.tasks.sources.tiny_datasets import Arrays, tiny, write_npz


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own.npz"


@pytest.mark.parametrize("labels", [np.uint8, np.int64])
def test_an_archive_is_read(path: Path, labels: type[np.generic]) -> None:
    arrays = tiny(shape=(4, 5, 3))
    arrays["y_train"] = arrays["y_train"].astype(labels).reshape(-1, 1)
    names = np.array(["cat", "dog", "mouse"])
    data = read_dataset(write_npz(path, arrays | {"class_names": names, "more": np.zeros(1)}))

    np.testing.assert_array_equal(data.train.images, arrays["x_train"])
    np.testing.assert_array_equal(data.train.labels, tiny()["y_train"])
    assert data.class_names == ("cat", "dog", "mouse")
    assert all(type(name) is str for name in data.class_names)


def test_without_class_names(path: Path) -> None:
    assert read_dataset(write_npz(path, tiny())).class_names == ("class 0", "class 1", "class 2")


def test_missing_arrays(path: Path) -> None:
    arrays = tiny()
    write_npz(path, {"images": arrays["x_train"], "y_train": arrays["y_train"]})

    with pytest.raises(UserError, match="missing: x_train, x_test, y_test; found: images, y_train"):
        read_dataset(path)


def test_an_empty_archive(path: Path) -> None:
    zipfile.ZipFile(path, "w").close()

    with pytest.raises(UserError, match="found: none"):
        read_dataset(path)


@pytest.mark.parametrize("key", ["x_train", "y_test", "class_names"])
def test_pickled_objects(path: Path, key: str) -> None:
    write_npz(path, tiny() | {key: np.array([1, "two", None], object)})

    with pytest.raises(UserError, match=f"{key} cannot be read .*without pickled objects"):
        read_dataset(path)


@pytest.mark.parametrize(
    "content", [b"", b"x_train", np.zeros(100).tobytes(), b"PK\x03\x04" + bytes(50)]
)
def test_another_kind_of_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(UserError, match=r"own.npz: expected a zip archive"):
        read_dataset(path)


@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_a_truncated_archive(path: Path, kept: float) -> None:
    data = write_npz(path, tiny()).read_bytes()
    path.write_bytes(data[: int(kept * len(data))])

    with pytest.raises(UserError, match="truncated"):
        read_dataset(path)


def test_a_damaged_archive(path: Path) -> None:
    np.savez(path, **tiny())
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(UserError, match=r"x_train cannot be read .*CRC"):
        read_dataset(path)


def test_members_that_are_not_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for key in tiny():
            archive.writestr(f"{key}.npy", b"plain text")

    with pytest.raises(UserError, match="x_train is not an array"):
        read_dataset(path)


def test_a_header_with_a_wrong_shape(path: Path) -> None:
    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (2**60,)}
    np.lib.format.write_array_header_1_0(header, fields)
    write_npz(path, {key: value for key, value in tiny().items() if key != "x_train"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue())

    with pytest.raises(UserError, match="x_train cannot be read"):
        read_dataset(path)


def test_an_archive_that_unpacks_to_too_many_bytes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(path, tiny() | {"x_test": np.zeros((3, 1000, 1000), np.uint8)})
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 2**20)

    with pytest.raises(UserError, match=r"unpacks to 30\d+ bytes; expected .* at most 1048576"):
        read_dataset(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"x_train": np.zeros((6, 4, 5), np.float32)}, "dtype float32; expected uint8"),
        ({"x_train": np.uint8(3)}, r"images have shape \(\)"),
        ({"x_train": np.zeros((6, 4, 5, 4), np.uint8)}, "1 or 3 channels"),
        ({"y_train": np.zeros(6)}, "dtype float64; expected"),
        ({"y_train": np.eye(3)[[0, 1, 2, 0, 1, 2]]}, "one class index per image"),
        ({"y_train": np.array([-1, 0, 1, 2, 0, 1])}, "labels go from -1"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 300])}, "to 300"),
        ({"y_train": np.zeros(6, np.uint8)}, "only one class"),
        ({"y_test": np.zeros(2, np.uint8)}, "3 images but 2 labels"),
        ({"class_names": np.array([1, 2, 3])}, "class_names has shape .* dtype int64"),
        ({"class_names": np.array([b"a", b"b", b"c"])}, r"dtype \|S1; expected"),
        ({"class_names": np.array("abc")}, r"class_names has shape \(\)"),
        ({"class_names": np.array(["a", "b", "a"])}, "must differ; repeated: a"),
        ({"class_names": np.array(["a", "", "c"])}, "expected one name per class"),
        ({"class_names": np.array([], "U1")}, "expected one name per class"),
        (
            {"class_names": np.array(["a", "b"])},
            "label 2 has no class; expected labels from 0 to 1",
        ),
    ],
)
def test_inconsistent_arrays(path: Path, change: Arrays, expected: str) -> None:
    write_npz(path, tiny() | change)

    with pytest.raises(UserError, match=rf"own\.npz.*{expected}"):
        read_dataset(path)
