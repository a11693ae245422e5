"""Arrays under the names that people use become collections; the rest is refused with advice."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame, framed
from tasks.core.errors import UserError
from tasks.sources import array_files, bounded_files, stored_arrays
from tasks.sources.collection import as_picture
from tests.tasks.sources.read_collections import counts_of, images_of, labels_of
from tests.tasks.sources.tiny_datasets import Arrays, tiny, write_npz

GOOD = tiny()
RGB = tiny(shape=(4, 5, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own.npz"


def each(arrays: Arrays, change: Callable[[Any], Any], beginning: str = "x") -> Arrays:
    """The arrays with a change to those of images (or of labels, with `y`)."""
    return {
        name: change(array) if name.startswith(beginning) else array
        for name, array in arrays.items()
    }


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_arrays, "BLOCK_BYTES", 50)


def test_a_usual_archive(path: Path) -> None:
    found = array_files.read(write_npz(path, GOOD))

    assert array_files.accepts(path)
    assert array_files.files(path) == [path]
    np.testing.assert_array_equal(
        images_of(found)[..., 0], np.concatenate([GOOD["x_train"], GOOD["x_test"]])
    )
    assert labels_of(found, "train") == ["0", "1", "2", "0", "1", "2"]
    assert labels_of(found, "test") == ["0", "1", "2"]
    assert [found.entries[index].name for index in (0, 5, 6)] == [
        "x_train[0]",
        "x_train[5]",
        "x_test[0]",
    ]
    assert found.class_names is None
    assert found.notes == ()


X, Y = GOOD["x_train"], GOOD["y_train"]
MEDMNIST = ("train", "val", "test")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("X_train", "Y_train"), ("train",)),
        (("train_images", "train_labels"), ("train",)),
        (("trainImages", "trainLabels"), ("train",)),
        (("train_x", "train_y"), ("train",)),
        (("images_train", "labels_train"), ("train",)),
        (("training_data", "training_targets"), ("train",)),
        (("xtrain", "ytrain"), ("train",)),
        (("images", "labels"), (None,)),
        (("x", "y"), (None,)),
        (("X", "y"), (None,)),
        (("data", "target"), (None,)),
        (("data", "targets"), (None,)),
        (("image", "label"), (None,)),
        (("x_val", "y_val", "x_train", "y_train"), ("train", "validation")),
        (("x_valid", "y_valid", "x_test", "y_test"), ("validation", "test")),
        (("X_validation", "y_validation"), ("validation",)),
        (("val_images", "val_labels"), ("validation",)),
        (
            tuple(f"{split}_{kind}" for split in MEDMNIST for kind in ("images", "labels")),
            ("train", "validation", "test"),
        ),
    ],
)
def test_names_that_people_use(path: Path, names: tuple[str, ...], splits: tuple[Any]) -> None:
    arrays = dict(zip(names, [X, Y] * 3, strict=False))
    found = array_files.read(write_npz(path, arrays))

    assert counts_of(found) == dict.fromkeys(splits, len(X))


# As many of them as possible with the pixels of GOOD or RGB, each with what is said about it.
FORMS: dict[str, tuple[Arrays, str]] = {
    "channels first": (each(RGB, lambda x: np.moveaxis(x, 3, 1)), "channels are first"),
    "five axes": (each(GOOD, lambda x: x[:, None, :, :, None]), "axes of length 1 were dropped"),
    "by columns": (each(GOOD, np.asfortranarray), ""),
    "big endian": (each(GOOD, lambda x: x.astype(">u2")), "uint16 was taken as 0 to 255"),
    "int64": (each(GOOD, lambda x: x.astype(np.int64)), "int64 was taken as 0 to 255"),
    "uint16": (each(GOOD, lambda x: x.astype(np.uint16) * 257), "white is 65535"),
    "float to 1": (each(GOOD, lambda x: x / 255), "multiplied by 255"),
    "float to 255": (each(GOOD, lambda x: x.astype(np.float32)), "taken as 0 to 255 and rounded"),
    "labels (n, 1)": (each(GOOD, lambda y: y[:, None], "y"), ""),
    "one-hot": (each(GOOD, lambda y: np.eye(3)[y], "y"), ""),
    "float labels": (each(GOOD, lambda y: y.astype(float), "y"), ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_images_give_the_same(path: Path, form: str) -> None:
    arrays, note = FORMS[form]
    original = RGB if form == "channels first" else GOOD
    found = array_files.read(write_npz(path, arrays))

    expected = np.concatenate([original["x_train"], original["x_test"]]).reshape(9, 4, 5, -1)
    np.testing.assert_array_equal(images_of(found), expected)
    assert labels_of(found, "train") == ["0", "1", "2", "0", "1", "2"]
    assert note in " ".join(found.notes)
    assert bool(note) == bool(found.notes)


def test_bool_and_flat_rows(path: Path) -> None:
    x = np.tile([True, False], (6, 8))
    found = array_files.read(write_npz(path, {"x": x, "y": Y}))

    np.testing.assert_array_equal(images_of(found), x.reshape(6, 4, 4, 1) * np.uint8(255))
    assert found.notes == (
        "x: rows of 16 pixels were taken as 4 x 4.",
        "x: False and True were made 0 and 255.",
    )


def test_a_dark_split_is_no_other_form(path: Path) -> None:
    arrays = {"x_train": X / 1.0, "y_train": Y, "x_test": X[:3] * 0.0, "y_test": Y[:3]}
    images = images_of(array_files.read(write_npz(path, arrays)))

    np.testing.assert_array_equal(images[:6, ..., 0], X)

    arrays |= {"x_train": X, "x_test": (X[:3] > 9).astype(np.uint8)}
    found = array_files.read(write_npz(path, arrays))
    assert images_of(found)[6:].max() == 1


def test_opacity_is_laid_over_the_background(path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 4), np.uint8)
    found = array_files.read(write_npz(path, {"x": x, "y": Y}))

    assert set(found.images.traits()) == {Traits(4, 5, 3)}
    for image, pixels in zip(images_of(found), x, strict=True):
        np.testing.assert_array_equal(image, framed(as_picture(pixels), Frame(4, 5, 3)))


def test_splits_of_several_sizes(path: Path) -> None:
    arrays = GOOD | {"x_test": np.zeros((3, 6, 6), np.uint8)}
    found = array_files.read(write_npz(path, arrays))

    assert list(found.images.traits()) == [Traits(4, 5, 1)] * 6 + [Traits(6, 6, 1)] * 3
    assert images_of(found).shape == (9, 4, 5, 1)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (Y + 1, ["1", "2", "3"]),
        (np.array([0, 1, 5])[Y], ["0", "1", "5"]),
        (np.array([0, 1, -1])[Y], ["0", "1", "-1"]),
        (np.where(Y, 255, 0), ["0", "255", "255"]),
        (Y > 0, ["False", "True", "True"]),
        (np.arange(6) + 298, ["298", "299", "300"]),
        (np.array(["cat", "dog", "hen"])[Y], ["cat", "dog", "hen"]),
        (np.array([b"cat", b"dog", b"hen"])[Y], ["cat", "dog", "hen"]),
    ],
)
def test_labels(path: Path, labels: Any, expected: list[str]) -> None:
    found = array_files.read(write_npz(path, {"x": X, "y": labels}))
    assert labels_of(found)[:3] == expected


@pytest.mark.parametrize("key", ["class_names", "label_names", "classes", "target_names"])
@pytest.mark.parametrize("kind", ["U", "S"])
def test_class_names(path: Path, key: str, kind: str) -> None:
    names: Any = np.array(["猫", " dog ", "hen"])
    names = np.char.encode(names, "utf-8") if kind == "S" else names
    found = array_files.read(write_npz(path, GOOD | {key: names}))

    assert found.class_names == ("猫", "dog", "hen")
    assert labels_of(found, "test") == ["猫", "dog", "hen"]
    assert found.notes == ()


def test_names_with_labels_from_1_and_classes_without_images(path: Path) -> None:
    names = {"class_names": np.array(["cat", "dog", "hen"])}
    found = array_files.read(write_npz(path, each(GOOD, lambda y: y + 1, "y") | names))
    assert labels_of(found, "test") == ["cat", "dog", "hen"]
    assert "labels 1 to 3" in found.notes[0]

    more = {"class_names": np.array(["cat", "dog", "hen", "fox"])}
    found = array_files.read(write_npz(path, GOOD | more))
    assert found.class_names == ("cat", "dog", "hen", "fox")


def test_one_array_per_class_as_quick_draw_has_it(tmp_path: Path, path: Path) -> None:
    cats, dogs = X[:2].reshape(2, -1)[:, :16], X[2:5].reshape(3, -1)[:, :16]
    np.save(tmp_path / "full_numpy_bitmap_cat.npy", cats)
    np.save(tmp_path / "hot dog.npy", dogs)
    (tmp_path / "README.md").write_text("Quick, Draw!")
    (tmp_path / "._cat.npy").write_bytes(b"\0\5\x16\7")

    assert array_files.accepts(tmp_path)
    found = array_files.read(tmp_path)
    assert labels_of(found) == ["cat"] * 2 + ["hot dog"] * 3
    assert found.entries[2].name == "hot dog.npy[0]"
    assert images_of(found).shape == (5, 4, 4, 1)

    found = array_files.read(write_npz(path, {"cat": cats, "hot dog": dogs}))
    assert labels_of(found) == ["cat"] * 2 + ["hot dog"] * 3


def test_a_folder_of_npy_files(tmp_path: Path) -> None:
    for name, array in GOOD.items():
        np.save(tmp_path / f"{name.upper()}.npy", array)
    (tmp_path / "class_names.txt").write_text("cat\ndog\nhen\n")
    (tmp_path / "models").mkdir()

    assert array_files.accepts(tmp_path)
    assert [file.name for file in array_files.files(tmp_path)] == [
        "X_TEST.npy",
        "X_TRAIN.npy",
        "Y_TEST.npy",
        "Y_TRAIN.npy",
        "class_names.txt",
    ]
    found = array_files.read(tmp_path)
    np.testing.assert_array_equal(images_of(found)[:6, ..., 0], X)
    assert labels_of(found, "test") == ["cat", "dog", "hen"]
    assert found.entries[0].name == "X_TRAIN.npy[0]"


def test_folders_that_are_not_of_arrays(tmp_path: Path) -> None:
    assert not array_files.accepts(tmp_path)
    assert not array_files.accepts(tmp_path / "nothing")
    np.save(tmp_path / "features.npy", X)
    assert array_files.accepts(tmp_path)
    (tmp_path / "cat").mkdir()
    assert not array_files.accepts(tmp_path), "a folder per class, with a file of something else"


def test_other_arrays_are_said(path: Path) -> None:
    found = array_files.read(write_npz(path, GOOD | {"more": np.zeros(1), "x": X}))
    assert found.notes == ("arrays that were not taken: more, x.",)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"arr_0": X, "arr_1": Y}, r"expected x_train, y_train.*found: arr_0 \(6, 4, 5\), arr_1"),
        ({"train": X, "test": X}, r"expected x_train.*found: train \(6, 4, 5\), test"),
        ({"features_a": X / 1.0, "b": X / 1.0}, "expected x_train"),
        ({"cat": X}, "expected x_train"),
        ({}, "found: none"),
        ({"images": X, "y_train": Y}, "y_train has no images; expected x_train"),
        ({**GOOD, "y_test": None}, "x_test has no labels; expected x_train"),
        ({"x": X, "images": X, "y": Y}, "x, images may each be the images; remove or rename"),
        ({"images": X, "classes": Y}, "images has no labels; expected"),
        ({"x": X, "y": Y[:-1]}, "y: 6 images but 5 labels"),
        ({"x": X, "y": np.eye(6)[:, :2]}, "y: labels of shape .* are not one-hot"),
        ({"x": X, "y": np.array(list("abcabc"), object)}, "y has Python objects, .*dtype=str"),
        ({"x": X.astype(object), "y": Y}, "x: pixels have dtype '|O'; expected numbers"),
        ({"x": np.full(X.shape, np.nan), "y": Y}, "x: 120 of the pixels are NaN or infinite"),
        ({"x": X / 127.5 - 1, "y": Y}, "x: .*standardised.* convert them to uint8"),
        ({"x": np.zeros((6, 4, 5, 2)), "y": Y}, "1, 3 or 4 channels"),
        ({"x": np.zeros((6, 3, 4, 3)), "y": Y}, "channels first or last"),
        ({"x": np.zeros((6, 3072)), "y": Y}, "colours in two orders"),
        ({"x": np.zeros((0, 4, 4)), "y": Y[:0]}, "there are no images"),
        ({"x": np.zeros((1, 10_000, 10_000), bool), "y": Y[:1]}, "10000 x 10000 pixels; expected"),
        ({**GOOD, "class_names": np.array([1, 2, 3])}, "class_names has shape .*expected .classes"),
        ({**GOOD, "class_names": np.array("abc")}, r"class_names has shape \(\)"),
        ({**GOOD, "class_names": np.array(["a", "b"], object)}, "class_names has Python objects"),
        ({**GOOD, "class_names": np.array([b"\xff", b"b"])}, "class_names: .*not UTF-8"),
        ({**GOOD, "class_names": np.array(["a", "b", "a "])}, "must differ; repeated: a"),
        ({**GOOD, "class_names": np.array(["a", "b"])}, "label 2 has no class"),
        ({**GOOD, "class_names": np.array(["a", "", "c"])}, "expected one name per class"),
    ],
)
def test_refused(path: Path, arrays: Arrays, expected: str) -> None:
    write_npz(path, {name: array for name, array in arrays.items() if array is not None})

    with pytest.raises(UserError, match=rf"^{path}.*{expected}"):
        array_files.read(path)


def test_one_array_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(UserError, match=r"a.npy: one array \(6, 4, 5\) has no labels; put it"):
        array_files.read(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", ["npz", "npy"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"<html>404", "this is a web page"),
        (b"\n<!DOCTYPE html>", "this is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        (b"PK\x03\x04" + bytes(50), "can't be read|another kind of file, or truncated"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': 1}", "can't be read|another kind of file"),
    ],
)
def test_other_files(tmp_path: Path, suffix: str, content: bytes, expected: str) -> None:
    path = tmp_path / f"own.{suffix}"
    path.write_bytes(content)
    assert array_files.accepts(path)

    with pytest.raises(UserError, match=rf"own\.{suffix}.*({expected})"):
        array_files.read(path)


@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_cut_files(tmp_path: Path, path: Path, kept: float) -> None:
    data = write_npz(path, GOOD).read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(UserError, match="truncated"):
        array_files.read(path)

    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data[: len(data) - 9])
    path.unlink()
    with pytest.raises(UserError, match=r"x.npy is cut off: 111 of 120 bytes"):
        array_files.read(tmp_path)


def test_damage_is_found_when_images_are_read(path: Path) -> None:
    np.savez(path, **GOOD)
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(UserError, match=r"x_train can't be read .*CRC.* Get the file again"):
        images_of(array_files.read(path))


def test_a_header_that_announces_more_than_there_is(path: Path) -> None:
    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 8, 8)}
    np.lib.format.write_array_header_1_0(header, fields)
    write_npz(path, {key: value for key, value in GOOD.items() if key != "x_train"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue())

    with pytest.raises(UserError, match="x_train is cut off: 0 of"):
        array_files.read(path)


def test_an_archive_that_unpacks_to_too_many_bytes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(path, GOOD | {"x_test": np.zeros((3, 1000, 1000), np.uint8)})
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 2**20)

    with pytest.raises(UserError, match=r"unpacks to 30\d+ bytes; expected at most 1048576"):
        array_files.read(path)


@settings(max_examples=40)
@given(data=st.data())
def test_any_damage_ends_in_one_message(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damage") / "own.npz"
    np.savez(path, **GOOD)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(UserError):
        images_of(array_files.read(path))


@settings(max_examples=40)
@given(data=st.data())
def test_any_header_ends_in_one_message(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("header")
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    name = data.draw(st.sampled_from(["x.npy", "y.npy"]))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        signs = st.sampled_from(b"'\"(){}[],:<>|0123456789- \n\tOUSfiuVM")
        content[data.draw(st.integers(0, 127))] = data.draw(signs)
    (folder / name).write_bytes(content)
    with suppress(UserError):
        images_of(array_files.read(folder))


def test_links_that_lead_in_a_circle_are_no_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", X)
    os.symlink("circle.txt", tmp_path / "circle.txt")
    assert not array_files.accepts(tmp_path)


def test_a_string_for_each_image_names_no_classes(path: Path) -> None:
    names = {"names": np.array([f"{at}.png" for at in range(6)])}
    found = array_files.read(write_npz(path, {"x": X, "y": Y} | names))
    assert found.class_names is None
    assert found.notes == ("arrays that were not taken: names.",)

    for labels in (np.arange(6), np.eye(6)[Y]):
        found = array_files.read(write_npz(path, {"x": X, "y": labels} | names))
        assert found.class_names == tuple(names["names"]), "as many classes as images"


def test_of_several_arrays_of_names_the_clearest_is_taken(path: Path) -> None:
    names = {
        "names": np.array(["a", "b", "c"]),
        "categories": np.array(["beast", "bird"]),
        "class_names": np.array(["cat", "dog", "hen"]),
    }
    found = array_files.read(write_npz(path, {"x": X, "y": Y} | names))
    assert found.class_names == ("cat", "dog", "hen")
    assert found.notes == ("arrays that were not taken: names, categories.",)


@pytest.mark.parametrize("split", ["eval", "tst", "holdout", "te"])
def test_what_else_people_call_the_test_set(path: Path, split: str) -> None:
    arrays = {"x_train": X, "y_train": Y, f"x_{split}": X, f"{split}_y": Y}
    assert counts_of(array_files.read(write_npz(path, arrays))) == {"train": 6, "test": 6}
