"""Every form of a data set finds its reader; one digest stands for all of its files."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from tasks.core.data.photographs import Frame
from tasks.core.errors import UserError
from tasks.sources import datasets, folder_listing
from tasks.sources.datasets import data_set_digest, opened_data_set
from tests.tasks.sources.tiny_datasets import tiny, write_idx, write_npz

Write = Callable[[Path], Path]


def photos(root: Path) -> Path:
    """The tiny data set as folders of pictures."""
    arrays = tiny()
    for split in ("train", "test"):
        pairs = zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True)
        for number, (pixels, label) in enumerate(pairs):
            folder = root / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def listed(root: Path) -> Path:
    """... with a table of their names beside them."""
    photos(root / "files")
    lines = ["file,label,split"]
    for file in sorted((root / "files").rglob("*.png")):
        split, label, _ = file.relative_to(root / "files").parts
        moved = root / f"{split}{label}{file.name}"
        file.rename(moved)
        lines.append(f"{moved.name},{label},{split}")
    shutil.rmtree(root / "files")
    (root / "all.csv").write_text("\n".join(lines))
    return root / "all.csv"


def pixels(path: Path) -> Path:
    """... with a row of pixels for each image."""
    arrays = tiny(shape=(4, 4))
    for split in ("train", "test"):
        rows = zip(arrays[f"y_{split}"], arrays[f"x_{split}"], strict=True)
        lines = ["label," + ",".join(f"pixel{at}" for at in range(16))]
        lines += [",".join(map(str, [label, *image.ravel()])) for label, image in rows]
        (path / f"{split}.csv").write_text("\n".join(lines))
    return path


def zipped(path: Path) -> Path:
    source = photos(path / "photos")
    with zipfile.ZipFile(path / "all.zip", "w") as archive:
        for file in source.rglob("*.png"):
            archive.write(file, file.relative_to(path))
    return path / "all.zip"


FORMS: dict[str, Write] = {
    "IDX": lambda path: write_idx(path, tiny()),
    "npz": lambda path: write_npz(path / "own.npz", tiny()),
    "photos": photos,
    "list": listed,
    "pixels": pixels,
    "zip": zipped,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_classes_splits_and_count(form: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path)
    with opened_data_set(str(path)) as found:
        count = sum(1 for _ in found.images.decoded(Frame(4, 5, 1)))
    assert sorted((entry.split, entry.label) for entry in found.entries) == sorted(
        [("train", label) for label in "012"] * 2 + [("test", label) for label in "012"]
    )
    assert count == 9


@pytest.mark.parametrize("form", FORMS)
def test_the_digest_follows_names_and_contents(form: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    path = FORMS[form](tmp_path / "one")
    first = data_set_digest(str(path))
    # A copy elsewhere is the same data set.
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    other = tmp_path / "other" / path.relative_to(tmp_path / "one")
    assert data_set_digest(str(other)) == first
    # A bit that changes is noticed, even if the file keeps its size and its date.
    files = [file for file in (tmp_path / "other").rglob("*") if file.is_file()]
    changed = (
        other if other.suffix == ".zip" else min(files, key=lambda file: file.suffix != ".png")
    )
    state = changed.stat()
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    os.utime(changed, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert data_set_digest(str(other)) != first


def test_names_of_files_count_as_they_hold_labels(tmp_path: Path) -> None:
    path = photos(tmp_path / "one")
    first = data_set_digest(str(path))
    (path / "train" / "2").rename(path / "train" / "3")
    assert data_set_digest(str(path)) != first


def test_unchanged_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photos(tmp_path)
    first = data_set_digest(str(path))

    def refuse(_path: Path) -> tuple[str, int]:
        raise AssertionError("read again")

    monkeypatch.setattr(datasets, "file_digest", refuse)
    assert data_set_digest(str(path)) == first


def test_a_path_in_no_known_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.npz does not exist .*expected a folder"):
        data_set_digest(str(tmp_path / "none.npz"))
    (tmp_path / "data.bin").write_text("1,2")
    with (
        pytest.raises(UserError, match=r"data\.bin is not a data set in a known form; expected a"),
        opened_data_set(str(tmp_path / "data.bin")),
    ):
        pass


def test_pixels_of_an_array_are_those_of_the_picture(tmp_path: Path) -> None:
    """The last bit, whatever the form: the key of the splits follows from it."""
    found = {}
    for form in ("npz", "photos", "zip"):
        (tmp_path / form).mkdir()
        with opened_data_set(str(FORMS[form](tmp_path / form))) as given:
            images = [np.asarray(image) for image in given.images.decoded(Frame(8, 8, 3))]
        found[form] = sorted(image.tobytes() for image in images)
    assert found["npz"] == found["photos"] == found["zip"]


NUMBERS = np.random.default_rng(0).integers(0, 256, (6, 16))
TABLES: dict[str, list[str]] = {
    "without a header": [",".join(map(str, [at % 2, *row])) for at, row in enumerate(NUMBERS)],
    "features": [
        "image_id,label," + ",".join(f"f{at}" for at in range(16)),
        *(f"{at}.png,{at % 2},{','.join(map(str, row))}" for at, row in enumerate(NUMBERS)),
    ],
    "pixels": [
        "label," + ",".join(f"pixel{at}" for at in range(16)),
        *(",".join(map(str, [at % 2, *row])) for at, row in enumerate(NUMBERS)),
    ],
}


@pytest.mark.parametrize("form", [*TABLES, "arrays"])
def test_numbers_beside_folders_of_pictures_are_no_pixels(form: str, tmp_path: Path) -> None:
    photos(tmp_path)
    if form == "arrays":
        np.save(tmp_path / "x.npy", NUMBERS.reshape(6, 4, 4))
        np.save(tmp_path / "y.npy", np.arange(6) % 2)
    else:
        (tmp_path / "features.csv").write_text("\n".join(TABLES[form]))
    with opened_data_set(str(tmp_path)) as found:
        assert len(found.entries) == 9
        assert all(entry.name.endswith(".png") for entry in found.entries)


@pytest.mark.parametrize("call", [data_set_digest, lambda path: opened_data_set(path).__enter__()])
def test_a_folder_that_may_not_be_read(
    call: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    photos(tmp_path)
    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(UserError, match=f"^{tmp_path}: can't be read .Permission denied.; check"):
        call(str(tmp_path))


def test_a_folder_is_listed_once_and_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Mock(wraps=folder_listing._listing)
    monkeypatch.setattr(folder_listing, "_listing", listing)
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (5, 4)).save(tmp_path / name)
    before = data_set_digest(str(tmp_path))
    listing.assert_called_once_with(tmp_path)
    with opened_data_set(str(tmp_path)) as found:
        assert len(found.entries) == 2
    assert listing.call_count == 2
    (tmp_path / "b" / "notes.txt").touch()
    assert data_set_digest(str(tmp_path)) != before
