"""Pictures of 16 bits per channel, compared with the numbers that were written."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame, framed
from tasks.sources.collection import Unusable
from tasks.sources.deep_pictures import is_deep, numbers_of
from tasks.sources.picture_decoding import decoded, opened
from tasks.sources.picture_images import PictureImages
from tests.deep_pictures import drawn, png, tiff

HEIGHT, WIDTH = 11, 13


def read(content: bytes) -> tuple[Any, Any]:
    """The colours and the opacity in a file."""
    file = io.BytesIO(content)
    picture = opened(file)
    assert is_deep(picture)
    found = numbers_of(picture, lambda: opened(io.BytesIO(content)))
    assert found.highest == found.colours.max()
    return found.colours, found.opacity


def reason(content: bytes) -> str:
    images = PictureImages(lambda: [content])
    before, after = next(images.traits()), next(images.decoded(Frame(8, 8, 3)))
    assert isinstance(before, Unusable)
    assert before == after
    return before.reason


@pytest.mark.parametrize("adam7", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_bit_of_a_png(channels: int, adam7: bool) -> None:
    numbers = drawn(HEIGHT, WIDTH, channels)
    colours, opacity = read(png(numbers, adam7=adam7))
    count = 3 if channels > 2 else 1
    np.testing.assert_array_equal(colours, numbers[..., :count])
    if channels % 2:
        assert opacity is None
    else:
        np.testing.assert_array_equal(opacity, numbers[..., -1])


@pytest.mark.parametrize(("channels", "colours"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_grey_with_opacity_is_grey(channels: int, colours: int) -> None:
    """Pillow calls it RGBA."""
    (traits,) = PictureImages(lambda: [png(drawn(HEIGHT, WIDTH, channels))]).traits()
    assert traits == Traits(HEIGHT, WIDTH, colours, 65_535)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize(("channels", "extra"), [(1, None), (3, None), (4, 0), (4, 2), (4, None)])
def test_every_bit_of_a_tiff(
    channels: int, extra: int | None, deflated: bool, order: str, tmp_path: Path
) -> None:
    numbers = drawn(HEIGHT, WIDTH, channels)
    content = tiff(numbers, order=order, deflated=deflated, extra=extra)
    colours, opacity = read(content)
    np.testing.assert_array_equal(colours, numbers[..., :3])
    # 0 says that the fourth channel means nothing.
    if channels == 4 and extra != 0:
        np.testing.assert_array_equal(opacity, numbers[..., 3])
    else:
        assert opacity is None
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with path.open("rb") as file:
        of_file = decoded(file, Frame(8, 8, 3))
    of_bytes = decoded(io.BytesIO(content), Frame(8, 8, 3))
    np.testing.assert_array_equal(np.asarray(of_file), np.asarray(of_bytes))


def test_colours_that_were_multiplied_by_their_opacity() -> None:
    straight = np.array([[[60_000, 30_000, 7], [5, 6, 7], [65_535, 0, 1]]], np.uint16)
    opacity = np.array([[32_768, 0, 65_535]], np.uint32)
    times = np.rint(straight * (opacity[..., None] / 65_535)).astype(np.uint16)
    numbers = np.concatenate([times, opacity[..., None].astype(np.uint16)], axis=2)
    colours, found = read(tiff(numbers, extra=1))
    np.testing.assert_array_equal(found, opacity)
    assert abs(colours[0, ::2].astype(int) - straight[0, ::2]).max() <= 1
    assert colours[0, 1].tolist() == [0, 0, 0]


def test_colours_one_after_another_are_refused() -> None:
    for deflated in (False, True):
        content = tiff(drawn(HEIGHT, WIDTH, 3), planar=True, deflated=deflated)
        assert "interleaved channels" in reason(content)


def test_grey_numbers_that_are_no_brightness_are_refused() -> None:
    for number in (-1, 65_536):
        content = io.BytesIO()
        Image.new("I", (5, 4), number).save(content, "TIFF")
        assert "black and white are not defined" in reason(content.getvalue())


# White


@pytest.mark.parametrize("write", [png, tiff])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("highest", "given", "white"),
    [
        (200, 255, 255),
        (4095, 255, 4095),
        (700, 4095, 4095),
        (5000, 4095, 16_383),
        (65_535, 255, 65_535),
    ],
)
def test_white_is_that_of_the_data_set_or_more(
    write: Any, channels: int, highest: int, given: int, white: int
) -> None:
    numbers = drawn(HEIGHT, WIDTH, channels, highest=highest)
    content = write(numbers)
    frame = Frame(HEIGHT, WIDTH, channels, white=given)
    (traits,) = PictureImages(lambda: [content]).traits()
    alone = 255 if highest == 200 else {700: 1023, 5000: 16_383}.get(highest, highest)
    assert traits == Traits(HEIGHT, WIDTH, channels, alone)
    (found,) = PictureImages(lambda: [content]).decoded(frame)
    np.testing.assert_array_equal(found, np.floor(numbers * (255 / white) + 0.5).astype(np.uint8))


def test_white_of_a_pgm_is_in_its_header() -> None:
    content = b"P5 3 1 4095\n" + struct.pack(">3H", 0, 1000, 2000)
    (traits,) = PictureImages(lambda: [content]).traits()
    assert traits == Traits(1, 3, 1, 65_535)
    (found,) = PictureImages(lambda: [content]).decoded(Frame(1, 3, 1))
    assert np.asarray(found).ravel().tolist() == [0, 62, 125]


# Opacity, rotation and profile


@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_of_a_png_that_is_transparent(channels: int) -> None:
    numbers = drawn(2, 3, channels)
    numbers[0, 1] = 258
    # Equal but for the lower byte, which Pillow does not see.
    numbers[1, 1] = 259
    content = png(numbers, tRNS=struct.pack(">H", 258) * channels)
    found = decoded(io.BytesIO(content), Frame(8, 8, 3))
    assert found.mode == ("LA" if channels == 1 else "RGBA")
    assert np.asarray(found)[..., -1].tolist() == [[255, 0, 255], [255, 255, 255]]
    framed(found, Frame(8, 8, 3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_rotation_of_a_png(channels: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    numbers = drawn(HEIGHT, WIDTH, channels)
    frame = Frame(WIDTH, HEIGHT, 3)
    turned = np.ascontiguousarray(np.rot90(numbers, -1))
    contents = [png(numbers, eXIf=exif.tobytes()[6:]), png(turned)]
    images = PictureImages(lambda: contents)
    traits = list(images.traits())
    assert traits[0] == traits[1]
    first, second = images.decoded(frame)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_rotation_of_a_tiff(channels: int, deflated: bool) -> None:
    numbers = drawn(HEIGHT, WIDTH, channels)
    turned = np.ascontiguousarray(np.rot90(numbers, -1))
    contents = [tiff(numbers, orientation=6, deflated=deflated), tiff(turned, deflated=deflated)]
    images = PictureImages(lambda: contents)
    traits = list(images.traits())
    assert traits[0] == traits[1] == Traits(WIDTH, HEIGHT, channels, 65_535)
    first, second = images.decoded(Frame(WIDTH, HEIGHT, channels))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_the_profile_of_a_png_is_kept() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = png(drawn(2, 3, 3), iCCP=b"any\0\0" + zlib.compress(profile))
    assert decoded(io.BytesIO(content), Frame(8, 8, 3)).info["icc_profile"] == profile


# Everything else

# The modes that Pillow can write.
WRITABLE = {
    "PNG": "1 L LA P RGB RGBA",
    "TIFF": "1 L LA P RGB RGBA CMYK",
    "JPEG": "1 L RGB CMYK",
    "WEBP": "1 L LA P RGB RGBA CMYK",
    "AVIF": "1 L LA P RGB RGBA CMYK",
    "BMP": "1 L P RGB RGBA",
    "GIF": "1 L LA P RGB RGBA",
    "PPM": "1 L RGB RGBA",
}


@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind, modes in WRITABLE.items() for mode in modes.split()],
)
def test_pictures_of_8_bits_are_what_pillow_makes_of_them(kind: str, mode: str) -> None:
    picture = Image.fromarray(drawn(HEIGHT, WIDTH, 3, highest=255).astype(np.uint8)).convert(mode)
    content = io.BytesIO()
    picture.save(content, kind)
    expected = Image.open(content)
    assert not is_deep(expected)
    expected.load()
    for white in (255, 65_535):
        found = decoded(io.BytesIO(content.getvalue()), Frame(8, 8, 3, white=white))
        assert (found.mode, found.size) == (expected.mode, expected.size)
        assert found.tobytes() == expected.tobytes()
        assert found.info.keys() == expected.info.keys()
    (traits,) = PictureImages(lambda: [content.getvalue()]).traits()
    assert isinstance(traits, Traits)
    assert traits.white == 255


def test_pixels_of_8_bits_are_not_read_to_find_white() -> None:
    # Their header ends after 33 bytes.
    for numbers, read_only in ((drawn(4, 5, 3).astype(np.uint8), True), (drawn(4, 5, 3), False)):
        content = io.BytesIO()
        if read_only:
            Image.fromarray(np.asarray(numbers, np.uint8)).save(content, "PNG")
        cut = (content.getvalue() if read_only else png(drawn(4, 5, 3)))[:45]
        (found,) = PictureImages(lambda cut=cut: [cut]).traits()  # type: ignore[misc]
        assert isinstance(found, Traits) == read_only


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([png, tiff]), st.sampled_from([1, 3, 4]), st.data())
def test_damage_of_any_kind_gives_a_picture_or_a_reason(
    write: Any, channels: int, data: st.DataObject
) -> None:
    content = bytearray(write(drawn(4, 5, channels)))
    for _ in range(data.draw(st.integers(1, 4))):
        most = 300 if write is tiff else len(content) - 1
        content[data.draw(st.integers(0, most))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    images = PictureImages(lambda: [cut])
    for item in (*images.traits(), *images.decoded(Frame(8, 8, 3))):
        if isinstance(item, Unusable):
            assert item.reason.endswith(".")
            assert len(item.reason) <= 400
