"""Pictures in all kinds of files are read; anything unreadable gives one clear line of text."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.core.array_types import UInt8
from tasks.sources.picture_decoding import MOST_PIXELS, THUMBNAIL, printable
from tasks.sources.pictures import Picture, Unreadable
from tests.tasks.sources.picture_support import (
    COLOUR,
    FASHION,
    encoded,
    images,
    pixels_of,
    read,
    reason,
    write,
)

LOSSLESS = {"pgm": "PPM", "png": "PNG", "bmp": "BMP", "tiff": "TIFF", "gif": "GIF", "webp": "WEBP"}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_pictures_keep_every_bit(suffix: str, tmp_path: Path) -> None:
    # WebP has no greyscale pictures.
    pixels = images(1, 28, 28, 3)[0] if suffix == "webp" else images(1)[0]
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(pixels, LOSSLESS[suffix], **options))
    found = pixels_of(read(path, like=COLOUR if suffix == "webp" else FASHION))
    assert (found.reshape(pixels.shape) == pixels).all()


def test_a_file_may_be_called_anything(tmp_path: Path) -> None:
    path = tmp_path / "no suffix"
    path.write_bytes(encoded(images(1)[0]))
    assert (pixels_of(read(path))[0, ..., 0] == images(1)[0]).all()


def test_a_large_jpeg_is_read(tmp_path: Path) -> None:
    drawn = Image.new("RGB", (6000, 4000), "white")
    drawn.paste((20, 20, 20), (2000, 1000, 4000, 3000))
    path = tmp_path / "photo.jpg"
    drawn.save(path, exif=Image.Exif())
    found = pixels_of(read(path))
    assert found[0, 14, 14, 0] > 220
    assert found[0, 0, 0, 0] < 5


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    drawn = np.zeros((64, 64, 3), np.uint8)
    drawn[:32] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        path = tmp_path / kind
        Image.fromarray(drawn).save(path, kind, exif=exif)
        found = pixels_of(read(path, invert="no"))[0, ..., 0]
        assert (found[:, 16:] > 180).all(), kind
        assert (found[:, :12] < 20).all(), kind


def test_a_second_picture_that_a_phone_appends_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    first, second = (Image.new("RGB", (64, 64), colour) for colour in ("white", "black"))
    first.save(path, "MPO", save_all=True, append_images=[second])
    assert pixels_of(read(path, invert="no")).min() > 250


def test_folders_and_subfolders_are_read_in_order(tmp_path: Path) -> None:
    names = ("b.png", "a.JPG", "sub/c.png", "sub/deeper/d.tif", "Z.webp", "e.jfif", "f.avif")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (30, 30)).save(path, {"JPG": "JPEG", "jfif": "JPEG"}.get(path.suffix[1:]))
    (tmp_path / ".thumbnails").mkdir()
    for name in ("notes.txt", ".hidden.png", "sub/thumbs.db", ".thumbnails/e.png"):
        (tmp_path / name).write_bytes(b"?")
    found = [item.source for item in read(tmp_path)]
    below = ("Z.webp", "a.JPG", "b.png", "e.jfif", "f.avif", "sub/c.png", "sub/deeper/d.tif")
    assert found == [str(tmp_path / name) for name in below]
    left = read(tmp_path, exclude=[tmp_path / "sub" / ".." / "b.png"])
    assert str(tmp_path / "b.png") not in [item.source for item in left]


def test_a_path_given_twice_is_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(images(1)[0]))
    assert [item.source for item in read(path, path, tmp_path)] == [str(path)] * 3


# Many in one file


def as_hugging_face(pixels: UInt8) -> pa.Array:
    return pa.array([{"bytes": encoded(image), "path": None} for image in pixels])


COLUMNS: dict[str, Callable[[UInt8], Any]] = {
    "image": as_hugging_face,
    "bytes": lambda pixels: pa.array([encoded(image) for image in pixels], pa.binary()),
    "img": lambda pixels: pa.array([encoded(image) for image in pixels], pa.large_binary()),
    "pixels": lambda pixels: pa.array(
        [image.ravel().tolist() for image in pixels], pa.list_(pa.uint8(), 28 * 28)
    ),
    "images": lambda pixels: pa.array(pixels.tolist(), pa.list_(pa.list_(pa.int64()))),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_tables(column: str, tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    labels = pa.array(np.arange(100))
    pq.write_table(pa.table({"label": labels, column: COLUMNS[column](images(100))}), path)
    found = read(path)
    assert [item.source for item in found][-2:] == [f"{path}[98]", f"{path}[99]"]
    assert (pixels_of(found)[..., 0] == images(100)).all()


def test_a_bad_row_leaves_the_others(tmp_path: Path) -> None:
    good = encoded(images(1)[0])
    rows = [{"bytes": good}, {"bytes": None}, {"bytes": b"no picture"}, {"bytes": good}]
    pq.write_table(pa.table({"image": pa.array(rows)}), tmp_path / "rows.parquet")
    found = read(tmp_path / "rows.parquet")
    assert [isinstance(item, Picture) for item in found] == [True, False, False, True]
    assert isinstance(found[1], Unreadable)
    assert "contains no picture" in found[1].reason
    lists = [[0] * 784, [0] * 783, [[9] * 28] * 28, [9] * 10, [9] * 784]
    for suffix, values in (("whole", lists[:2] + lists[3:]), ("nested", [lists[2], [[1], [2, 3]]])):
        path = tmp_path / f"{suffix}.parquet"
        pq.write_table(pa.table({"pixels": pa.array(values)}), path)
        good_rows = [isinstance(item, Picture) for item in read(path)]
        assert good_rows == ([True, False, False, True] if suffix == "whole" else [True, False])


# Unreadable


def test_missing_empty_and_special_paths(tmp_path: Path) -> None:
    assert "No such file" in reason(tmp_path / "nowhere.png")
    assert "empty (0 bytes)" in reason(write(tmp_path / "empty.png", b""))
    assert "empty (0 bytes)" in reason(write(tmp_path / "empty.npz", b""))
    (tmp_path / "bare").mkdir()
    assert "contains no pictures" in reason(tmp_path / "bare")
    os.mkfifo(tmp_path / "pipe.png")
    assert "neither a file nor a folder" in reason(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "symbolic links" in reason(tmp_path / "loop.png")
    assert "can't be read" in reason(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission(tmp_path: Path) -> None:
    closed = write(tmp_path / "closed.png", encoded(images(1)[0]))
    closed.chmod(0)
    assert "Permission denied" in reason(closed)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0)
    assert "Permission denied" in reason(folder)
    folder.chmod(0o700)


def test_other_kinds_of_files(tmp_path: Path) -> None:
    for content in (b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"RIFF1234WEBP"):
        assert "is not a picture" in reason(write(tmp_path / "a.png", content))
    # Pillow knows these too, but they are not in `FORMATS`.
    for kind in ("ICO", "TGA", "PCX", "DDS"):
        content = encoded(images(1, 32, 32, 3)[0], kind)
        assert "is not a picture" in reason(write(tmp_path / "a", content))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    assert "is not a picture" in reason(write(tmp_path / "a.png", postscript))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_pictures(kind: str, tmp_path: Path) -> None:
    content = encoded(images(1, 100, 100, 3)[0], kind)
    for size in (len(content) // 4, len(content) // 2, len(content) - 40):
        item = reason(write(tmp_path / "a", content[:size]))
        assert "damaged" in item, (size, item)


@given(st.data())
def test_damage_never_ends_in_an_exception(data: st.DataObject) -> None:
    import tempfile

    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]))
    content = bytearray(encoded(images(1, 40, 40)[0], kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        for item in read(write(Path(folder, "a"), bytes(content))):
            assert isinstance(item, Picture) or item.reason


def test_too_many_pixels(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 10
    bomb = tmp_path / "bomb.png"
    Image.new("1", (side, side)).save(bomb)
    assert bomb.stat().st_size < 2e5
    assert "more than 89 megapixels" in reason(bomb)
    larger = tmp_path / "larger.png"
    Image.new("1", (2 * side, side)).save(larger)
    assert "more than 89 megapixels" in reason(larger)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_pages(kind: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(image) for image in images(3, 40, 40, 3)]
    path = tmp_path / "moving"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    assert "contains more than one picture" in reason(path)


def test_bad_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert "damaged" in reason(write(path, b"PAR1 and no more"))
    for table, message in (
        (pa.table({"label": [1], "name": ["a"]}), "has the columns label, name"),
        (pa.table({"image": pa.array([], pa.binary())}), "no rows"),
        (pa.table({"image": ["shoe.png"]}), "is of type str"),
    ):
        pq.write_table(table, path)
        assert message in reason(path)
    pq.write_table(COLUMNS_TABLE, path)
    content = path.read_bytes()
    assert "damaged" in reason(write(path, content[:-100]))


def test_tables_that_unpack_to_far_more_than_their_size(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ends = pa.array([0, MOST_PIXELS + 1], pa.int32())
    zeros = pa.ListArray.from_arrays(ends, pa.array(np.zeros(MOST_PIXELS + 1, np.uint8)))
    for column in (zeros, pa.array([bytes(MOST_PIXELS + 1)] * 4)):
        pq.write_table(pa.table({"image": column}), path, compression="zstd")
        assert path.stat().st_size < 100_000
        before = pa.total_allocated_bytes()
        assert "hundred times its size" in reason(path)
        assert pa.total_allocated_bytes() - before < 10**6


COLUMNS_TABLE = pa.table({"image": as_hugging_face(images(30))})


# Names and thumbnails


@given(st.text())
def test_any_name_can_be_printed(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    shown.encode()
    assert not name.isprintable() or shown == name


def encoded_table(columns: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def test_odd_names(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/a\xff\x1b[31m\n.png")
    write(Path(odd), encoded(images(1)[0]))
    table = Path(odd).with_suffix(".parquet")
    write(table, encoded_table({"image": [encoded(images(1)[0])]}))
    for item, end in zip(read(tmp_path), (".parquet[0]", ".png"), strict=True):
        assert isinstance(item, Picture)
        assert item.source == f"{tmp_path}/a\\udcff\\x1b[31m\\n{end}"


def test_odd_names_of_arrays_and_columns(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"\x1b[31m": np.zeros((2, 28, 28, 7), np.uint8)}
    np.savez(tmp_path / "a.npz", **arrays)
    pq.write_table(pa.table({"\x1b[31m": [1]}), tmp_path / "a.parquet")
    for name in ("a.npz", "a.parquet"):
        assert "\\x1b[31m" in reason(tmp_path / name)
        assert reason(tmp_path / name).isprintable()


def test_thumbnails_are_small_and_few_and_have_no_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGBA", (500, 300), (200, 0, 0, 90)).save(tmp_path / "a.png", exif=exif)
    Image.new("CMYK", (500, 900)).save(tmp_path / "b.tif")
    write(tmp_path / "c.png", encoded(images(1)[0]))
    first, second, third = read(tmp_path, show=2)
    assert isinstance(first, Picture)
    assert first.shown
    assert b"taken at home" not in first.shown.given
    given, seen = (Image.open(io.BytesIO(png)) for png in (first.shown.given, first.shown.seen))
    assert (given.format, given.mode, given.size) == ("PNG", "RGBA", (THUMBNAIL, 96))
    assert (np.asarray(seen) == first.prepared.pixels[..., 0]).all()
    assert isinstance(second, Picture)
    assert second.shown
    assert Image.open(io.BytesIO(second.shown.given)).size == (89, THUMBNAIL)
    assert isinstance(third, Picture)
    assert third.shown is None
