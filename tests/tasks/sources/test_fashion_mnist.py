"""Fashion-MNIST is found, downloaded and verified; messages explain what is wrong."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES
from tasks.core.errors import UnavailableError, UserError
from tasks.sources import fashion_mnist
from tasks.sources.fashion_mnist import (
    download_fashion_mnist,
    find_fashion_mnist,
    read_fashion_mnist,
)
from tasks.sources.idx_files import (
    IDX_NAMES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)
from tests.support import encode_idx
from tests.tasks.sources.tiny_datasets import tiny, write_idx

REAL_FOLDER = os.environ.get("FASHION_MNIST_DIR")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ten tiny classes in place of the published Fashion-MNIST."""
    folder = write_idx(tmp_path / "published", tiny(10), compress=True)
    digests = {
        name: hashlib.sha256(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest()
        for name in IDX_NAMES
    }
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST_FILES", digests)
    return folder


class TestFind:
    def test_it_may_be_nowhere(self, tmp_path: Path) -> None:
        assert find_fashion_mnist({"HOME": str(tmp_path)}, tmp_path) is None

    def test_folders_are_searched_in_order(self, tmp_path: Path) -> None:
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

    def test_compressed_and_uncompressed_files_may_be_mixed(self, tmp_path: Path) -> None:
        raw = write_idx(tmp_path / "data/raw/fashion-mnist", tiny())
        data = (raw / TRAIN_IMAGES).read_bytes()
        (raw / TRAIN_IMAGES).unlink()
        (raw / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(data))

        assert find_fashion_mnist({"HOME": str(tmp_path)}, tmp_path) == raw

    def test_the_named_folder_must_contain_them(self, tmp_path: Path) -> None:
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

    def test_an_empty_variable_does_not_count(self, tmp_path: Path) -> None:
        environ = {"FASHION_MNIST_DIR": "", "KERAS_HOME": "", "HOME": str(tmp_path)}

        assert find_fashion_mnist(environ, tmp_path) is None


class TestRead:
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
            UserError, match=f"{TRAIN_IMAGES}.gz: expected a complete gzip file.*Delete"
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


class TestDownload:
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
            monkeypatch.setattr(fashion_mnist, "FASHION_MNIST_URL", url)
            yield server
            server.shutdown()
            thread.join()

    def test_downloads_all_files(self, tmp_path: Path) -> None:
        lines: list[str] = []
        folder = download_fashion_mnist(tmp_path / "raw", lines.append)

        assert len(lines) == 4
        assert sorted(file.name for file in folder.iterdir()) == sorted(
            f"{name}.gz" for name in IDX_NAMES
        )
        assert len(read_fashion_mnist(folder).train) == 20

    def test_downloads_only_missing_files(self, tmp_path: Path) -> None:
        folder = write_idx(tmp_path / "raw", tiny(10))
        (folder / TEST_IMAGES).unlink()
        lines: list[str] = []
        download_fashion_mnist(folder, lines.append)

        assert len(lines) == 1
        assert TEST_IMAGES in lines[0]

    def test_a_damaged_file_is_kept_and_named(self, tmp_path: Path) -> None:
        folder = write_idx(tmp_path / "raw", tiny(10))
        (folder / TEST_IMAGES).write_bytes(b"half")

        with pytest.raises(
            UserError, match=f"{TEST_IMAGES}: expected .*delete it and download it again"
        ):
            download_fashion_mnist(folder, print)
        assert (folder / TEST_IMAGES).read_bytes() == b"half"

    def test_a_file_that_the_server_lacks(self, published: Path, tmp_path: Path) -> None:
        (published / f"{TEST_LABELS}.gz").unlink()

        with pytest.raises(UnavailableError, match=r"(?s)404.*FASHION_MNIST_DIR"):
            download_fashion_mnist(tmp_path / "raw", print)

    # Without mtime, the bytes and thus this case's id would differ between pytest's processes.
    @pytest.mark.parametrize(
        "content", [gzip.compress(b"other", mtime=0), b"<html>sign in</html>"], ids=["gzip", "html"]
    )
    def test_wrong_content_is_not_kept(
        self, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
    ) -> None:
        (published / f"{TRAIN_IMAGES}.gz").write_bytes(content)
        monkeypatch.setattr("tasks.sources.download.time.sleep", lambda _: None)

        with pytest.raises(UnavailableError, match=f"{TRAIN_IMAGES}.*expected"):
            download_fashion_mnist(tmp_path / "raw", print)
        assert list((tmp_path / "raw").iterdir()) == []


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
