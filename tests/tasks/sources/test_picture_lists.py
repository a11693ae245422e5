"""Tables of paths and classes in any common form; a row that is wrong is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.sources.collection import MISSING, Collection, Entry
from tasks.sources.picture_decoding import printable
from tasks.sources.picture_lists import REPEATED, UNLISTED, accepts, files, read
from tests.tasks.sources.tiny_pictures import TRAITS, encoded, placed, write_pictures

PLAIN = "file,label\na.png,x\nb.png,y\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three pictures, one of them in a subfolder."""
    return write_pictures(tmp_path, "a.png", "b.png", "images/c.png")


def table(folder: Path, text: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(text.encode(encoding))
    return path


def labels(found: Collection) -> dict[str, str]:
    return {entry.name: entry.label for entry in found.entries}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert len(str(caught.value)) <= 400
    return str(caught.value)


def test_a_table_and_the_folder_in_which_it_is(folder: Path) -> None:
    path = table(folder, PLAIN)
    for given_path in (path, folder):
        assert accepts(given_path)
        found = read(given_path)
        assert labels(found) == {"a.png": "x", "b.png": "y"}
        assert list(found.images.traits()) == [TRAITS] * 2
        assert (found.notes, dict(found.left_out)) == ((), {})
        assert files(given_path) == [folder / "a.png", folder / "b.png", path]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_encodings(delimiter: str, encoding: str, end: str, folder: Path) -> None:
    rows = [("file", "label"), ("a.png", "é"), ("b.png", f'"x{delimiter}y, z"')]
    text = end.join(delimiter.join(row) for row in rows)
    found = read(table(folder, text, encoding=encoding))
    assert labels(found) == {"a.png": "é", "b.png": printable(f"x{delimiter}y, z")}


def test_other_encodings_are_refused(folder: Path) -> None:
    path = table(folder, "file,label\na.png,x\nb.png,é\n", encoding="latin-1")
    assert "line 3 is not UTF-8" in refusal(path)


def test_labels_stay_text(folder: Path) -> None:
    assert set(
        labels(read(table(folder, "file,label\na.png,007\nb.png,NA\nc.png,None\n"))).values()
    ) == {
        "007",
        "NA",
        "None",
    }


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.0", "0.0"], ["1", "0"]),
        (["01", "02"], ["01", "02"]),
        (["1.0", "02"], ["1.0", "02"]),
        (["1.0", "1.5"], ["1.0", "1.5"]),
        (["1.0", "x"], ["1.0", "x"]),
    ],
)
def test_whole_numbers_are_classes_without_a_point(
    cells: list[str], expected: list[str], folder: Path
) -> None:
    rows = list(zip(["a.png", "b.png"], cells, strict=True))
    plain = "".join(f"{name},{cell}\n" for name, cell in rows)
    assert list(labels(read(table(folder, f"file,label\n{plain}"))).values()) == expected
    objects = [json.dumps({"file": name, "label": cell}) for name, cell in rows]
    found = read(table(folder, "\n".join(objects), "list.jsonl"))
    assert list(labels(found).values()) == expected


def test_numbers_of_json_are_classes_without_a_point(folder: Path) -> None:
    rows = [{"file": "a.png", "label": 1.0}, {"file": "b.png", "label": 2.5}]
    path = table(folder, "\n".join(map(json.dumps, rows)), "list.jsonl")
    assert labels(read(path)) == {"a.png": "1", "b.png": "2.5"}


def test_json_lines(folder: Path) -> None:
    rows = [{"file_name": "a.png", "label": 1, "boxes": [[1, 2]]}, {"label": "é", "file_name": "b"}]
    path = table(folder, "\n\n".join(map(json.dumps, rows)), "list.jsonl")
    assert labels(read(path)) == {"a.png": "1", "b.png": "é"}
    for line in ("[1]", "{", "3"):
        assert "line 2 is no JSON object" in refusal(table(folder, f"{{}}\n{line}", "list.jsonl"))


@pytest.mark.parametrize("labels_given", [["0", "1"], [0, 1], [0.0, 1.0]])
def test_parquet(labels_given: list[object], folder: Path) -> None:
    path = folder / "list.parquet"
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "label": labels_given}), path)
    assert accepts(path)
    assert labels(read(path)) == {"a.png": "0", "b.png": "1"}


def test_all_columns(folder: Path) -> None:
    head = "File Name;Class;Weight;Subject;SPLIT;note\n"
    path = table(folder, f"{head}a.png;x;2;p;Training;?\nb.png;y;0.5;;val;?\n")
    found = read(path)
    assert list(found.entries) == [
        Entry("a.png", "x", "train", "p", 2.0),
        Entry("b.png", "y", "validation", None, 0.5),
    ]
    assert found.notes == ("Columns that are not used: 'note'.",)


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("a", "a.png"),
        ("./a.png", "a.png"),
        ("images\\c.png", "images/c.png"),
        ("c.png", "images/c.png"),
        ("c", "images/c.png"),
        ("images/x/../c", "images/c.png"),
    ],
)
def test_paths_as_people_write_them(cell: str, name: str, folder: Path) -> None:
    assert list(labels(read(table(folder, f"file,label\n{cell},x\n")))) == [name]


def test_absolute_paths_inside_of_the_folder(folder: Path) -> None:
    assert list(labels(read(table(folder, f"file,label\n{folder}/a.png,x\n")))) == ["a.png"]


@pytest.mark.parametrize("cell", ["../a.png", "images/../../a.png", "/etc/passwd", "C:\\a.png"])
def test_paths_may_not_lead_out(cell: str, folder: Path) -> None:
    write_pictures(folder / "inner", "b.png")
    path = table(folder, f"file,label\nb.png,x\n{cell},x\n", "inner/list.csv")
    assert "row 3 names" in refusal(path)
    assert "outside of the table's folder" in refusal(path)


def test_a_path_may_mean_one_file_only(folder: Path) -> None:
    write_pictures(folder, "other/c.png", "a.jpg")
    assert "may be images/c.png, other/c.png" in refusal(table(folder, "file,label\nc.png,x\n"))
    assert "may be a.jpg, a.png" in refusal(table(folder, "file,label\na,x\n"))


def test_what_is_missing_is_counted(folder: Path) -> None:
    path = table(folder, "file,label\na.png,x\na.png,x\nq.png,x\n\n\0.png,y\n")
    found = read(path)
    assert labels(found) == {"a.png": "x"}
    assert found.left_out == {MISSING: 2, REPEATED: 1, UNLISTED: 1}
    assert found.notes == ("2 of the listed files are missing: 'q.png', '\\x00.png'.",)
    assert "none of the listed files exist ('q.png')" in refusal(
        table(folder, "file,label\nq.png,x")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "is not a table"),
        ("file,label\n", "no rows"),
        ("file,label\na.png,\n", "row 2 has no class in 'label'"),
        ("file,label\n,x\n", "row 2 names no file"),
        ("file,label\na.png,x\na.png,y\n", "row 3 names 'a.png' like row 2"),
        ("\nfile,label\na.png,x,y\n", "is not a table"),
        ("file,label,split\na.png,x,public\n", "the split 'public'; expected train"),
        ("file,label,weight\na.png,x,0\n", "the weight '0'; expected a number above 0"),
        ("file,label,weight\na.png,x,inf\n", "the weight 'inf'"),
        ("file,label,weight\na.png,x,heavy\n", "the weight 'heavy'"),
        ("a.png,x\nb.png,y\n", "name that column file_name"),
        ("file,kind\na.png,x\n", "name that column label"),
        ("file,path,label\na.png,b.png,x\n", "name the right one file_name"),
        ("file,class,target\na.png,x,y\n", "name the right one label"),
        ("file,label,label\na.png,x,y\n", "several columns called 'label'"),
    ],
)
def test_tables_that_are_refused(text: str, message: str, folder: Path) -> None:
    assert message in refusal(table(folder, text))


def test_rows_have_the_numbers_that_an_editor_shows(folder: Path) -> None:
    assert "row 5 has no class" in refusal(table(folder, "\nfile,label\na.png,x\n\nb.png,\n"))


def test_the_best_names_of_columns_win(folder: Path) -> None:
    text = "id,image,file_name,label,class\n1,q,a.png,x,z\n"
    assert labels(read(table(folder, text))) == {"a.png": "x"}


# Folders


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_in_folders_of_splits(name: str, tmp_path: Path) -> None:
    row = "file_name,label\n1.png,x\n"
    if name.endswith("l"):
        row = '{"file_name": "1.png", "label": "x"}'
    for split in ("train", "test"):
        write_pictures(tmp_path / split, "1.png")
        table(tmp_path / split, row, name)
    assert accepts(tmp_path)
    found = read(tmp_path)
    assert placed(found) == {"train/1.png": ("x", "train"), "test/1.png": ("x", "test")}
    assert found.left_out == {}


def test_metadata_come_before_folders_of_classes(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a/1.png", "b/2.png")
    path = table(tmp_path, "file_name,label\na/1.png,x\n", "metadata.csv")
    assert accepts(tmp_path)
    path.rename(tmp_path / "other.csv")
    assert not accepts(tmp_path)


def test_a_table_for_each_split(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/1.png", "images/2.png")
    for name, text in {"train.csv": "1", "valid.csv": "2", "test.csv": "2"}.items():
        table(tmp_path, f"id,label\n{text},x\n", name)
    found = read(tmp_path)
    assert [(entry.name, entry.split) for entry in found.entries] == [
        ("images/2.png", "test"),
        ("images/1.png", "train"),
        ("images/2.png", "validation"),
    ]
    table(tmp_path, "id,label\n1,x\n", "more.csv")
    assert accepts(tmp_path)
    assert "several tables" in refusal(tmp_path)


def test_the_table_without_classes_is_no_list(tmp_path: Path) -> None:
    # As Kaggle's competitions have it.
    write_pictures(tmp_path, "train/1.png", "test/1.png")
    table(tmp_path, "id,breed\n1,x\n", "train.csv")
    table(tmp_path, "id\n1\n", "test.csv")
    assert placed(read(tmp_path)) == {"train/1.png": ("x", "train")}


def test_splits_from_folders(tmp_path: Path) -> None:
    write_pictures(tmp_path, "train/1.png", "val/1.png", "3.png")
    path = table(tmp_path, "file,label\ntrain/1.png,x\nval/1.png,y\n")
    assert {split for _, split in placed(read(path)).values()} == {"train", "validation"}
    table(tmp_path, "file,label\ntrain/1.png,x\n3.png,y\n")
    assert {split for _, split in placed(read(path)).values()} == {None}


def test_what_is_not_a_list(tmp_path: Path) -> None:
    write_pictures(tmp_path, "1.png")
    assert not accepts(tmp_path)
    assert not accepts(tmp_path / "1.png")
    for text in ("label,pixel0,pixel1,pixel2\n1,2,3,4\n", "5,0,0,255\n", "7;0;0;0\n"):
        assert not accepts(table(tmp_path, text)), text
        assert not accepts(tmp_path), text
    wide = ",".join(f"column {number}" for number in range(200))
    assert not accepts(table(tmp_path, f"file,label,{wide}\n"))
    assert accepts(table(tmp_path, "name of picture,kind\n1.png,x\n"))
    assert "name that column file_name" in refusal(tmp_path)
    pictures = tmp_path / "pictures.parquet"
    pq.write_table(pa.table({"image": [encoded()], "label": ["x"]}), pictures)
    assert not accepts(pictures)
    pictures.write_bytes(b"?")
    assert not accepts(pictures)
    os.mkfifo(tmp_path / "pipe.csv")
    assert not accepts(tmp_path / "pipe.csv")


CELLS = st.sampled_from(
    ["a.png", "b", "x", "", "train", "1", "-1", "nan", "..", "é", '"', "\0", " "]
)
HEADS = st.sampled_from(["file", "label", "split", "weight", "group", "z", ""])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(HEADS, min_size=1, max_size=5),
    st.lists(st.lists(CELLS, max_size=5), max_size=5),
    st.sampled_from(",;\t"),
)
def test_any_table_is_read_or_refused_in_one_message(
    tmp_path_factory: pytest.TempPathFactory,
    head: list[str],
    rows: list[list[str]],
    delimiter: str,
) -> None:
    folder = write_pictures(tmp_path_factory.mktemp("any"), "a.png", "b.png")
    path = table(folder, "\n".join(delimiter.join(row) for row in [head, *rows]))
    try:
        found = read(path)
    except UserError:
        return
    assert {entry.name for entry in found.entries} <= {"a.png", "b.png"}
    assert all(entry.label for entry in found.entries)
    assert found.left_out.get(MISSING, 0) + found.left_out.get(REPEATED, 0) + len(
        found.entries
    ) <= len(rows)
