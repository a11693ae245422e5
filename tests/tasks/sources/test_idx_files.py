"""The IDX files of Fashion-MNIST are found and read, compressed or not."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NoReturn

import pytest

from tasks.core.errors import UserError
from tasks.sources import bounded_files
from tasks.sources.idx_files import (
    IDX_NAMES,
    TEST_IMAGES,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    read_idx_file,
    require_idx_files,
)
from tests.tasks.sources.tiny_datasets import tiny, write_idx


@pytest.mark.parametrize("compress", [False, True])
def test_four_files_are_found_and_read(tmp_path: Path, compress: bool) -> None:
    write_idx(tmp_path, tiny())
    expected = [(tmp_path / name).read_bytes() for name in IDX_NAMES]
    write_idx(tmp_path / "again", tiny(), compress=compress)
    found = require_idx_files(tmp_path / "again", "here")
    assert [path.name.removesuffix(".gz") for path in found] == list(IDX_NAMES)
    assert [read_idx_file(path) for path in found] == expected


def test_the_uncompressed_file_is_preferred(tmp_path: Path) -> None:
    write_idx(tmp_path, tiny())
    write_idx(tmp_path, tiny(), compress=True)
    assert require_idx_files(tmp_path, "here") == [tmp_path / name for name in IDX_NAMES]


def test_missing_files_are_named(tmp_path: Path) -> None:
    write_idx(tmp_path, tiny())
    for name in (TRAIN_LABELS, TEST_IMAGES):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"^here: .*missing: {TRAIN_LABELS}, {TEST_IMAGES}"):
        require_idx_files(tmp_path, "here")


def test_a_file_that_unpacks_to_too_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(bytes(2**22)))
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 2**20)
    with pytest.raises(UserError, match="unpacks to more than 1048576 bytes"):
        read_idx_file(path)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _mode: str) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    write_idx(tmp_path, tiny())
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(UserError, match=f"{TRAIN_IMAGES}: can't be read .Permission denied"):
        read_idx_file(tmp_path / TRAIN_IMAGES)
