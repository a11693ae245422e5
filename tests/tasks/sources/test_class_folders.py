"""Folders of classes and splits are told apart; nothing else in them does harm or gets lost."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.core.errors import UserError
from tasks.sources import picture_decoding
from tasks.sources.class_folders import LOOSE, UNPLACED, accepts, files, read
from tasks.sources.folder_listing import BROKEN, LOOP, NOT_A_FILE
from tests.tasks.sources.tiny_pictures import TRAITS, placed, write_pictures


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    write_pictures(tmp_path, "cat/b.JPG", "cat/a.png", "dog/1.jfif")
    found = read(tmp_path)
    assert placed(found) == {
        "cat/a.png": ("cat", None),
        "cat/b.JPG": ("cat", None),
        "dog/1.jfif": ("dog", None),
    }
    assert list(found.images.traits()) == [TRAITS] * 3
    assert (found.notes, dict(found.left_out), found.class_names) == ((), {}, None)
    assert files(tmp_path) == [tmp_path / entry.name for entry in found.entries]
    assert accepts(tmp_path)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "validation", "test"), ("Training_Set", "val", "TEST"), ("trn", "dev", "testing")],
)
def test_folders_of_splits(train: str, validation: str, test: str, tmp_path: Path) -> None:
    names = [f"{split}/{label}/1.png" for split in (train, validation, test) for label in "ab"]
    write_pictures(tmp_path, *names)
    splits = {train: "train", validation: "validation", test: "test"}
    assert placed(read(tmp_path)) == {
        name: (name.split("/")[1], splits[name.split("/")[0]]) for name in names
    }


def test_wrappers_are_skipped(tmp_path: Path) -> None:
    write_pictures(tmp_path, "photos/photos/cat/1.png", "photos/photos/dog/1.png")
    (tmp_path / "README.md").write_text("?")
    (tmp_path / "photos" / ".DS_Store").write_text("?")
    found = read(tmp_path)
    assert set(placed(found).values()) == {("cat", None), ("dog", None)}
    assert found.left_out == {".md": 1}


def test_wrappers_inside_of_splits_are_skipped(tmp_path: Path) -> None:
    write_pictures(tmp_path, "train/train/cat/1.png", "train/train/dog/1.png", "test/cat/1.png")
    assert placed(read(tmp_path)) == {
        "train/train/cat/1.png": ("cat", "train"),
        "train/train/dog/1.png": ("dog", "train"),
        "test/cat/1.png": ("cat", "test"),
    }


def test_a_class_alone_in_a_split_is_no_wrapper(tmp_path: Path) -> None:
    write_pictures(tmp_path, "train/images/cat/1.png", "train/images/dog/1.png")
    write_pictures(tmp_path, "test/cat/old/1.png", "test/cat/new/1.png")
    assert placed(read(tmp_path)) == {
        "train/images/cat/1.png": ("cat", "train"),
        "train/images/dog/1.png": ("dog", "train"),
        "test/cat/new/1.png": ("cat", "test"),
        "test/cat/old/1.png": ("cat", "test"),
    }


def test_a_training_split_alone(tmp_path: Path) -> None:
    write_pictures(tmp_path, "train/cat/1.png", "train/dog/1.png")
    assert set(placed(read(tmp_path)).values()) == {("cat", "train"), ("dog", "train")}


def test_splits_inside_of_classes(tmp_path: Path) -> None:
    write_pictures(tmp_path, *(f"{label}/{s}/1.png" for label in "ab" for s in ("train", "test")))
    assert placed(read(tmp_path)) == {
        f"{label}/{split}/1.png": (label, split) for label in "ab" for split in ("train", "test")
    }
    write_pictures(tmp_path, "c/1.png")
    with pytest.raises(UserError, match="but not c; put the folders of splits above"):
        read(tmp_path)


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    write_pictures(tmp_path, "train/1.png", "bus/1.png", "car/1.png")
    assert {label for label, _ in placed(read(tmp_path)).values()} == {"train", "bus", "car"}


def test_pictures_in_subfolders_belong_to_the_class(tmp_path: Path) -> None:
    write_pictures(tmp_path, "cat/old/1.png", "cat/2.png", "dog/3.png")
    found = read(tmp_path)
    assert placed(found)["cat/old/1.png"] == ("cat", None)
    assert "belong to that class: 1." in found.notes[0]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, "cat/1.png", "dog/1.png", "loose.png", "empty/", "cat/.hidden.png")
    write_pictures(tmp_path, "__MACOSX/cat/1.png", ".git/a/1.png", "cat/._1.png")
    for name in ("cat/Thumbs.db", "desktop.ini", "cat/notes.txt", "cat/x.HEIC", "LICENSE"):
        (tmp_path / name).write_text("?")
    os.symlink(tmp_path, tmp_path / "cat" / "loop")
    os.symlink("nowhere", tmp_path / "cat" / "broken.png")
    os.symlink("self", tmp_path / "cat" / "self")
    os.symlink("1.png", tmp_path / "cat" / "link.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    found = read(tmp_path)
    assert sorted(placed(found)) == ["cat/1.png", "cat/link.png", "dog/1.png"]
    assert found.left_out == {
        **{LOOSE: 1, BROKEN: 2, LOOP: 1, NOT_A_FILE: 1},
        **{".txt": 1, ".heic": 1, "no suffix": 1},
    }
    assert LOOSE == "pictures outside a class folder", "it follows a number"
    assert found.notes[0] == "Folders without pictures are left out: empty."
    assert "fashion-flow[heic]" in found.notes[1]


def test_heic_is_read_if_its_package_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, "cat/1.heic", "dog/1.HEIF")
    with pytest.raises(UserError, match="contains no pictures"):
        read(tmp_path)
    monkeypatch.setattr(picture_decoding, "reads_heic", lambda: True)
    assert len(read(tmp_path).entries) == 2


def test_folders_beside_those_of_splits_are_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "extra/a/1.png")
    found = read(tmp_path)
    assert len(found.entries) == 3
    assert found.left_out == {UNPLACED: 1}


def test_linked_folders_of_classes_are_followed(tmp_path: Path) -> None:
    write_pictures(tmp_path / "real", "cat/1.png", "dog/1.png")
    (tmp_path / "set").mkdir()
    for name in ("cat", "dog"):
        os.symlink(tmp_path / "real" / name, tmp_path / "set" / name)
    assert sorted(placed(read(tmp_path / "set"))) == ["cat/1.png", "dog/1.png"]


def test_names_of_classes_are_composed(tmp_path: Path) -> None:
    write_pictures(tmp_path, f"train/{unicodedata.normalize('NFD', 'é')}/1.png", "train/b/1.png")
    write_pictures(tmp_path, "test/é/1.png")
    assert {label for label, _ in placed(read(tmp_path)).values()} == {"é", "b"}


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    write_pictures(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat" / os.fsdecode(b"\xe9.png")).write_bytes(b"?")
    found = read(tmp_path)
    assert "cat/\\udce9.png" in placed(found)
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "contains no pictures"),
        (("a.png", "b.png"), "at least two; found none"),
        (("cat/a.png",), "found one, 'cat'"),
        (("train/a.png", "test/b.png"), "found none"),
        (("train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"), "a split twice"),
        (("seg_train/a/1.png", "seg_test/b/1.png", "seg_pred/1.png"), "look like splits"),
    ],
)
def test_folders_that_are_refused(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    write_pictures(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_what_is_accepted(tmp_path: Path) -> None:
    assert not accepts(tmp_path)
    assert not accepts(tmp_path / "nothing")
    write_pictures(tmp_path, "a.png")
    assert accepts(tmp_path), "so that the message says what is missing"
    assert not accepts(tmp_path / "a.png")


PARTS = st.sampled_from(["train", "test", "val", "a", "b", "x y", ".h", "images"])
TREES = st.sets(st.lists(PARTS, max_size=3).map("/".join), max_size=8)


@settings(max_examples=50, deadline=None)
@given(TREES)
def test_each_picture_is_taken_or_counted(
    tmp_path_factory: pytest.TempPathFactory, folders: set[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folder in folders:
        write_pictures(root / folder, "1.png")
    try:
        found = read(root)
    except UserError:
        return
    hidden = sum(".h" in folder.split("/") for folder in folders)
    assert len(found.entries) + sum(found.left_out.values()) == len(folders) - hidden
    assert len({entry.split is None for entry in found.entries}) == 1
    assert len(found.entries) == len(files(root))


def test_a_store_among_the_pictures_is_no_class(tmp_path: Path) -> None:
    for name in ("cat", "dog", "artifacts/stages"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / name / "1.png")
    (tmp_path / "artifacts" / "runs.jsonl").touch()
    assert {entry.label for entry in read(tmp_path).entries} == {"cat", "dog"}
