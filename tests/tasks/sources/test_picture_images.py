"""Encoded pictures are decoded in order; the bad ones among them say why."""

from __future__ import annotations

import io
import os
import tracemalloc
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame
from tasks.core.data.picture_modes import upright
from tasks.sources import picture_decoding
from tasks.sources.collection import Unusable
from tasks.sources.picture_images import WINDOW, PictureImages
from tests.tasks.sources.tiny_pictures import TRAITS, encoded

FRAME = Frame(8, 8, 3)


def reasons(content: bytes | Path) -> tuple[str, ...]:
    """Why neither the traits nor the pixels can be had."""
    images = PictureImages(lambda: [content])
    found = [*images.traits(), *images.decoded(FRAME)]
    return tuple(item.reason for item in found if isinstance(item, Unusable))


def test_files_and_bytes_in_order_and_again(tmp_path: Path) -> None:
    count = 2 * WINDOW * len(os.sched_getaffinity(0)) + 3
    contents: list[bytes | Path] = []
    for number in range(count):
        content = encoded(colour=(number % 256, number // 256, 7))
        path = tmp_path / f"{number}.png"
        path.write_bytes(content)
        contents.append(path if number % 2 else content)
    images = PictureImages(lambda: contents)
    assert list(images.traits()) == [TRAITS] * count
    for _ in range(2):
        found = [item[4, 4, :2] for item in images.decoded(FRAME) if not isinstance(item, Unusable)]
        assert [int(low) + 256 * int(high) for low, high in found] == list(range(count))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_traits_are_those_after_the_rotation(kind: str, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    content = encoded(kind, exif=exif)
    picture = upright(Image.open(io.BytesIO(content)))
    (found,) = PictureImages(lambda: [content]).traits()
    assert found == Traits(picture.height, picture.width, 3)
    assert (found == TRAITS) == (orientation in (None, 1, 3))


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)]
)
def test_channels(mode: str, channels: int) -> None:
    content = io.BytesIO()
    Image.new(mode, (5, 4)).save(content, "PNG")
    (found,) = PictureImages(lambda: [content.getvalue()]).traits()
    assert found == Traits(4, 5, channels)


def test_the_traits_of_a_png_are_read_from_its_header() -> None:
    # The header ends after 33 bytes; what follows is not needed, and can't be decoded.
    content = encoded()[:45]
    assert [reason[:10] for reason in reasons(content)] == ["is damaged"]
    (found,) = PictureImages(lambda: [content]).traits()
    assert found == TRAITS


def test_what_is_no_picture(tmp_path: Path) -> None:
    assert "0 bytes" in reasons(b"")[0]
    assert "is not a picture" in reasons(b"<!DOCTYPE html><html><body>404</body></html>")[0]
    assert "can't be read" in reasons(tmp_path / "nothing.png")[0]
    assert "can't be read" in reasons(tmp_path)[0]
    animation = encoded("GIF", save_all=True, append_images=[Image.new("RGB", (5, 4))])
    assert "more than one picture" in reasons(animation)[0]
    assert len(reasons(animation)) == 2


def test_more_pixels_than_a_photograph_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_decoding, "MOST_PIXELS", 19)
    assert "megapixels" in reasons(encoded())[0]
    # Pillow itself refuses twice its own limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert "megapixels" in reasons(encoded())[1]


def test_one_bad_picture_does_not_harm_others() -> None:
    contents: list[bytes | Unusable] = [encoded(), b"?", Unusable("is lost."), encoded()]
    found = list(PictureImages(lambda: contents).decoded(FRAME))
    assert [isinstance(item, Unusable) for item in found] == [False, True, True, False]
    assert found[2] == Unusable("is lost.")
    assert np.array_equal(np.asarray(found[0]), np.asarray(found[3]))


def test_memory_does_not_grow_with_the_number_of_pictures() -> None:
    content = encoded()

    def peak(count: int) -> int:
        tracemalloc.start()
        images = PictureImages(lambda: repeat(content, count))
        assert sum(1 for _ in images.decoded(Frame(64, 64, 3))) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    threads = len(os.sched_getaffinity(0))
    assert peak(8 * WINDOW * threads) < 2 * peak(2 * WINDOW * threads)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), st.data())
def test_damage_of_any_kind_gives_a_picture_or_a_reason(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    images = PictureImages(lambda: [cut])
    for item in images.traits():
        assert item.reason.endswith(".") if isinstance(item, Unusable) else min(item) > 0
    for pixels in images.decoded(FRAME):
        if isinstance(pixels, Unusable):
            assert "\n" not in pixels.reason
            assert len(pixels.reason) <= 400
        else:
            assert pixels.shape == (8, 8, 3)
            assert pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["a.heic", "b.HEIF"])
def test_photographs_whose_package_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    monkeypatch.setattr("tasks.sources.picture_images.reads_heic", lambda: False)
    monkeypatch.setattr(picture_decoding, "reads_heic", lambda: False)
    assert len(reasons(path)) == 2
    assert all("fashion-flow[heic]" in reason for reason in reasons(path))
