"""What users of tools like this one have reported about their pictures, each as a test.

The numbers are those of the reports.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.core.array_types import UInt8
from tasks.core.data.photographs import Fit, ImageFormat, framed
from tasks.core.errors import UserError
from tasks.models.usage_file import Usage, read_usage
from tasks.sources.pictures import Picture, Unreadable
from tests.tasks.models.usages import USAGE, written
from tests.tasks.sources.picture_support import (
    FASHION,
    encoded,
    images,
    noted,
    pixels_of,
    read,
    reason,
    write,
)


def shirt(width: int = 60, height: int = 80, ground: int = 255, ink: int = 40) -> Image.Image:
    pixels = np.full((height, width, 3), ground, np.uint8)
    pixels[height // 4 : -height // 8, width // 3 : -width // 3] = ink
    return Image.fromarray(pixels)


GREY = np.asarray(shirt().convert("L"))
PLAIN = framed(shirt(), FASHION)


def image(path: Path) -> UInt8:
    (found,) = pixels_of(read(path, invert="no"))
    return np.asarray(found, np.uint8)


# 30, 31, 32


DEPTHS: dict[str, Callable[[], Image.Image]] = {
    "grey16.png": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
    "grey16.tif": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
    "grey12in16.png": lambda: Image.fromarray((GREY.astype(np.uint32) * 4095 // 255).astype("u2")),
    "grey10in16.png": lambda: Image.fromarray((GREY.astype(np.uint32) * 1023 // 255).astype("u2")),
    "int32.tif": lambda: Image.fromarray(GREY.astype(np.int32) * 257),
    "float01.tif": lambda: Image.fromarray(GREY.astype(np.float32) / 255),
    "float255.tif": lambda: Image.fromarray(GREY.astype(np.float32)),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_30_to_32_pictures_of_any_depth_are_neither_black_nor_white(
    name: str, tmp_path: Path
) -> None:
    DEPTHS[name]().save(tmp_path / name)
    assert abs(image(tmp_path / name).astype(int) - PLAIN).max() <= 1


def test_32_numbers_without_black_and_white_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(GREY.astype(np.int32) - 300).save(path)
    assert "black and white are not defined; save it with 8 or 16 bits" in reason(path)


# 35, 36


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jpg", "WEBP"), ("b.jpg", "PNG"), ("c.png", "BMP"), ("d.jpg", "AVIF"), ("e.jpg", "GIF")],
)
def test_35_the_content_counts_and_not_the_suffix(name: str, kind: str, tmp_path: Path) -> None:
    try:
        shirt().save(tmp_path / name, kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow can't write {kind}")
    assert abs(image(tmp_path / name).astype(int) - PLAIN).max() < 20


def test_36_bad_files_get_a_reason_each_and_stop_nothing(tmp_path: Path) -> None:
    jpeg, png = (encoded(np.asarray(shirt()), kind) for kind in ("JPEG", "PNG"))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    contents = {
        "a.jpg": (jpeg, ""),
        "b_cut.jpg": (jpeg[: len(jpeg) // 2], "is damaged"),
        "c_short.jpg": (jpeg[:-2], "is damaged"),
        "d_bit.png": (bytes(flipped), "is damaged"),
        "e_zero.jpg": (b"", "is empty"),
        "f_page.jpg": (b"<!DOCTYPE html><html>404</html>", "this is a web page"),
        "g_pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull`"),
        "h.png": (png, ""),
    }
    for name, (content, _) in contents.items():
        write(tmp_path / name, content)
    found = read(tmp_path)
    assert [Path(item.source).name for item in found] == list(contents)
    for item, (_, said) in zip(found, contents.values(), strict=True):
        assert isinstance(item, Unreadable) == bool(said)
        assert not isinstance(item, Unreadable) or said in item.reason


# 37 to 41


def test_37_to_40_folders_as_systems_and_phones_leave_them(tmp_path: Path) -> None:
    jpeg = encoded(np.asarray(shirt()), "JPEG")
    taken = ["UPPER.JPG", "a.jfif", "b.jpe", "c.jpeg", "sub dir/x.JPEG"]
    junk = [".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._c.jpg", "._c.jpg", ".hidden/a.png"]
    others = ["notes.txt", "x.doc", "y.doc", "raw.CR2", "README", "photos.zip", "labels.csv"]
    for name in (*taken, *junk, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, jpeg if name in taken else b"?")
    found, notes = noted(tmp_path)
    assert [item.source for item in found] == [str(tmp_path / name) for name in taken]
    assert pixels_of(found).shape[0] == len(taken)
    note, advice = notes
    assert advice == f"{tmp_path}: files with .csv, .zip are read only if they are named."
    assert note.startswith(f"{tmp_path}: not read: .doc (2), ")
    for kind in (".txt (1)", ".cr2 (1)", "no suffix (1)", ".zip (1)", ".csv (1)"):
        assert kind in note
    assert "ini" not in note


def test_40_a_folder_of_jfif_alone(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.JFIF"):
        shirt().save(tmp_path / name, "JPEG")
    found, notes = noted(tmp_path)
    assert len(pixels_of(found)) == 2
    assert notes == []


def test_40_heic_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.sources import picture_decoding, pictures

    monkeypatch.setattr(picture_decoding, "reads_heic", lambda: False)
    monkeypatch.setattr(pictures, "reads_heic", lambda: False)
    picture_decoding._formats.cache_clear()
    path = write(tmp_path / "a.HEIC", b"\0\0\0\x18ftypheic")
    assert "install the extra `heic`" in reason(path)
    found, notes = noted(tmp_path)
    assert isinstance(found[0], Unreadable)
    assert f"{tmp_path}: not read: .heic (1)." in notes
    assert any("fashion-flow[heic]" in note for note in notes)
    picture_decoding._formats.cache_clear()


def test_41_names_and_links_of_all_kinds(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = [
        "名前 with space.png",
        "quote'and\"double.png",
        "[brackets]*.png",
        "-dash.png",
        "%s.png",
    ]
    names.append(os.fsdecode(b"latin1_\xe9.png"))
    for name in names:
        write(folder / name, encoded(np.asarray(shirt())))
    (folder / "link.png").symlink_to(folder / "-dash.png")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "loop").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path / "more")
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "a.png", encoded(np.asarray(shirt())))
    found, notes = noted(folder)
    assert len(pixels_of(found)) == len(names) + 2
    assert all(item.source.isprintable() for item in found)
    assert notes == [
        f"{folder}: not read: a broken link (2), a link to a folder that is read already (1)."
    ]
    assert "No such file" in reason(folder / "broken.png")


# 42, 43


def test_42_own_pictures_on_white_become_light_on_dark(tmp_path: Path) -> None:
    shirt(28, 28).save(tmp_path / "colour.png")
    shirt(28, 28, 0, 220).convert("L").save(tmp_path / "dark.png")
    shirt(28, 28).convert("L").save(tmp_path / "light.png")
    colour, dark, light = read(tmp_path)
    for item, inverted, unlike in (
        (colour, True, False),
        (dark, False, False),
        (light, False, True),
    ):
        assert isinstance(item, Picture)
        assert (item.prepared.inverted, item.prepared.unlike) == (inverted, unlike)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_43_animations_are_refused_and_single_frames_are_read(kind: str, tmp_path: Path) -> None:
    frames = [shirt(), shirt(ground=0, ink=200), shirt(ink=100)]
    frames[0].save(tmp_path / "b", kind, save_all=True, append_images=frames[1:])
    assert "more than one picture (an animation, or pages); save one" in reason(tmp_path / "b")
    frames[0].save(tmp_path / "a.gif", kind)
    assert len(pixels_of(read(tmp_path / "a.gif"))) == 1


# 45


def table(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_45_a_table_of_hugging_face(tmp_path: Path) -> None:
    png = encoded(GREY)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": png, "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    for column in ("image", "photo"):
        path = table(tmp_path / "a.parquet", label=[0, 1, 2], **{column: pa.array(rows, kind)})
        first, *others = read(path)
        assert isinstance(first, Picture)
        for item in others:
            assert isinstance(item, Unreadable)
            assert "paths to other files are not followed" in item.reason


PIXELS: dict[str, Callable[[np.ndarray], dict[str, object]]] = {
    "columns": lambda x: {f"pixel{i}": column for i, column in enumerate(x.reshape(-1, 784).T)},
    "shuffled columns": lambda x: dict(
        sorted((f"p{i}", column) for i, column in enumerate(x.reshape(-1, 784).T))
    ),
    "fractions as columns": lambda x: {
        f"{i}": column / 255 for i, column in enumerate(x.reshape(-1, 784).T)
    },
    "lists": lambda x: {"pixels": list(x.reshape(-1, 784))},
    "fractions": lambda x: {"pixels": list(x.reshape(-1, 784) / 255)},
    "16 bits": lambda x: {"pixels": list(x.reshape(-1, 784).astype(np.uint16) * 257)},
    "nested": lambda x: {"image": x.tolist()},
    "nested fractions": lambda x: {"image": (x / 255).tolist()},
}


@pytest.mark.parametrize("form", PIXELS)
def test_45_tables_of_pixels(form: str, tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", label=[0, 1, 2, 3], **PIXELS[form](images(4)))
    found = read(path)
    assert (pixels_of(found)[..., 0] == images(4)).all()
    assert found[3].source == f"{path}[3]"


def test_45_one_dark_picture_does_not_change_what_numbers_mean(tmp_path: Path) -> None:
    x = np.stack([np.full((28, 28), value) for value in (255.0, 1.0)])
    path = table(tmp_path / "a.parquet", pixels=list(x.reshape(2, -1)))
    assert pixels_of(read(path, invert="no")).max(axis=(1, 2, 3)).tolist() == [255, 1]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({f"pixel{i}": [i] for i in range(100)}, "so it may be one picture or rows of pixels"),
        ({f"pixel{i}": [None, 1] for i in range(784)}, "has empty cells among its pixels"),
        ({f"pixel{i}": ["a"] for i in range(784)}, "expected numbers"),
        ({"pixels": [[-1.5] * 784]}, "black and white are not known"),
        ({"name": ["a"], "label": [1]}, "has the columns name, label"),
    ],
)
def test_45_other_tables_are_refused(columns: dict[str, object], said: str, tmp_path: Path) -> None:
    assert said in reason(table(tmp_path / "a.parquet", **columns))


@pytest.mark.parametrize("label", ["first", "last", "none"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_45_text_tables(label: str, header: bool, suffix: str, tmp_path: Path) -> None:
    x = images(12).reshape(12, 784)
    x[:, [0, -1]] = 0
    rows = [[str(value) for value in row] for row in x]
    names = [f"pixel{i}" for i in range(784)]
    for number, row in enumerate([names, *rows]):
        cell = str(number % 3) if number else "label"
        row[:] = {"first": [cell, *row], "last": [*row, cell], "none": row}[label]
    separator = "," if suffix == ".csv" else "\t"
    lines = [separator.join(row) for row in ([names] if header else []) + rows]
    path = write(tmp_path / f"a{suffix}", "\n".join(lines).encode())
    found, notes = noted(path)
    assert (pixels_of(found)[..., 0] == x.reshape(12, 28, 28)).all()
    assert notes == []


def test_45_other_text_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert "is not a table of pixels" in reason(write(path, b"file,label\na.png,1\n"))
    wide = ",".join(map(str, [0, 7, *range(20)])) + "\n"
    assert "22 columns without names" in reason(write(path, wide.encode() * 3))
    header = ",".join(f"pixel{i}" for i in range(784))
    cut = f"{header}\n{','.join(['0'] * 784)}\n{','.join(['0'] * 90)}\n"
    assert "empty cells, or the file is cut off" in reason(write(path, cut.encode()))


# 46


def test_46_a_zip_of_photographs(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("plain.jpg", "cutout.png"):
            content = io.BytesIO()
            shirt().save(content, "JPEG" if name.endswith("jpg") else "PNG")
            archive.writestr(f"photos/{name}", content.getvalue())
    found = read(path)
    assert [item.source for item in found] == [
        f"{path}/photos/{name}" for name in ("cutout.png", "plain.jpg")
    ]
    assert abs(pixels_of(read(path, invert="no")).astype(int) - PLAIN).max() < 20


@pytest.mark.parametrize("name", ["photos.tar", "photos.tar.gz", "photos.7z", "drawing.svg"])
def test_46_files_of_other_kinds_say_what_to_do(name: str, tmp_path: Path) -> None:
    said = "save it as PNG" if name.endswith("svg") else "unpack it and give the folder"
    assert said in reason(write(tmp_path / name, b"<?xml version='1.0'?><svg/>"))


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_pictures_are_fitted_as_in_training(fit: Fit, tmp_path: Path) -> None:
    usage = Usage.model_validate(USAGE | {"image": USAGE["image"] | {"fit": fit}})
    like = usage.image_format
    assert like == ImageFormat(4, 4, 1, fit, 0.0)
    shirt().save(tmp_path / "a.png")
    assert (pixels_of(read(tmp_path, like=like, invert="no"))[0] == framed(shirt(), like)).all()


@pytest.mark.parametrize("white", [None, 4_095])
@pytest.mark.parametrize("form", ["png", "npy", "csv", "columns.parquet", "lists.parquet"])
def test_white_of_more_than_8_bits_is_that_of_the_training(
    form: str, white: int | None, tmp_path: Path
) -> None:
    """Models of earlier versions know no white: then the pixels alone say what it is."""
    image = USAGE["image"] | ({} if white is None else {"white": white})
    like = Usage.model_validate(USAGE | {"image": image}).image_format
    numbers = np.arange(300, 316, dtype=np.uint16).reshape(4, 4)
    path = tmp_path / f"a.{form}"
    names = [f"pixel{at}" for at in range(16)]
    cells = numbers.ravel().tolist()
    match form:
        case "png":
            Image.fromarray(numbers).save(path)
        case "npy":
            np.save(path, numbers[np.newaxis])
        case "csv":
            path.write_text(f"{','.join(names)}\n{','.join(map(str, cells))}\n")
        case "columns.parquet":
            pq.write_table(
                pa.table({name: [cell] for name, cell in zip(names, cells, strict=True)}), path
            )
        case "lists.parquet":
            pq.write_table(pa.table({"pixels": [cells]}), path)
    (found,) = pixels_of(read(path, like=like, invert="no"))
    expected = [round(255 * number / (white or 1_023)) for number in cells]
    assert found.ravel().tolist() == expected


@pytest.mark.parametrize("white", [254, 65_536, "much"])
def test_a_white_that_cannot_be_is_refused(white: Any) -> None:
    with pytest.raises(UserError, match="white"):
        read_usage(written(USAGE | {"image": USAGE["image"] | {"white": white}}), "usage.json")


def test_45_fractions_after_whole_numbers_are_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sources.csv_pixels.BLOCK_BYTES", 8 * 784)
    names = [f"pixel{at}" for at in range(784)]
    rows = [names, ["0"] * 783 + ["200"], ["0.75"] * 783 + ["100.6"]]
    lines = [",".join(row) for row in rows]
    found = pixels_of(read(write(tmp_path / "a.csv", "\n".join(lines).encode())))
    assert found[0, -1, -1, 0] == 200
    assert (found[1, 0, 0, 0], found[1, -1, -1, 0]) == (1, 101)
