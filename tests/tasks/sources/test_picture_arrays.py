"""Arrays of any type, order and arrangement are pictures, if they can be only that."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.photographs import ImageFormat
from tasks.core.errors import UserError
from tasks.sources import stored_arrays
from tasks.sources.picture_arrays import shape_of
from tasks.sources.pictures import Picture, Unreadable, read_pictures
from tests.tasks.sources.picture_support import (
    COLOUR,
    FASHION,
    images,
    noted,
    pixels_of,
    read,
    reason,
    write,
)


@pytest.mark.parametrize("name", ["x", "X", "images", "test_images", "anything"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives(name: str, save: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    more = {"y": np.arange(5), "weights": np.zeros((2, 3, 4)), "labels": np.zeros((5, 1), np.uint8)}
    save(path, **{name: images(5)}, **more)
    found = read(path)
    assert [item.source for item in found] == [f"{path}[{number}]" for number in range(5)]
    assert (pixels_of(found)[..., 0] == images(5)).all()


@pytest.mark.parametrize(("channels", "like"), [(1, FASHION), (3, COLOUR)])
def test_archives_with_channels(channels: int, like: ImageFormat, tmp_path: Path) -> None:
    pixels = images(3, 28, 28, channels)
    np.savez(tmp_path / "many.npz", x=pixels)
    assert (pixels_of(read(tmp_path / "many.npz", like=like)) == pixels).all()


def test_of_several_arrays_the_one_of_the_models_size_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", large=images(2, 64, 64), small=images(3))
    assert len(pixels_of(read(tmp_path / "a.npz"))) == 3


MEANINGS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "as it is": (lambda x: x, ""),
    "by columns": (np.asfortranarray, ""),
    "transposed": (lambda x: np.transpose(np.ascontiguousarray(np.transpose(x))), ""),
    "16 bits": (lambda x: x.astype(np.uint16) * 257, "white is 65535"),
    "big-endian": (lambda x: x.astype(">u2") * 257, "white is 65535"),
    "wide": (lambda x: x.astype(np.int64), "int64 was taken as 0 to 255"),
    "0 to 1": (lambda x: x / 255, "float64 from 0 to 1 was multiplied by 255"),
    "half": (lambda x: x.astype(np.float16), "was taken as 0 to 255"),
    "0 to 255": (lambda x: x.astype(np.float32), "was taken as 0 to 255"),
    "flat": (lambda x: x.reshape(-1, 784), "rows of 784 pixels were taken as 28 x 28"),
    "a channel": (lambda x: x[..., None], ""),
    "a channel first": (lambda x: x[:, None], "channels are first"),
}


@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_numbers_that_mean_one_thing(meaning: str, suffix: str, tmp_path: Path) -> None:
    change, said = MEANINGS[meaning]
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, change(images(6)))
    else:
        np.savez(path, x=change(images(6)))
    found, notes = noted(path)
    assert (pixels_of(found)[..., 0] == images(6)).all()
    assert [item.source for item in found][-1] == f"{path}[5]"
    assert len(notes) == bool(said)
    assert not notes or (notes[0].startswith(f"{path}: ") and said in notes[0])


def test_colours_with_channels_first(tmp_path: Path) -> None:
    pixels = images(4, 28, 28, 3)
    np.save(tmp_path / "a.npy", np.moveaxis(pixels, 3, 1))
    assert (pixels_of(read(tmp_path / "a.npy", like=COLOUR)) == pixels).all()


def test_false_and_true(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", images(3) > 127)
    found = pixels_of(read(tmp_path / "a.npy"))[..., 0]
    assert (found == (images(3) > 127) * 255).all()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_memory_does_not_grow_with_the_number_of_images(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_arrays, "BLOCK_BYTES", 2**17)
    path = tmp_path / f"many.{suffix}"
    zeros = np.zeros((4_000, 28, 28), np.uint8)
    if suffix == "npy":
        np.save(path, zeros)
    else:
        np.savez_compressed(path, x=zeros)
    tracemalloc.start()
    count = sum(isinstance(item, Picture) for item in read_pictures([path], FASHION))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4_000
    assert peak < 1e6, "the array alone has 3.1 MB"


BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "objects": ({"x": np.array([{"a": 1}], dtype=object)}, "expected numbers"),
    "objects elsewhere": ({"z": np.array([None] * 3, dtype=object)}, "no images"),
    "strings": ({"x": np.array(["a.png", "b.png"])}, "expected numbers"),
    "standardised": ({"x": images(2) / 255 - 0.5}, "black and white are not known"),
    "white unknown": ({"x": np.full((2, 28, 28), 1.5)}, "white may be 1 or 255"),
    "not a number": ({"x": np.full((2, 28, 28), np.nan)}, "NaN or infinite"),
    "signed": ({"x": images(2).astype(int) - 128}, "black and white are not defined"),
    "channels": ({"x": np.zeros((2, 28, 28, 7), np.uint8)}, "1, 3 or 4 channels"),
    "one in colour": ({"x": np.zeros((40, 30, 3), np.uint8)}, "write it as (1, h, w, 3)"),
    "one in grey": ({"x": np.zeros((40, 30), np.uint8)}, "write one picture as (1, 40, 30)"),
    "none": ({"x": np.zeros((0, 28, 28), np.uint8)}, "there are no images"),
    "too large": ({"x": np.zeros((1, 10_000, 9_000), bool)}, "10000 x 9000 pixels"),
    "none suits": ({"y": np.arange(3)}, "has the arrays y, no images"),
    "several": ({"x_train": images(2), "x_test": images(2)}, "(x_train, x_test)"),
    "nothing": ({}, "has the arrays none"),
}


@pytest.mark.parametrize("fault", BAD_ARRAYS)
def test_bad_archives(fault: str, tmp_path: Path) -> None:
    arrays, message = BAD_ARRAYS[fault]
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    assert message in reason(tmp_path / "a.npz")


def test_one_picture_with_channels_first(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", images(1, 3, 40, 30)[0])
    assert "(1, h, w, 3)" in reason(tmp_path / "a.npy", COLOUR)
    assert len(read(tmp_path / "a.npy")) == 3, "for a model of grey images"


@given(
    st.lists(st.integers(0, 40), min_size=4, max_size=6).map(tuple),
    st.sampled_from([FASHION, COLOUR, ImageFormat(5, 40, 1)]),
)
def test_rows_are_images_only_if_they_have_the_models_pixels(
    shape: tuple[int, ...], like: ImageFormat
) -> None:
    assert shape_of(shape, like, "x") == shape
    pixels = like.height * like.width
    assert shape_of((7, pixels), like, "x") == (7, like.height, like.width)
    if shape[0] != pixels:
        with pytest.raises(UserError, match="write one picture"):
            shape_of(shape[1::-1], like, "x")


def test_damaged_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    assert "expected a zip archive" in reason(write(path, b"hello"))
    assert "web page" in reason(write(path, b"<html>"))
    assert "`git lfs pull`" in reason(write(path, b"version https://git-lfs.github.com/spec/v1"))
    np.savez(path, x=images(50))
    content = path.read_bytes()
    assert "truncated" in reason(write(path, content[:-50]))
    flipped = bytearray(content)
    flipped[20_000] ^= 1
    monkeypatch.setattr(stored_arrays, "BLOCK_BYTES", 10 * 784)
    *good, last = read(write(path, bytes(flipped)))
    assert len(good) == 40
    assert isinstance(last, Unreadable)
    assert "x can't be read (Bad CRC-32" in last.reason
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"no array")
    assert "can't be read" in reason(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [("(9, 28, 28)", "cut off"), ("(-9, 28, 28)", "can"), ("(9, 99999, 99999)", "cut off")],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_headers_that_announce_what_is_not_there(
    shape: str, message: str, suffix: str, tmp_path: Path
) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117) + b"\n" + images(3).tobytes()
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        write(path, content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    assert message in reason(path)
