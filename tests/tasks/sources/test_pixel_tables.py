"""Tables with a row of pixels for each image become collections; the rest is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.sources import csv_pixels, parquet_pixels, pixel_tables, stored_arrays
from tasks.sources.parquet_files import WITHOUT_CLASS
from tests.tasks.sources.read_collections import counts_of, images_of, labels_of

# Corners are dark, as in MNIST.
X = np.random.default_rng(0).integers(1, 256, (12, 16))
X[:, [0, -1]] = 0
Y = np.arange(12) % 3
HEAD = ["label", *(f"pixel{i}" for i in range(16))]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_pixels, "BLOCK_BYTES", 5 * 8 * 17)


def lines(
    labels: Iterable[Any] = Y, x: Any = X, *, last: bool = False, delimiter: str = ","
) -> list[str]:
    rows = zip(labels, x, strict=True)
    return [delimiter.join(map(str, [*row, y] if last else [y, *row])) for y, row in rows]


def write(path: Path, content: list[str], end: str = "\n") -> Path:
    path.write_bytes((end.join(content) + end).encode())
    return path


GRID = [f"{row}x{column}" for row in range(1, 5) for column in range(1, 5)]
SORTED = sorted(range(16), key=lambda i: f"pixel{i}")

FORMS = {
    "header": [",".join(HEAD), *lines()],
    "label last": [",".join([*HEAD[1:], "label"]), *lines(last=True)],
    "semicolon": [";".join(HEAD), *lines(delimiter=";")],
    "tab": ["\t".join(HEAD), *lines(delimiter="\t")],
    "quoted": [",".join(f'"{name}"' for name in HEAD), *lines()],
    "rows and columns": [",".join(["label", *GRID]), *lines()],
    "numbers of rows": ["," + ",".join(HEAD), *(f"{i},{line}" for i, line in enumerate(lines()))],
    "sorted names": [",".join(["label", *(f"pixel{i}" for i in SORTED)]), *lines(x=X[:, SORTED])],
    "no header": lines(),
    "no header, label last": lines(last=True),
    "no header, first row blank": ["", *lines()],
    "no header, first row of commas": ["," * 16, *lines()],
    "counted header": [",".join(map(str, range(17))), *lines()],
    "a row of numbers that became a header": ["3,0,0.1,0.2," + "0.3," * 12 + "0.15", *lines()],
    "whole numbers with a point": [",".join(HEAD), *lines(Y / 1.0, X / 1.0)],
    "byte order mark": ["\ufeff" + ",".join(HEAD), *lines()],
    "blank last rows": [",".join(HEAD), *lines(), "", "," * 16],
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_table_give_the_same(tmp_path: Path, form: str, end: str) -> None:
    path = write(tmp_path / "own.csv", FORMS[form], end)

    assert pixel_tables.accepts(path)
    assert pixel_tables.files(path) == [path]
    found = pixel_tables.read(path)
    np.testing.assert_array_equal(images_of(found).reshape(12, 16), X)
    assert labels_of(found) == [str(label) for label in Y]
    assert found.entries[11].name == "own.csv[11]"


def test_a_compressed_table(tmp_path: Path) -> None:
    path = tmp_path / "own.csv.gz"
    path.write_bytes(gzip.compress("\n".join(FORMS["header"]).encode()))
    np.testing.assert_array_equal(images_of(pixel_tables.read(path)).reshape(12, 16), X)


@pytest.mark.parametrize("head", [[",".join(HEAD)], []])
def test_labels_that_are_text(tmp_path: Path, head: list[str]) -> None:
    # Not what pandas takes for missing.
    names = np.array(["cat", "NA", "None"])
    found = pixel_tables.read(write(tmp_path / "own.csv", [*head, *lines(names[Y])]))
    assert labels_of(found)[:3] == ["cat", "NA", "None"]


def test_images_that_are_not_square(tmp_path: Path) -> None:
    names = [f"pixel_{row}_{column}" for row in range(2) for column in range(8)]
    found = pixel_tables.read(write(tmp_path / "a.csv", [",".join(["label", *names]), *lines()]))
    np.testing.assert_array_equal(images_of(found)[..., 0], X.reshape(12, 2, 8))


def test_pixels_from_0_to_1_and_other_columns(tmp_path: Path) -> None:
    head = ",".join(["label", "who", *HEAD[1:]])
    rows = [line.replace(",", ",bob,", 1) for line in lines(x=X / 255)]
    found = pixel_tables.read(write(tmp_path / "own.csv", [head, *rows]))

    np.testing.assert_array_equal(images_of(found).reshape(12, 16), X)
    assert found.notes == (
        "columns that were not taken: who.",
        "own.csv: rows of 16 pixels were taken as 4 x 4.",
        "own.csv: float64 from 0 to 1 was multiplied by 255.",
    )


def test_a_folder_with_a_table_for_each_split(tmp_path: Path) -> None:
    for name in ("fashion-mnist_train.csv", "fashion-mnist_test.csv", "Valid.tsv"):
        write(tmp_path / name, lines())
    (tmp_path / "class_names.txt").write_text("cat\ndog\nhen")
    write(tmp_path / "about.csv", ["name,licence", "cats,MIT"])
    (tmp_path / "._fashion-mnist_train.csv").write_bytes(b"\0")

    assert pixel_tables.accepts(tmp_path)
    assert [file.name for file in pixel_tables.files(tmp_path)] == [
        "Valid.tsv",
        "class_names.txt",
        "fashion-mnist_test.csv",
        "fashion-mnist_train.csv",
    ]
    found = pixel_tables.read(tmp_path)
    assert counts_of(found) == {"train": 12, "validation": 12, "test": 12}
    assert labels_of(found, "test")[:3] == ["cat", "dog", "hen"]
    assert images_of(found).shape == (36, 4, 4, 1)


def test_all_tables_decide_where_the_label_is(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", lines(last=True))
    # Alone, its first column could be the label.
    write(tmp_path / "test.csv", lines([0] * 12, np.where(X > 200, 1, X % 2), last=True))

    assert set(labels_of(pixel_tables.read(tmp_path), "train")) == {"0", "1", "2"}


@pytest.mark.parametrize("names", [["a.csv", "b.csv"], ["a_train.csv", "b_train.csv"]])
def test_tables_that_are_no_splits(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path / name, lines())
    with pytest.raises(UserError, match=r"are not one for each split; call them train.csv"):
        pixel_tables.read(tmp_path)


AMBIGUOUS = X.copy()
AMBIGUOUS[:, -1] = Y


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lines(x=AMBIGUOUS), "first or the last column; add a header"),
        (lines(x=X[:, 1:]), "16 columns without names; expected a label and a square number"),
        ([",".join(HEAD[1:]), *(line[2:] for line in lines())], "no column called label; add"),
        ([*lines(), "1,2,3"], "image 12 has empty cells, or the file is cut off"),
        ([*lines(), lines()[0] + ",5"], "can't be read as a table .*line 13"),
        ([lines()[0] + ",5", *lines()], "18 columns without names"),
        ([",".join(HEAD), *lines(), "1" + ",a" * 16], "pixels that are no numbers; expected"),
        ([",".join(HEAD), *lines(x=X - 300)], "black and white are not defined"),
        ([",".join(HEAD), *lines([""] * 12)], "the label at 0 is empty"),
        ([",".join(HEAD), *lines(x=X / 100 - 1)], "as if standardised"),
    ],
)
def test_refused(tmp_path: Path, content: list[str], expected: str) -> None:
    path = write(tmp_path / "own.csv", content)
    assert pixel_tables.accepts(path)

    with pytest.raises(UserError, match=f"^{path}.*{expected}"):
        pixel_tables.read(path)


@pytest.mark.parametrize(
    "content",
    [
        ["image,label", "a.png,cat", "b.png,dog"],
        ["a.png,cat", "b.png,dog"],
        ["file," + ",".join(HEAD), *(f"a.png,{line}" for line in lines())],
        [",".join(HEAD)],
        [""],
        ["<html>404"],
        ["version https://git-lfs.github.com/spec/v1"],
        ["age,height", "3,90"],
    ],
)
def test_tables_of_something_else_are_not_accepted(tmp_path: Path, content: list[str]) -> None:
    write(tmp_path / "own.csv", content)
    write(tmp_path / "own.txt", lines())
    assert not pixel_tables.accepts(tmp_path / "own.csv")
    assert not pixel_tables.accepts(tmp_path)
    assert not pixel_tables.accepts(tmp_path / "nothing")


def write_parquet(path: Path, columns: dict[str, Any], metadata: Any = None) -> Path:
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(table, path, row_group_size=5)
    return path


SQUARES = X.reshape(12, 4, 4)
NESTED = {
    "columns": {"label": Y, **{f"pixel{i}": X[:, i].astype(np.uint8) for i in range(16)}},
    "flat lists": {"label": Y, "pixels": X.tolist()},
    "nested lists": {"image": SQUARES.tolist(), "label": Y},
    "nested lists with a channel": {"image": SQUARES[..., None].tolist(), "label": Y},
    "lists of one length": {"x": pa.array(X.tolist(), pa.list_(pa.uint8(), 16)), "label": Y},
    "fractions": {"image": (SQUARES / 255).tolist(), "label": Y},
}


@pytest.mark.parametrize("form", NESTED)
def test_parquet(tmp_path: Path, form: str) -> None:
    path = write_parquet(tmp_path / "own.parquet", NESTED[form])

    assert pixel_tables.accepts(path)
    found = pixel_tables.read(path)
    np.testing.assert_array_equal(images_of(found).reshape(12, 16), X)
    assert labels_of(found) == [str(label) for label in Y]


def test_the_class_names_of_hugging_face(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog", "hen"], "_type": "ClassLabel"}}
    path = write_parquet(
        tmp_path / "own.parquet", NESTED["flat lists"], {"info": {"features": features}}
    )
    found = pixel_tables.read(path)
    assert found.class_names == ("cat", "dog", "hen")
    assert labels_of(found)[:3] == ["cat", "dog", "hen"]


def test_parts_of_a_split(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write_parquet(tmp_path / f"{name}.parquet", NESTED["flat lists"])
    assert counts_of(pixel_tables.read(tmp_path)) == {"train": 24, "test": 12}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"pixels": X.tolist()}, "no column of labels; add one called label"),
        ({f"pixel{i}": X[:, i] for i in range(16)}, "no column called label; add"),
        ({"label": [0, 1], "pixels": [[1, 2, 3], [1, 2]]}, "lists of 2 to 3 pixels; expected"),
        ({"label": [0, 1], "pixels": [[1, 2], None]}, "some images are missing; remove"),
        ({"label": [0], "pixels": [[1, 2, None, 4]]}, "some pixels are missing; remove"),
        ({"a": [0], "b": [0], "pixels": [[1, 2, 3, 4]]}, "a, b may each be the label"),
    ],
)
def test_refused_parquet(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    path = write_parquet(tmp_path / "own.parquet", columns)
    assert pixel_tables.accepts(path)

    with pytest.raises(UserError, match=f"^{path}: .*{expected}"):
        pixel_tables.read(path)


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [{"bytes": b"", "path": "a.png"}], "label": [1]},
        {"image": [b""], "label": [1]},
        {"file_name": ["a.png"], "label": [1], "bbox": [[1, 2, 3, 4]]},
        {"text": ["a"], "label": [1]},
    ],
)
def test_parquet_of_something_else_is_not_accepted(tmp_path: Path, columns: Any) -> None:
    path = write_parquet(tmp_path / "own.parquet", columns)
    assert not pixel_tables.accepts(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert not pixel_tables.accepts(path)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_one_message(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    content = bytearray("\n".join(FORMS["header"]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    if not pixel_tables.accepts(path):
        return
    try:
        found = pixel_tables.read(path)
    except UserError:
        return
    assert images_of(found).shape[0] == len(found.entries)


@settings(max_examples=50)
@given(data=st.data())
def test_a_damaged_parquet_table_ends_in_one_message(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_parquet(tmp_path_factory.mktemp("damage") / "own.parquet", NESTED["flat lists"])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    if pixel_tables.accepts(path):
        with suppress(UserError):
            images_of(pixel_tables.read(path))


@pytest.mark.parametrize("split", ["eval", "tst", "holdout"])
def test_what_else_people_call_the_test_set(split: str, tmp_path: Path) -> None:
    for name in ("train", f"mnist_{split}"):
        write(tmp_path / f"{name}.csv", lines())
    assert counts_of(pixel_tables.read(tmp_path)) == {"train": 12, "test": 12}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([*range(9), *range(10, 17)], "expected 17, found 16, 16 of them different"),
        ([*range(15), 3], "expected 15, found 16, 15 of them different"),
    ],
)
def test_pixels_that_are_missing_or_there_twice(
    names: list[int], expected: str, tmp_path: Path
) -> None:
    head = ",".join(["label", *(f"pixel{at}" for at in names)])
    path = write(tmp_path / "a.csv", [head, *lines()])
    with pytest.raises(UserError, match=f"^{path}: the columns 'pixel0' to .*{expected}"):
        pixel_tables.read(path)


def test_a_compressed_table_that_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.csv.gz"
    path.write_bytes(gzip.compress(("\n".join(FORMS["header"]) + "\n" * 20_000).encode()))
    monkeypatch.setattr("tasks.sources.bounded_files.MAX_UNCOMPRESSED_BYTES", 20_000)
    monkeypatch.setattr(csv_pixels, "_BEGIN_BYTES", 500)
    with pytest.raises(UserError, match=r"own\.csv\.gz: unpacks to more than 20000 bytes"):
        pixel_tables.read(path)


def test_tables_of_other_forms_keep_their_own_meaning(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [",".join(HEAD), *lines()])
    write(tmp_path / "test.csv", [",".join(HEAD), *lines(x=X / 255)])
    found = pixel_tables.read(tmp_path)
    np.testing.assert_array_equal(images_of(found).reshape(2, 12, 16), [X, X])


HUGGING_FACE = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}


@pytest.mark.parametrize("labels", [[-1, *Y[1:]], [None, *Y[1:]], [np.nan, *(Y[1:] / 1.0)]])
def test_rows_without_a_class_are_left_out_as_those_of_pictures(
    labels: list[Any], tmp_path: Path
) -> None:
    columns = {**NESTED["nested lists"], "label": pa.array(labels, from_pandas=False)}
    path = write_parquet(tmp_path / "train.parquet", columns, HUGGING_FACE)
    found = pixel_tables.read(path)
    assert found.left_out == {WITHOUT_CLASS: 1}
    assert labels_of(found)[:3] == ["b", "c", "a"]
    np.testing.assert_array_equal(images_of(found).reshape(11, 16), X[1:])

    columns["label"] = [-1] * 12
    nothing = write_parquet(tmp_path / "test.parquet", columns, HUGGING_FACE)
    found = pixel_tables.read(tmp_path)
    assert counts_of(found) == {"train": 11}
    assert found.left_out == {WITHOUT_CLASS: 13}
    with pytest.raises(UserError, match="no row has a class"):
        pixel_tables.read(nothing)


@pytest.mark.parametrize("form", NESTED)
def test_rows_of_parquet_are_read_by_their_size(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_arrays, "BLOCK_BYTES", 3 * 17 * 8)
    path = write_parquet(tmp_path / "own.parquet", NESTED[form])
    chunks = parquet_pixels.chunks(path, parquet_pixels.columns(path))
    blocks = [len(labels) for labels, _ in chunks]
    assert sum(blocks) == 12
    assert max(blocks) == 3


def test_a_small_parquet_table_with_a_huge_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources.parquet_files.MOST_PIXELS", 1000)
    path = write_parquet(tmp_path / "own.parquet", {"label": [1], "pixels": [[0] * 10**6]})
    assert not pixel_tables.accepts(path)


def test_zeros_before_numbers_are_part_of_a_name(tmp_path: Path) -> None:
    labels = [f"{number:02}" for number in Y]
    path = write(tmp_path / "own.csv", [",".join(HEAD), *lines(labels)])
    assert labels_of(pixel_tables.read(path)) == labels
    # Of classes that have names, they are numbers.
    (tmp_path / "class_names.txt").write_text("ant\nbee\ncow\n")
    found = labels_of(pixel_tables.read(tmp_path))
    assert found == [["ant", "bee", "cow"][number] for number in Y]
