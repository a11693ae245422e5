"""Raw data sets are found, read and fetched; each damaged one ends in an error that says how."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tasks.core.data.idx import encode_idx
from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES
from tasks.core.errors import UnavailableError, UserError
from tasks.sources import datasets as sources
from tasks.sources.datasets import (
    IDX_NAMES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    download_fashion_mnist,
    find_fashion_mnist,
    path_files,
    read_fashion_mnist,
    read_path,
)

Arrays = dict[str, Any]
REAL_FOLDER = os.environ.get("FASHION_MNIST_DIR")


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


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ten tiny classes that stands for the published Fashion-MNIST."""
    folder = write_idx(tmp_path / "published", tiny(10), compress=True)
    digests = {
        name: hashlib.sha256(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest()
        for name in IDX_NAMES
    }
    monkeypatch.setattr(sources, "FASHION_MNIST_FILES", digests)
    return folder


class TestFindFashionMnist:
    def test_nowhere(self, tmp_path: Path) -> None:
        assert find_fashion_mnist({"HOME": str(tmp_path)}, tmp_path) is None

    def test_the_order(self, tmp_path: Path) -> None:
        home = write_idx(tmp_path / "home/.keras/datasets/fashion-mnist", tiny(), compress=True)
        environ = {"HOME": str(tmp_path / "home")}
        assert find_fashion_mnist(environ, tmp_path) == home

        keras = write_idx(tmp_path / "keras/datasets/fashion-mnist", tiny(), compress=True)
        environ["KERAS_HOME"] = str(tmp_path / "keras")
        assert find_fashion_mnist(environ, tmp_path) == keras

        raw = write_idx(tmp_path / "data/raw/fashion-mnist", tiny())
        assert find_fashion_mnist(environ, tmp_path) == raw

        named = write_idx(tmp_path / "named", tiny())
        environ["FASHION_MNIST_DIR"] = str(named)
        assert find_fashion_mnist(environ, tmp_path) == named

    def test_an_incomplete_folder_is_passed_over(self, tmp_path: Path) -> None:
        raw = write_idx(tmp_path / "data/raw/fashion-mnist", tiny())
        (raw / TEST_LABELS).unlink()
        keras = write_idx(tmp_path / "keras/datasets/fashion-mnist", tiny())

        assert find_fashion_mnist({"KERAS_HOME": str(tmp_path / "keras")}, tmp_path) == keras

    def test_compressed_and_not_may_be_mixed(self, tmp_path: Path) -> None:
        raw = write_idx(tmp_path / "data/raw/fashion-mnist", tiny())
        data = (raw / TRAIN_IMAGES).read_bytes()
        (raw / TRAIN_IMAGES).unlink()
        (raw / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(data))

        assert find_fashion_mnist({"HOME": str(tmp_path)}, tmp_path) == raw

    def test_the_named_folder_must_hold_them(self, tmp_path: Path) -> None:
        write_idx(tmp_path / "data/raw/fashion-mnist", tiny())
        named = write_idx(tmp_path / "named", tiny())
        (named / TEST_IMAGES).unlink()
        (named / TEST_LABELS).unlink()

        with pytest.raises(
            UserError, match=f"FASHION_MNIST_DIR=.*missing: {TEST_IMAGES}, {TEST_LABELS}"
        ):
            find_fashion_mnist({"FASHION_MNIST_DIR": str(named)}, tmp_path)
        with pytest.raises(UserError, match="missing: train-images"):
            find_fashion_mnist({"FASHION_MNIST_DIR": str(tmp_path / "none")}, tmp_path)

    def test_an_empty_variable_is_no_folder(self, tmp_path: Path) -> None:
        environ = {"FASHION_MNIST_DIR": "", "KERAS_HOME": "", "HOME": str(tmp_path)}

        assert find_fashion_mnist(environ, tmp_path) is None


class TestReadFashionMnist:
    def test_reads(self, published: Path) -> None:
        data = read_fashion_mnist(published)

        np.testing.assert_array_equal(data.train.images[..., 0], tiny(10)["x_train"])
        np.testing.assert_array_equal(data.test.labels, tiny(10)["y_test"])
        assert data.class_names == FASHION_MNIST_CLASSES

    def test_another_data_set(self, published: Path) -> None:
        (published / f"{TEST_LABELS}.gz").write_bytes(gzip.compress(encode_idx(tiny(9)["y_test"])))

        with pytest.raises(
            UserError, match=f"{TEST_LABELS}.gz: expected .* SHA-256 .* found 17 bytes"
        ):
            read_fashion_mnist(published)

    def test_a_missing_file(self, published: Path) -> None:
        (published / f"{TRAIN_LABELS}.gz").unlink()

        with pytest.raises(UserError, match=f"missing: {TRAIN_LABELS}"):
            read_fashion_mnist(published)

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda data: data[:-12], id="truncated"),
            pytest.param(lambda data: data[:5], id="truncated in the header"),
            pytest.param(lambda _: b"<html>", id="no gzip"),
            pytest.param(lambda data: data[:40] + b"\xff" * 9 + data[49:], id="damaged stream"),
            pytest.param(lambda data: data[:-8] + bytes(8), id="wrong check sum"),
        ],
    )
    def test_a_damaged_gzip(self, published: Path, damage: Callable[[bytes], bytes]) -> None:
        file = published / f"{TRAIN_IMAGES}.gz"
        file.write_bytes(damage(file.read_bytes()))

        with pytest.raises(
            UserError, match=f"{TRAIN_IMAGES}.gz: expected a whole gzip file.*delete"
        ):
            read_fashion_mnist(published)

    @pytest.mark.skipif(not REAL_FOLDER, reason="FASHION_MNIST_DIR does not name the real files")
    def test_the_real_files(self) -> None:
        data = read_fashion_mnist(Path(str(REAL_FOLDER)))

        assert data.train.images.shape == (60_000, 28, 28, 1)
        assert data.test.images.shape == (10_000, 28, 28, 1)
        assert np.bincount(data.train.labels).tolist() == [6000] * 10
        assert np.bincount(data.test.labels).tolist() == [1000] * 10
        assert data.class_names == FASHION_MNIST_CLASSES


class TestDownloadFashionMnist:
    @pytest.fixture(autouse=True)
    def served(
        self, published: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[http.server.ThreadingHTTPServer]:
        """The published folder on loopback."""
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "*")
        handler = partial(QuietHandler, directory=str(published))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}/"
            monkeypatch.setattr(sources, "FASHION_MNIST_URL", url)
            yield server
            server.shutdown()
            thread.join()

    def test_fetches_all(self, tmp_path: Path) -> None:
        lines: list[str] = []
        folder = download_fashion_mnist(tmp_path / "raw", lines.append)

        assert len(lines) == 4
        assert sorted(file.name for file in folder.iterdir()) == sorted(
            f"{name}.gz" for name in IDX_NAMES
        )
        assert len(read_fashion_mnist(folder).train) == 20

    def test_fetches_only_what_lacks(self, tmp_path: Path) -> None:
        folder = write_idx(tmp_path / "raw", tiny(10))
        (folder / TEST_IMAGES).unlink()
        lines: list[str] = []
        download_fashion_mnist(folder, lines.append)

        assert len(lines) == 1
        assert TEST_IMAGES in lines[0]

    def test_a_damaged_file_is_kept_and_named(self, tmp_path: Path) -> None:
        folder = write_idx(tmp_path / "raw", tiny(10))
        (folder / TEST_IMAGES).write_bytes(b"half")

        with pytest.raises(UserError, match=f"{TEST_IMAGES}: expected .*deleted and fetched again"):
            download_fashion_mnist(folder, print)
        assert (folder / TEST_IMAGES).read_bytes() == b"half"

    def test_a_file_that_is_not_there(self, published: Path, tmp_path: Path) -> None:
        (published / f"{TEST_LABELS}.gz").unlink()

        with pytest.raises(
            UnavailableError, match=r"(?s)404.*Without a network.*FASHION_MNIST_DIR"
        ):
            download_fashion_mnist(tmp_path / "raw", print)

    # Without a time in it: both processes of the tests must give this case the same name.
    @pytest.mark.parametrize(
        "content", [gzip.compress(b"other", mtime=0), b"<html>sign in</html>"], ids=["gzip", "html"]
    )
    def test_wrong_content_gets_no_name(
        self, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
    ) -> None:
        (published / f"{TRAIN_IMAGES}.gz").write_bytes(content)
        monkeypatch.setattr("tasks.sources.download.time.sleep", lambda _: None)

        with pytest.raises(UnavailableError, match=f"3 attempts.*{TRAIN_IMAGES}.*expected"):
            download_fashion_mnist(tmp_path / "raw", print)
        assert list((tmp_path / "raw").iterdir()) == []


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class TestReadIdxFolder:
    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (1, 1)])
    def test_reads(self, tmp_path: Path, shape: tuple[int, ...], compress: bool) -> None:
        arrays = tiny(shape=shape)
        data = read_path(write_idx(tmp_path, arrays, compress=compress))

        expected = arrays["x_train"].reshape(6, *shape[:2], -1)
        np.testing.assert_array_equal(data.train.images, expected)
        np.testing.assert_array_equal(data.test.labels, arrays["y_test"])
        assert data.class_names == ("class 0", "class 1", "class 2")

    @pytest.mark.parametrize(
        "text", ["cat\ndog\nÜ-Boot\n", "cat\r\ndog\r\nÜ-Boot", "\ufeffcat\ndog\nÜ-Boot\n\n"]
    )
    def test_class_names(self, tmp_path: Path, text: str) -> None:
        write_idx(tmp_path, tiny())
        (tmp_path / "class_names.txt").write_bytes(text.encode())

        assert read_path(tmp_path).class_names == ("cat", "dog", "Ü-Boot")

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"cat\ndog\ncat\n", "class_names.txt: class names must differ; repeated: cat"),
            (b"cat\n\ndog\n", "expected one name for each class"),
            (b"", "expected one name for each class"),
            (b"cat\n\xff\xfe\nx\n", "expected UTF-8"),
            (b"cat\ndog\n", "label 2 is outside the 2 classes"),
            (b"cat\ndog\nmouse\nfox\n", "no image of class 'fox'"),
        ],
    )
    def test_bad_class_names(self, tmp_path: Path, content: bytes, expected: str) -> None:
        write_idx(tmp_path, tiny())
        (tmp_path / "class_names.txt").write_bytes(content)

        with pytest.raises(UserError, match=expected):
            read_path(tmp_path)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"y_train": np.zeros(5, np.uint8)}, "6 images but 5 labels"),
            ({"x_test": np.zeros((3, 9, 5), np.uint8)}, "must have one shape"),
            ({"x_train": np.zeros((6, 4), np.uint8)}, "images have shape"),
            ({"x_train": np.zeros((6, 4, 5, 2), np.uint8)}, "1 or 3 channels"),
            ({"y_test": np.zeros((3, 3), np.uint8)}, "labels have shape"),
            ({"y_test": np.array([0, 1, 3], np.uint8)}, "label 3 is outside"),
            ({"y_test": np.array([0, 1, 1], np.uint8)}, "no image of class 'class 2'"),
            (
                {"x_train": np.zeros((0, 4, 5), np.uint8), "y_train": np.zeros(0, np.uint8)},
                "no images",
            ),
        ],
    )
    def test_what_does_not_fit(self, tmp_path: Path, change: Arrays, expected: str) -> None:
        write_idx(tmp_path, tiny() | change)

        with pytest.raises(UserError, match=expected):
            read_path(tmp_path)

    def test_a_file_that_is_no_idx(self, tmp_path: Path) -> None:
        write_idx(tmp_path, tiny())
        (tmp_path / TRAIN_LABELS).write_bytes(b"nothing of the kind")

        with pytest.raises(UserError, match=f"{TRAIN_LABELS}: not an IDX file"):
            read_path(tmp_path)

    def test_a_file_that_unpacks_without_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_idx(tmp_path, tiny())
        (tmp_path / TRAIN_IMAGES).unlink()
        (tmp_path / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(bytes(2**22)))
        monkeypatch.setattr(sources, "MAX_UNCOMPRESSED_BYTES", 2**20)

        with pytest.raises(UserError, match="more than 1048576 bytes when unpacked"):
            read_path(tmp_path)

    def test_a_file_that_may_not_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, _mode: str) -> NoReturn:
            raise PermissionError(13, "Permission denied", str(path))

        write_idx(tmp_path, tiny())
        monkeypatch.setattr(Path, "open", refuse)  # root, as in containers, may read everything

        with pytest.raises(UserError, match=f"{TRAIN_IMAGES}: cannot be read: .*Permission denied"):
            read_path(tmp_path)


class TestReadNpz:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "own.npz"

    @pytest.mark.parametrize("labels", [np.uint8, np.int64])
    def test_reads(self, path: Path, labels: type[np.generic]) -> None:
        arrays = tiny(shape=(4, 5, 3))
        arrays["y_train"] = arrays["y_train"].astype(labels).reshape(-1, 1)
        names = np.array(["cat", "dog", "mouse"])
        data = read_path(write_npz(path, arrays | {"class_names": names, "more": np.zeros(1)}))

        np.testing.assert_array_equal(data.train.images, arrays["x_train"])
        np.testing.assert_array_equal(data.train.labels, tiny()["y_train"])
        assert data.class_names == ("cat", "dog", "mouse")
        assert all(type(name) is str for name in data.class_names)

    def test_without_class_names(self, path: Path) -> None:
        assert read_path(write_npz(path, tiny())).class_names == ("class 0", "class 1", "class 2")

    def test_missing_arrays(self, path: Path) -> None:
        arrays = tiny()
        write_npz(path, {"images": arrays["x_train"], "y_train": arrays["y_train"]})

        with pytest.raises(
            UserError, match="missing: x_train, x_test, y_test; found: images, y_train"
        ):
            read_path(path)

    def test_an_empty_archive(self, path: Path) -> None:
        zipfile.ZipFile(path, "w").close()

        with pytest.raises(UserError, match="found: none"):
            read_path(path)

    @pytest.mark.parametrize("key", ["x_train", "y_test", "class_names"])
    def test_pickled_objects(self, path: Path, key: str) -> None:
        write_npz(path, tiny() | {key: np.array([1, "two", None], object)})

        with pytest.raises(UserError, match=f"{key} cannot be read .*without pickle"):
            read_path(path)

    @pytest.mark.parametrize(
        "content", [b"", b"x_train", np.zeros(100).tobytes(), b"PK\x03\x04" + bytes(50)]
    )
    def test_no_zip(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

        with pytest.raises(UserError, match=r"own.npz: expected a zip archive"):
            read_path(path)

    @pytest.mark.parametrize("kept", [0.3, 0.95])
    def test_a_truncated_archive(self, path: Path, kept: float) -> None:
        data = write_npz(path, tiny()).read_bytes()
        path.write_bytes(data[: int(kept * len(data))])

        with pytest.raises(UserError, match="truncated"):
            read_path(path)

    def test_a_damaged_archive(self, path: Path) -> None:
        np.savez(path, **tiny())
        data = bytearray(path.read_bytes())
        data[200] ^= 0xFF
        path.write_bytes(data)

        with pytest.raises(UserError, match=r"x_train cannot be read .*CRC"):
            read_path(path)

    def test_members_that_are_no_arrays(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for key in tiny():
                archive.writestr(f"{key}.npy", b"plain text")

        with pytest.raises(UserError, match="x_train is not an array"):
            read_path(path)

    def test_a_header_that_lies(self, path: Path) -> None:
        header = io.BytesIO()
        fields = {"descr": "|u1", "fortran_order": False, "shape": (2**60,)}
        np.lib.format.write_array_header_1_0(header, fields)
        write_npz(path, {key: value for key, value in tiny().items() if key != "x_train"})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("x_train.npy", header.getvalue())

        with pytest.raises(UserError, match="x_train cannot be read"):
            read_path(path)

    def test_an_archive_that_unpacks_without_end(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_npz(path, tiny() | {"x_test": np.zeros((3, 1000, 1000), np.uint8)})
        monkeypatch.setattr(sources, "MAX_UNCOMPRESSED_BYTES", 2**20)

        with pytest.raises(UserError, match=r"30\d+ bytes when unpacked; expected at most 1048576"):
            read_path(path)

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
            ({"class_names": np.array(["a", "", "c"])}, "expected one name for each class"),
            ({"class_names": np.array([], "U1")}, "expected one name for each class"),
            ({"class_names": np.array(["a", "b"])}, "label 2 is outside the 2 classes"),
        ],
    )
    def test_what_does_not_fit(self, path: Path, change: Arrays, expected: str) -> None:
        write_npz(path, tiny() | change)

        with pytest.raises(UserError, match=rf"own\.npz.*{expected}"):
            read_path(path)


class TestPathFiles:
    def test_a_folder(self, tmp_path: Path) -> None:
        write_idx(tmp_path, tiny())
        (tmp_path / "notes.txt").write_text("not part of the data set")
        files = [tmp_path / name for name in IDX_NAMES]
        assert path_files(tmp_path) == files

        (tmp_path / "class_names.txt").write_text("a\nb\nc\n")
        assert path_files(tmp_path) == [*files, tmp_path / "class_names.txt"]

    def test_the_uncompressed_file_comes_first(self, tmp_path: Path) -> None:
        write_idx(tmp_path, tiny())
        write_idx(tmp_path, tiny(), compress=True)

        assert path_files(tmp_path) == [tmp_path / name for name in IDX_NAMES]

    def test_an_archive(self, tmp_path: Path) -> None:
        path = write_npz(tmp_path / "own.NPZ.npz", tiny())
        assert path_files(path) == [path]

    @pytest.mark.parametrize("function", [path_files, read_path])
    def test_what_is_no_data_set(self, tmp_path: Path, function: Callable[[Path], object]) -> None:
        with pytest.raises(UserError, match=r"none\.npz does not exist .*expected a folder"):
            function(tmp_path / "none.npz")
        with pytest.raises(UserError, match=f"missing: {TRAIN_IMAGES}, {TRAIN_LABELS}"):
            function(tmp_path)
        (tmp_path / "data.csv").write_text("1,2")
        with pytest.raises(UserError, match=r"data\.csv is neither a folder nor a .npz file"):
            function(tmp_path / "data.csv")
