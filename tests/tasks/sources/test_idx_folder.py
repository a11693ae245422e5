"""IDX files in the spellings that people have become collections; the rest is refused."""

from __future__ import annotations

import gzip
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.frame_choice import Traits
from tasks.core.errors import UserError
from tasks.sources import bounded_files, idx_folder, stored_arrays
from tasks.sources.idx_files import IDX_NAMES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from tests.support import encode_idx
from tests.tasks.sources.read_collections import counts_of, images_of, labels_of
from tests.tasks.sources.tiny_datasets import Arrays, tiny, write_idx

GOOD = tiny()
ALL = np.concatenate([GOOD["x_train"], GOOD["x_test"]])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_arrays, "BLOCK_BYTES", 50)


def write(folder: Path, names: tuple[str, ...], *, compress: bool = False) -> Path:
    for name, array in zip(names, GOOD.values(), strict=True):
        data = encode_idx(array)
        (folder / name).write_bytes(gzip.compress(data) if compress else data)
    return folder


def spelt(form: str, train: str = "train", test: str = "t10k") -> tuple[str, ...]:
    kinds = (("images", 3), ("labels", 1))
    return tuple(
        form.format(split=split, kind=kind, axes=axes)
        for split in (train, test)
        for kind, axes in kinds
    )


@pytest.mark.parametrize(
    "names",
    [
        IDX_NAMES,
        spelt("{split}-{kind}.idx{axes}-ubyte"),
        spelt("{split}-{kind}-idx{axes}-ubyte", test="test"),
        spelt("emnist-letters-{split}-{kind}-idx{axes}-ubyte", test="test"),
        spelt("{split}_{kind}.idx{axes}"),
        spelt("{split}-{kind}.idx"),
        spelt("Train-{kind}.IDX{axes}-UBYTE", test="test")[:2] + IDX_NAMES[2:],
    ],
)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_spellings(tmp_path: Path, names: tuple[str, ...], compress: bool, suffix: str) -> None:
    write(tmp_path, tuple(name + suffix for name in names), compress=compress)

    assert idx_folder.accepts(tmp_path)
    assert len(idx_folder.files(tmp_path)) == 4
    found = idx_folder.read(tmp_path)
    np.testing.assert_array_equal(images_of(found)[..., 0], ALL)
    assert labels_of(found, "test") == ["0", "1", "2"]
    assert found.entries[1].name == f"{names[0]}{suffix}[1]"


def test_validation_and_no_test(tmp_path: Path) -> None:
    write(tmp_path, spelt("{split}-{kind}-idx{axes}-ubyte", test="validation"))
    assert counts_of(idx_folder.read(tmp_path)) == {"train": 6, "validation": 3}


@pytest.mark.parametrize("split", ["eval", "tst", "holdout", "testing"])
def test_what_else_people_call_the_test_set(tmp_path: Path, split: str) -> None:
    write(tmp_path, spelt("{split}-{kind}-idx{axes}-ubyte", train="trn", test=split))
    assert counts_of(idx_folder.read(tmp_path)) == {"train": 6, "test": 3}


def test_a_file_beside_its_archive_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, IDX_NAMES)
    write(tmp_path, tuple(f"{name}.gz" for name in IDX_NAMES), compress=True)
    (tmp_path / f"._{TRAIN_IMAGES}").write_bytes(b"\0\5\x16\7")

    assert [file.name for file in idx_folder.files(tmp_path)] == sorted(IDX_NAMES)


@pytest.mark.parametrize("tail", [b"garbage", bytes(512), b"\x1f"])
def test_what_follows_compressed_data_does_not_matter(tmp_path: Path, tail: bytes) -> None:
    write_idx(tmp_path, GOOD, compress=True)
    file = tmp_path / f"{TRAIN_IMAGES}.gz"
    file.write_bytes(file.read_bytes() + tail)

    np.testing.assert_array_equal(images_of(idx_folder.read(tmp_path))[..., 0], ALL)


def test_compressed_parts_one_after_another(tmp_path: Path) -> None:
    data = encode_idx(GOOD["x_train"])
    write_idx(tmp_path, GOOD)
    (tmp_path / TRAIN_IMAGES).write_bytes(gzip.compress(data[:50]) + gzip.compress(data[50:]))

    np.testing.assert_array_equal(images_of(idx_folder.read(tmp_path))[..., 0], ALL)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.float32, np.float64])
def test_labels_and_images_of_other_types(tmp_path: Path, kind: Any) -> None:
    changed = {"y_train": GOOD["y_train"].astype(kind), "y_test": GOOD["y_test"].astype(kind)}
    if kind != np.int8:
        changed |= {"x_train": GOOD["x_train"].astype(kind), "x_test": GOOD["x_test"].astype(kind)}
    found = idx_folder.read(write_idx(tmp_path, GOOD | changed))

    np.testing.assert_array_equal(images_of(found)[..., 0], ALL)
    assert labels_of(found, "test") == ["0", "1", "2"]


def test_two_data_sets_in_a_folder(tmp_path: Path) -> None:
    for prefix in ("emnist-letters-", "emnist-digits-", ""):
        write(tmp_path, spelt(prefix + "{split}-{kind}-idx{axes}-ubyte"))

    message = "3 data sets are here .no prefix, emnist-digits, emnist-letters.; move one of them"
    with pytest.raises(UserError, match=message):
        idx_folder.files(tmp_path)


def test_two_files_for_one_role(tmp_path: Path) -> None:
    write(tmp_path, IDX_NAMES)
    write(tmp_path, spelt("{split}-{kind}.idx{axes}-ubyte"))

    with pytest.raises(UserError, match="have the same role; remove all but one"):
        idx_folder.read(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("tail", ["", "\n", "\r\n\r\n"])
def test_class_names(tmp_path: Path, encoding: str, end: str, tail: str) -> None:
    write_idx(tmp_path, GOOD)
    text = end.join(["Ärmel", "猫", "Rock"]) + tail
    (tmp_path / "class_names.txt").write_bytes(text.encode(encoding))

    found = idx_folder.read(tmp_path)
    assert found.class_names == ("Ärmel", "猫", "Rock")
    assert labels_of(found, "test") == ["Ärmel", "猫", "Rock"]
    assert idx_folder.files(tmp_path)[0].name == "class_names.txt"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Ärmel\nHose\nRock\n".encode("latin-1"), "expected UTF-8 text, .* save it as UTF-8"),
        (b"cat\n\ndog\nhen\n", "expected one name per class, found 'cat', '', 'dog', 'hen'"),
        (b"cat\ndog\n", "label 2 has no class; .*2 classes: cat, dog. Give each class a name"),
        (b"", "expected one name per class"),
    ],
)
def test_bad_class_names(tmp_path: Path, content: bytes, expected: str) -> None:
    write_idx(tmp_path, GOOD)
    (tmp_path / "class_names.txt").write_bytes(content)

    with pytest.raises(UserError, match=expected):
        idx_folder.read(tmp_path)


def test_names_of_classes_without_images_are_kept(tmp_path: Path) -> None:
    write_idx(tmp_path, GOOD)
    (tmp_path / "class_names.txt").write_text("cat\ndog\nhen\nfox\n")
    assert idx_folder.read(tmp_path).class_names == ("cat", "dog", "hen", "fox")


def test_class_names_in_a_pipe_that_nobody_writes_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, GOOD)
    os.mkfifo(tmp_path / "class_names.txt")

    with pytest.raises(UserError, match=r"class_names\.txt is not a file; write one class name"):
        idx_folder.read(tmp_path)


IMAGES = encode_idx(GOOD["x_train"])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (TRAIN_IMAGES, None, f"{TRAIN_LABELS} has no images; expected files like"),
        (TEST_LABELS, None, "has no labels; expected files like"),
        (TRAIN_IMAGES, b"", "the file is empty"),
        (TRAIN_IMAGES, b"<html>404", "this is a web page"),
        (TRAIN_IMAGES, b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (TRAIN_LABELS, b"not IDX", "not an IDX file"),
        (TRAIN_LABELS, encode_idx(GOOD["y_train"])[:6], "it is truncated"),
        (TRAIN_IMAGES, IMAGES[:-1], "found 135: it is truncated"),
        (TRAIN_IMAGES, IMAGES + b"x", "found 137: bytes follow the last value"),
        (TRAIN_IMAGES, gzip.compress(IMAGES + b"x"), "found 137: bytes follow the last value"),
        (TRAIN_IMAGES, gzip.compress(IMAGES[:-1]), "damaged or truncated; get it again"),
        (TRAIN_IMAGES, gzip.compress(IMAGES)[:-9], "ended too early.* get it again"),
        (TRAIN_IMAGES, gzip.compress(IMAGES)[:-8] + bytes(8), "can't be read .*get it again"),
        (TRAIN_IMAGES, b"\0\0\x0d" + IMAGES[3:], "type float32, found 136: it is truncated"),
        (TRAIN_LABELS, IMAGES, "labels have shape"),
        (TRAIN_IMAGES, encode_idx(GOOD["y_train"]), "images have shape"),
        (TRAIN_IMAGES, encode_idx(np.array(7, np.uint8)), "one number without axes; expected"),
        (TRAIN_LABELS, encode_idx(GOOD["y_train"][:5]), "6 images but 5 labels"),
    ],
)
def test_refused(tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
    write_idx(tmp_path, GOOD)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(UserError, match=f"^{tmp_path}.*{expected}"):
        images_of(idx_folder.read(tmp_path))


def test_other_folders_are_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "train-images").mkdir()
    (tmp_path / "train.csv").touch()
    assert not idx_folder.accepts(tmp_path)
    assert not idx_folder.accepts(tmp_path / "train.csv")
    assert not idx_folder.accepts(tmp_path / "nothing")


def test_splits_of_several_sizes(tmp_path: Path) -> None:
    arrays: Arrays = GOOD | {"x_test": np.zeros((3, 9, 5), np.uint8)}
    found = list(idx_folder.read(write_idx(tmp_path, arrays)).images.traits())
    assert found == [Traits(4, 5, 1)] * 6 + [Traits(9, 5, 1)] * 3


@settings(max_examples=40)
@given(data=st.data(), compress=st.booleans())
def test_any_damage_ends_in_one_message(
    data: st.DataObject, compress: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_idx(tmp_path_factory.mktemp("damage"), GOOD, compress=compress)
    file = data.draw(st.sampled_from(idx_folder.files(folder)))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, min(40, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with suppress(UserError):
        images_of(idx_folder.read(folder))


def test_a_file_that_unpacks_to_too_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = GOOD | {"x_train": np.zeros((6, 500, 500), np.uint8)}
    write_idx(tmp_path, arrays, compress=True)
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 2**20)

    with pytest.raises(UserError, match="unpacks to 1500016 bytes; expected at most 1048576"):
        idx_folder.read(tmp_path)
