"""Bad data of a user's own end in one message, with nothing half-written."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from PIL import Image

from tasks.core.errors import UserError
from tasks.core.messages import LONGEST
from tasks.sources.collection import Collection
from tasks.sources.datasets import data_set_digest, opened_data_set
from tests.own_images import loaded, subsetted
from tests.processes import Command, Server
from tests.tasks.stages.workbench import Workbench

Make = Callable[[Path], Any]
X = np.random.default_rng(0).integers(0, 256, (24, 6, 6), np.uint8)
Y = np.arange(24) % 2


def picture(number: int = 0) -> bytes:
    content = io.BytesIO()
    Image.fromarray(X[number]).save(content, "PNG")
    return content.getvalue()


def refused(folder: Path, path: Path) -> str:
    """The message with which the stages `load` and `subset` refuse a data set."""
    bench = Workbench(folder / "bench")
    with pytest.raises(UserError) as error:
        subsetted(bench, loaded(bench, path).outcome)
    assert not list((folder / "bench").rglob(".part-*"))
    assert not list((folder / "bench").glob("store/stages/subset/**/record.json"))
    message = str(error.value)
    assert len(message) <= LONGEST
    assert "fashion-flow-" not in message, "no temporary folder is named"
    return message


# Arrays

ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no arrays": ({}, "found: none"),
    "no labels": ({"x": X}, "x has no labels"),
    "no images": ({"y": Y}, "y has no images"),
    "no rows": ({"x": X[:0], "y": Y[:0]}, "there are no images"),
    "no pixels": ({"x": X[:, :0], "y": Y}, "there are no images"),
    "a number": ({"x": np.uint8(1), "y": np.int64(1)}, "there are no images"),
    "one axis": ({"x": X[:, 0, 0], "y": Y}, "images have shape (24,)"),
    "two channels": ({"x": np.stack([X, X], 3), "y": Y}, "with 1, 3 or 4 channels"),
    "no square": ({"x": X.reshape(24, 36)[:, :17], "y": Y}, "no square image"),
    "channels anywhere": ({"x": np.zeros((24, 3, 5, 3), np.uint8), "y": Y}, "first or last"),
    "text": ({"x": X.astype(str), "y": Y}, "expected numbers"),
    "complex": ({"x": X.astype(complex), "y": Y}, "expected numbers"),
    "dates": ({"x": X.astype("M8[s]"), "y": Y}, "expected numbers"),
    "records": ({"x": np.zeros(24, [("a", "u1")]), "y": Y}, "expected numbers"),
    "NaN": ({"x": np.full(X.shape, np.nan), "y": Y}, "NaN or infinite"),
    "infinite": ({"x": np.where(X.max() == X, np.inf, X), "y": Y}, "NaN or infinite"),
    "standardised": ({"x": X / 127.5 - 1, "y": Y}, "as if standardised"),
    "negative": ({"x": X.astype(np.int16) - 9, "y": Y}, "black and white are not defined"),
    "enormous": ({"x": X.astype(np.uint64) << 56, "y": Y}, "black and white are not defined"),
    "white at 2": ({"x": (X > 99) * 2.0, "y": Y}, "white may be 1 or 255"),
    "too few labels": ({"x": X, "y": Y[1:]}, "24 images but 23 labels"),
    "labels in three axes": ({"x": X, "y": np.zeros((24, 2, 2))}, "labels have shape"),
    "labels without columns": ({"x": X, "y": np.zeros((24, 0))}, "labels have shape (24, 0)"),
    "labels of several classes": ({"x": X, "y": np.ones((24, 3))}, "not one-hot"),
    "soft labels": ({"x": X, "y": np.full((24, 2), 0.5)}, "not one-hot"),
    "half labels": ({"x": X, "y": Y + 0.5}, "no whole number"),
    "labels of NaN": ({"x": X, "y": np.full(24, np.nan)}, "no whole number"),
    "dates as labels": ({"x": X, "y": Y.astype("M8[s]")}, "labels have dtype"),
    "empty labels": ({"x": X, "y": np.array(["", "a"])[Y]}, "label at 0 is empty"),
    "latin-1 labels": ({"x": X, "y": np.array([b"\xe9", b"a"])[Y]}, "not UTF-8"),
    "labels of objects": ({"x": X, "y": np.array([1, "a"] * 12, object)}, "Python objects"),
    "images of objects": ({"x": np.array([X[0], None], object), "y": Y[:2]}, "expected numbers"),
    "one class": ({"x": X, "y": Y * 0}, "have 1 class"),
    "a class without test": (
        {"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2] * 0},
        "the test split of 2 images has none of class '1'",
    ),
    "a class without training": (
        {"x_train": X, "y_train": Y * 0, "x_test": X, "y_test": Y},
        "the training split of 24 images has none",
    ),
    "a class without validation": (
        {"x_train": X, "y_train": Y, "x_val": X[:1], "y_val": Y[:1]},
        "the validation split of 1 image has none of class '1' (1); add some",
    ),
    "only a test split": ({"x_test": X, "y_test": Y}, "training split of 0 images"),
    "kinds of labels": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": np.array(["a", "b"])[Y]},
        "of several kinds",
    ),
    "two images a class": ({"x": X[:4], "y": Y[:4]}, "add images"),
    "copies": ({"x": X * 0, "y": Y}, "copies of an image"),
    "too few names": ({"x": X, "y": Y, "class_names": np.array(["a"])}, "has no class"),
    "equal names": ({"x": X, "y": Y, "class_names": np.array(["a", "a "])}, "must differ"),
    "blank names": ({"x": X, "y": Y, "class_names": np.array(["a", " "])}, "one name per class"),
    "names as numbers": ({"x": X, "y": Y, "class_names": np.array([1, 2])}, "strings, such as"),
    "two of a role": ({"x_train": X, "X_train": X, "y_train": Y}, "may each be the images"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(case: str, tmp_path: Path) -> None:
    values, said = ARRAYS[case]
    np.savez(tmp_path / "own.npz", **values)
    assert said in refused(tmp_path, tmp_path / "own.npz")


# Tables

ROWS = "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(24))


def with_column(name: str, value: object) -> str:
    rows = (f"{row},{value}\n" for row in ROWS.splitlines())
    return f"file,label,{name}\n{''.join(rows)}"


TABLES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is not a table"),
    "no rows": ("file,label\n", "no rows"),
    "no header": (ROWS, "name that column file_name"),
    "no classes": ("file\n0.png\n", "name that column label"),
    "longer rows": ("file,label\n0.png,a,b,c\n", "is not a table"),
    "shorter row": (f"file,label\n{ROWS}x.png\n", "row 26 has no class"),
    "no file": (f"file,label\n,a\n{ROWS}", "row 2 names no file"),
    "open quote": (f'file,label\n0.png,"a\n{ROWS}', "is not a table"),
    "delimiters": ("file,label\n" + ROWS.replace("3.png,", "3.png;"), "has no class"),
    "latin-1": ("file,label\n0.png,\xe9\n".encode("latin-1"), "save the table as UTF-8"),
    "UTF-16 without mark": (f"file,label\n{ROWS}".encode("utf-16-le"), "NUL characters"),
    "a picture": (picture(), "is not UTF-8"),
    "a page": ("<!DOCTYPE html>", "web page"),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "equal columns": (with_column("label", "a"), "several columns called"),
    "several paths": (with_column("path", "a"), "several columns that may hold paths"),
    "missing files": ("file,label\nx.png,a\ny.png,b\n", "none of the listed files exist"),
    "outside": ("file,label\n../0.png,a\n", "outside of the table's folder"),
    "absolute": ("file,label\n/etc/passwd,a\n", "outside of the table's folder"),
    "two classes of a file": (f"file,label\n{ROWS}0.png,b\n", "but with another class"),
    "one class": ("file,label\n" + ROWS.replace(",b", ",a"), "have 1 class"),
    "unknown split": (with_column("split", "public"), "has the split 'public'"),
    "only test": (with_column("split", "test"), "training split of 0 images"),
    "one group": (with_column("group", "g"), "images of a group, stay in one split"),
    "groups across": (
        f"file,label,group,split\n0.png,a,g,train\n1.png,b,g,test\n{'2.png,a,h,train'}\n",
        "group 'g' has images in two splits",
    ),
    **{
        f"weight {text}": (with_column("weight", text), f"has the weight '{text}'")
        for text in ("0", "-1", "inf", "nan", "", "x", "1e39", "1e-46")
    },
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(case: str, tmp_path: Path) -> None:
    text, said = TABLES[case]
    for number in range(24):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in refused(tmp_path, path)


# Folders and archives


def folders(*names: str) -> Make:
    """Folders of twelve pictures each."""

    def make(path: Path) -> None:
        for name in names:
            (path / name).mkdir(parents=True)
            for number in range(12):
                (path / name / f"{number}.png").write_bytes(picture(number))

    return make


def files(**content: bytes) -> Make:
    def make(path: Path) -> None:
        path.mkdir()
        for name, data in content.items():
            (path / name.replace("_", ".")).write_bytes(data)

    return make


def broken(path: Path) -> None:
    folders("a", "b")(path)
    for file in path.rglob("*.png"):
        file.write_bytes(b"no picture")


def zipped(**members: bytes) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name.replace("_", "."), data)

    return make


def zip_cut(path: Path) -> None:
    zipped(a_png=picture())(path)
    path.write_bytes(path.read_bytes()[:-30])


def tar_cut(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a/0.png")
        member.size = 5_000
        archive.addfile(member, io.BytesIO(bytes(5_000)))
    path.write_bytes(path.read_bytes()[:2_000])


def parquet(names: list[str], numbers: list[int]) -> Make:
    def make(path: Path) -> None:
        table = pa.table({"image": [picture(n) for n in range(len(numbers))], "label": numbers})
        known = str(names).replace("'", '"')
        features = f'{{"label": {{"names": {known}, "_type": "ClassLabel"}}}}'
        metadata = {"huggingface": f'{{"info": {{"features": {features}}}}}'}
        pq.write_table(table.replace_schema_metadata(metadata), path)

    return make


FILES: dict[str, tuple[str, Make, str]] = {
    "nothing": ("d", Path.mkdir, "not a data set in a known form"),
    "one class": ("d", folders("a"), "at least two; found one, 'a'"),
    "no class": ("d", files(a_png=picture()), "found none"),
    "only HEIC": ("d", files(a_heic=b"x"), "fashion-flow[heic]"),
    "a blank class": ("d", folders(" ", "b"), "is blank; rename it"),
    "hidden": ("d", folders(".a", "b"), "found one, 'b'"),
    "a split beside classes": ("d", folders("a", "b", "test"), "may be a split or a class"),
    "a split twice": ("d", folders("train/a", "training/a", "test/a"), "name a split twice"),
    "test only": ("d", folders("test/a", "test/b"), "training split of 0 images"),
    "class without test": ("d", folders("train/a", "train/b", "test/a"), "none of class 'b'"),
    "nothing readable": ("d", broken, "none of 24 images can be read"),
    "text": ("a.txt", lambda path: path.write_text("x"), "not a data set in a known form"),
    "a lone array": ("x.npy", lambda path: np.save(path, X), "has no labels"),
    "JSON of lists": ("l.jsonl", lambda path: path.write_text("[" * 99_999), "known form"),
    "no Parquet": ("l.parquet", lambda path: path.write_text("x"), "is not a Parquet file"),
    "equal names": ("l.parquet", parquet(["a", "a"], [0, 1] * 9), "class names must differ"),
    "a number too high": (
        "l.parquet",
        parquet(["a", "b"], [0, 1, 2] * 6),
        "column 'label' has 2; expected",
    ),
    "no zip": ("a.zip", lambda path: path.write_text("x"), "is no zip or tar archive"),
    "cut zip": ("a.zip", zip_cut, "is no zip or tar archive, or is cut off"),
    "cut tar": ("a.tar", tar_cut, "is damaged (unexpected end of data)"),
    "empty zip": ("a.zip", zipped(), "a.zip is not a data set"),
    "zip in a zip": ("a.zip", zipped(b_zip=b"PK\5\6" + bytes(18)), "a.zip/b.zip is an archive"),
    "picture in a zip": ("a.zip", zipped(a_png=picture()), "a.zip/a.png is not a data set"),
    "bad array in a zip": ("a.zip", zipped(a_npz=b"x"), "a.zip/a.npz: expected a zip archive"),
    "7z": ("a.7z", lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c"), "unpack it"),
}


@pytest.mark.parametrize("case", FILES)
def test_folders_and_files(case: str, tmp_path: Path) -> None:
    name, make, said = FILES[case]
    make(tmp_path / name)
    assert said in refused(tmp_path, tmp_path / name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the name is empty"),
        ("nowhere", "does not exist"),
        ("https://example.com/a.zip", "download it first"),
        ("hf://a/b", "download it first"),
    ],
)
def test_names(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        data_set_digest(name)


# Whatever it is


def read(path: Path) -> None:
    """Read a data set, which is taken or refused; no other error is raised."""
    with suppress(UserError):
        data_set_digest(str(path))
        with opened_data_set(str(path)) as found:
            assert isinstance(found, Collection)
            assert len(list(found.images.traits())) == len(found.entries)


ANY = arrays(scalar_dtypes(), array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))


@settings(max_examples=50)
@given(ANY, ANY, st.sampled_from(["y", "y_train", "labels", "class_names"]))
def test_any_arrays(
    tmp_path_factory: pytest.TempPathFactory, images: Any, labels: Any, name: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "own.npz"
    np.savez(path, **{"x_train" if name == "y_train" else "x": images, name: labels})
    read(path)


@settings(max_examples=50)
@given(
    st.sampled_from(["file,label", "file;label", '{"file":"a.png",', "label,pixel0", ""]),
    st.text(st.sampled_from('0a.png,;\t\n\r"\\{}[]\0\ufeff\u2028é'), max_size=40) | st.text(),
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".zip", ".npy"]),
)
def test_any_text(
    tmp_path_factory: pytest.TempPathFactory, header: str, text: str, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    path.write_bytes(f"{header}\n{text}".encode("utf-8", "surrogatepass"))
    read(path)


# By the real command


def test_the_command_refuses_with_status_2(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    broken(tmp_path / "broken")
    folders(" ", "b")(tmp_path / "blank")
    for name, said in (("broken", "none of 24 images"), ("blank", "is blank; rename it")):
        store = tmp_path / f"store of {name}"
        done = fashion_flow(
            "run", "--dataset", tmp_path / name, "--only", "subset", "--store", store,
            PREFECT_API_URL=shared_server.url,
        )  # fmt: skip
        assert done.status == 2, done.err
        assert said in done.err
        assert "Traceback" not in done.err
        assert not list(store.rglob("record.json"))
        assert not list(store.rglob(".part-*"))
