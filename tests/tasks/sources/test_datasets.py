"""The known forms of data sets are told apart, and their files are listed for the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.sources.datasets import dataset_files, read_dataset
from tasks.sources.idx_files import IDX_NAMES, TRAIN_IMAGES, TRAIN_LABELS
from tests.tasks.sources.tiny_datasets import tiny, write_idx, write_npz


def test_the_files_of_a_folder(tmp_path: Path) -> None:
    write_idx(tmp_path, tiny())
    (tmp_path / "notes.txt").write_text("not part of the data set")
    files = [tmp_path / name for name in IDX_NAMES]
    assert dataset_files(tmp_path) == files

    (tmp_path / "class_names.txt").write_text("a\nb\nc\n")
    assert dataset_files(tmp_path) == [*files, tmp_path / "class_names.txt"]


def test_the_uncompressed_file_is_preferred(tmp_path: Path) -> None:
    write_idx(tmp_path, tiny())
    write_idx(tmp_path, tiny(), compress=True)

    assert dataset_files(tmp_path) == [tmp_path / name for name in IDX_NAMES]


def test_the_file_of_an_archive(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "own.NPZ.npz", tiny())
    assert dataset_files(path) == [path]


@pytest.mark.parametrize("function", [dataset_files, read_dataset])
def test_a_path_in_no_known_form(tmp_path: Path, function: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match=r"none\.npz does not exist .*expected a folder"):
        function(tmp_path / "none.npz")
    with pytest.raises(UserError, match=f"missing: {TRAIN_IMAGES}, {TRAIN_LABELS}"):
        function(tmp_path)
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(
        UserError, match=r"data\.csv is not a data set in a known form; expected a folder.*\.npz"
    ):
        function(tmp_path / "data.csv")
