"""Hugging Face's Parquet files: names of classes and splits; pictures one row after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.data.photographs import Frame
from tasks.core.errors import UserError
from tasks.sources.collection import Unusable
from tasks.sources.parquet_files import WITHOUT_CLASS
from tasks.sources.picture_parquet import ROWS, accepts, files, read
from tests.tasks.sources.tiny_pictures import TRAITS, encoded, placed


def write(path: Path, pictures: list[Any], names: list[str] | None = None, **columns: Any) -> Path:
    """A file like those of `datasets`; `names` are those of the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    structs = [{"bytes": item, "path": "1.png"} if item != {} else None for item in pictures]
    table = pa.table({"image": pa.array(structs, kind), **columns})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, path, row_group_size=7, compression="zstd")
    return path


def test_splits_and_classes(tmp_path: Path) -> None:
    names = ["dog", "cat"]
    write(tmp_path / "data/train-00000-of-00002.parquet", [encoded()] * 2, names, label=[0, 1])
    write(tmp_path / "data/train-00001-of-00002.parquet", [encoded()], names, label=[0])
    write(tmp_path / "data/test-00000-of-00001.parquet", [encoded()] * 2, names, label=[1, -1])
    assert accepts(tmp_path)
    found = read(tmp_path)
    assert placed(found) == {
        "data/test-00000-of-00001.parquet[0]": ("cat", "test"),
        "data/train-00000-of-00002.parquet[0]": ("dog", "train"),
        "data/train-00000-of-00002.parquet[1]": ("cat", "train"),
        "data/train-00001-of-00002.parquet[0]": ("dog", "train"),
    }
    assert found.class_names == ("dog", "cat")
    assert found.left_out == {WITHOUT_CLASS: 1}
    assert list(found.images.traits()) == [TRAITS] * 4
    assert len(files(tmp_path)) == 3


def test_pictures_stay_with_their_rows(tmp_path: Path) -> None:
    count = 3 * ROWS + 1
    pictures = [encoded(colour=(number, 0, 0)) for number in range(count)]
    numbers = [str(number) if number % 5 else None for number in range(count)]
    found = read(write(tmp_path / "a.parquet", pictures, label=numbers))
    frame = Frame(4, 5, 3)
    reds = [
        str(item[0, 0, 0]) for item in found.images.decoded(frame) if not isinstance(item, Unusable)
    ]
    assert reds == [entry.label for entry in found.entries]
    assert len(reds) == count - 10


def test_rows_without_a_picture(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.parquet", [encoded(), None, {}, b"?"], label=[0, 1, 2, 3]))
    traits = list(found.images.traits())
    assert traits[0] == TRAITS
    assert [isinstance(one, Unusable) for one in traits] == [False, True, True, True]
    assert [entry.label for entry in found.entries] == ["0", "1", "2", "3"]


def test_bytes_without_a_struct_and_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    columns = {
        "IMG": [encoded()] * 2,
        "class": ["x", "y"],
        "split": ["train", "dev"],
        "group": [1, 2],
    }
    pq.write_table(pa.table(columns), path)
    (first, second) = read(path).entries
    assert (first.name, first.label, first.split, first.group) == (
        "all.parquet[0]",
        "x",
        "train",
        "1",
    )
    assert (second.split, second.group) == ("validation", "2")


@pytest.mark.parametrize(
    "metadata", [b"{", b"[]", b'{"info": {"features": {"label": {"names": 3}}}}']
)
def test_odd_metadata_are_ignored(metadata: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"image": [encoded()], "label": [4]})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), path)
    assert [entry.label for entry in read(path).entries] == ["4"]


def test_splits_of_only_some_files(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [encoded()], label=[0])
    write(tmp_path / "more.parquet", [encoded()], label=[0])
    with pytest.raises(UserError, match=r"more\.parquet don't say a split"):
        read(tmp_path)


def test_splits_from_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / "default" / split / "0000.parquet", [encoded()], label=[0])
    assert {entry.split for entry in read(tmp_path).entries} == {"train", "test"}


def test_what_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [encoded()], label=[[1]])
    with pytest.raises(UserError, match="the columns label hold neither text nor numbers"):
        read(path)
    with pytest.raises(UserError, match="no rows with a class"):
        read(write(path, [encoded()], label=pa.array([None], pa.int64())))
    with pytest.raises(UserError, match="name that column label"):
        read(write(path, [encoded()]))
    assert not accepts(tmp_path / "nothing.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert not accepts(path)
    with pytest.raises(UserError, match="is not a Parquet file"):
        read(path)


def test_tables_of_pixels_are_not_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for columns in ({"image": [[1, 2]], "label": [1]}, {"image": ["a.png"], "label": [1]}):
        pq.write_table(pa.table(columns), path)
        assert not accepts(path)
        assert not accepts(tmp_path)


def test_a_small_file_with_a_huge_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources.parquet_files.MOST_PIXELS", 1000)
    path = write(tmp_path / "a.parquet", [b"\0" * 10**6] * 7, label=[0] * 7)
    with pytest.raises(UserError, match="made to exhaust memory"):
        read(path)


@pytest.mark.parametrize("gap", [None, float("nan"), -1.0])
def test_numbers_of_classes_with_gaps(gap: float | None, tmp_path: Path) -> None:
    labels = pa.array([1.0, gap, 0.0], pa.float64(), from_pandas=False)
    found = read(write(tmp_path / "a.parquet", [encoded()] * 3, ["dog", "cat"], label=labels))
    assert [entry.label for entry in found.entries] == ["cat", "dog"]
    assert found.left_out == {WITHOUT_CLASS: 1}


@pytest.mark.parametrize("label", [2, 2.0, 0.5, "hen"])
def test_values_that_are_none_of_the_classes(label: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [encoded()], ["dog", "cat"], label=[label])
    with pytest.raises(UserError, match=r"column 'label' has .* whole numbers up to 1, since"):
        read(path)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [encoded()] * 3, label=[0, 1, 0])
    found = read(path)
    write(path, [encoded()], label=[0])
    with pytest.raises(UserError, match=f"^{path}: has changed since it was read first"):
        list(found.images.traits())
