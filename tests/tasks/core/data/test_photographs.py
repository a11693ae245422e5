"""Pictures of every kind become images in the data set's format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from PIL import Image

from tasks.core.array_types import UInt8
from tasks.core.data.background import background_brightness
from tasks.core.data.photographs import (
    WHITE,
    ImageFormat,
    Invert,
    background_color,
    inverted,
    is_unlike,
    padded,
    prepared,
)
from tasks.core.data.picture_modes import Numbers, eight_bits, in_channels
from tasks.core.errors import UserError

FASHION = ImageFormat(28, 28, 1, background=0.0)
COLOUR = ImageFormat(24, 32, 3, background=0.9)
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")

inverts = st.sampled_from(["auto", "yes", "no"])
formats = st.builds(
    ImageFormat,
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from(["pad", "crop", "stretch"]),
    st.floats(0, 1),
)
pixels = st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 4)).flatmap(
    lambda shape: of_numpy.arrays(np.uint8, shape)
)


def picture(pixels: UInt8) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def product(height: int, width: int, garment: int, ground: int, mode: str = "L") -> Image.Image:
    """A garment in the middle half of a picture."""
    drawn = np.full((height, width), ground, np.uint8)
    drawn[height // 4 : -(height // 4), width // 4 : -(width // 4)] = garment
    image = Image.fromarray(drawn)
    # Pillow converts grey to these modes only by way of RGB.
    return (
        image.convert("RGB").convert("P").convert("PA")
        if mode == "PA"
        else (image.convert("RGB").convert(mode))
    )


@given(pixels, formats, inverts)
def test_any_picture_gets_the_data_sets_shape(
    given_pixels: UInt8, like: ImageFormat, invert: Invert
) -> None:
    found = prepared(picture(given_pixels), like, invert)
    assert found.pixels.shape == (like.height, like.width, like.channels)
    assert found.pixels.dtype == np.uint8
    assert not (found.inverted and found.unlike)
    if invert != "auto":
        assert found.inverted == (invert == "yes")
    if like.channels == 3:
        assert found.inverted == (invert == "yes"), "colours are never inverted unasked"


@given(
    of_numpy.arrays(np.uint8, (28, 28, 1)) | of_numpy.arrays(np.uint8, (28, 28, 3)),
    st.floats(0, 1),
)
def test_images_in_the_data_sets_format_keep_every_bit(given_pixels: UInt8, ground: float) -> None:
    like = ImageFormat(28, 28, given_pixels.shape[2], background=ground)
    for invert, expected in (
        ("auto", given_pixels), ("no", given_pixels), ("yes", 255 - given_pixels),
    ):  # fmt: skip
        found = prepared(picture(given_pixels), like, invert)  # type: ignore[arg-type]
        assert found.pixels.tobytes() == expected.tobytes()


@given(pixels)
def test_inverting_twice_restores_the_picture(given_pixels: UInt8) -> None:
    assert (inverted(inverted(given_pixels)) == given_pixels).all()
    assert (inverted(given_pixels).astype(int) + given_pixels == 255).all()


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_is_inverted_would_not_be_inverted_back(found: float, wanted: float) -> None:
    assert not (is_unlike(found, wanted) and is_unlike(1 - found, wanted))


@pytest.mark.parametrize(
    ("found", "wanted", "unlike"),
    [
        (1.0, 0.0, True), (0.61, 0.0, True), (0.59, 0.0, False), (0.5, 0.0, False),
        (0.0, 1.0, True), (0.45, 1.0, False), (1.0, 0.5, False), (0.0, 0.5, False),
    ],
)  # fmt: skip
def test_middle_grey_is_not_unlike(found: float, wanted: float, unlike: bool) -> None:
    assert is_unlike(found, wanted) == unlike


@given(pixels, st.integers(0, 20), st.integers(0, 20))
def test_padding_keeps_what_it_surrounds(given_pixels: UInt8, below: int, beside: int) -> None:
    around = given_pixels[-1, -1]
    height, width = given_pixels.shape[0] + below, given_pixels.shape[1] + beside
    found = padded(given_pixels, around, height, width)
    assert found.shape == (height, width, given_pixels.shape[2])
    top, left = below // 2, beside // 2
    inside = (slice(top, height - below + top), slice(left, width - beside + left))
    assert (found[inside] == given_pixels).all()
    outside = np.ones((height, width), bool)
    outside[inside] = False
    assert (found[outside] == around).all()


@given(st.integers(8, 199), st.integers(8, 199))
def test_a_picture_is_not_stretched(height: int, width: int) -> None:
    """A light picture with a dark frame, which separates it from the padding."""
    drawn = np.full((height, width), 200, np.uint8)
    drawn[0] = drawn[-1] = drawn[:, 0] = drawn[:, -1] = 0
    shown = prepared(Image.fromarray(drawn), FASHION, "no").pixels[..., 0] > 60
    scale = 28 / max(height, width)
    if min(height, width) * scale > 2:
        assert abs(shown.any(axis=1).sum() - (height - 2) * scale) <= 2.5
        assert abs(shown.any(axis=0).sum() - (width - 2) * scale) <= 2.5


def test_the_background_is_found_behind_a_thin_frame_and_in_a_close_crop() -> None:
    framed = np.full((400, 300), 250, np.uint8)
    framed[0] = framed[-1] = framed[:, 0] = framed[:, -1] = 0
    framed[100:300, 80:220] = 20
    assert background_color(Image.fromarray(framed)).tolist() == [250]
    cropped = np.full((400, 300), 20, np.uint8)
    cropped[:4] = cropped[-4:] = cropped[:, :4] = cropped[:, -4:] = 250
    found = prepared(Image.fromarray(cropped), FASHION)
    assert found.inverted
    assert found.pixels[14, 0, 0] == 5, "the padding"


@given(of_numpy.arrays(np.uint8, (20, 30, 1)))
def test_a_picture_s_background_is_measured_like_a_data_set_s(given_pixels: UInt8) -> None:
    found = float(background_color(picture(given_pixels))[0])
    assert found == pytest.approx(255 * background_brightness(given_pixels[np.newaxis]), abs=0.5)


@pytest.mark.parametrize("mode", MODES)
def test_a_dark_garment_on_a_light_background_in_every_mode(mode: str) -> None:
    found = prepared(product(80, 60, garment=20, ground=250, mode=mode), FASHION)
    assert found.inverted
    assert found.pixels[0, 0, 0] <= 10
    assert found.pixels[14, 14, 0] >= 230
    left = prepared(product(80, 60, garment=20, ground=250, mode=mode), FASHION, "no")
    assert not left.inverted
    assert left.unlike
    assert left.pixels[14, 14, 0] <= 30


@pytest.mark.parametrize("mode", MODES)
def test_a_light_garment_on_a_dark_background_in_every_mode(mode: str) -> None:
    found = prepared(product(60, 80, garment=230, ground=5, mode=mode), FASHION)
    assert not found.inverted
    assert not found.unlike
    assert found.pixels[0, 0, 0] <= 15
    assert found.pixels[14, 14, 0] >= 220


def test_dark_pictures_are_inverted_for_a_data_set_with_a_light_background() -> None:
    on_white = ImageFormat(28, 28, 1, background=1.0)
    assert prepared(product(60, 80, garment=230, ground=5), on_white).inverted
    assert not prepared(product(60, 80, garment=20, ground=250), on_white).inverted


@pytest.mark.parametrize("number", [-0.5, 255.5, np.nan])
def test_fractions_without_a_known_white_are_refused(number: float) -> None:
    with pytest.raises(UserError, match="8 or 16 bits"):
        prepared(Image.new("F", (40, 40), number), FASHION)


@pytest.mark.parametrize(
    ("highest", "white"),
    [(255, 255), (256, 1023), (1023, 1023), (4000, 4095), (9999, 16_383), (20_000, 65_535)],
)
def test_white_is_that_of_the_least_depth(highest: int, white: int) -> None:
    deep = Numbers(np.array([[[0], [highest]]], np.uint16), None, highest)
    assert np.asarray(deep.picture(255)).tolist() == [[0, round(highest / white * 255)]]


def test_opacity_may_have_more_bits_than_colours() -> None:
    colours = np.array([[[0, 2048, 4095], [4095, 0, 1]]], np.uint16)
    for full in (4095, 65_535):
        opacity = np.array([[full, full // 2]], np.uint16)
        found = Numbers(colours, opacity, 4095).picture(255)
        assert found.mode == "RGBA"
        assert np.asarray(found).tolist() == [[[0, 128, 255, 255], [255, 0, 0, 127]]]


def test_numbers_with_a_fraction_are_from_0_to_1_or_to_255() -> None:
    for numbers in ([0.0, 0.5, 1.0], [0.0, 127.6, 255.0]):
        found = eight_bits(Image.fromarray(np.array([numbers], np.float32)))
        assert np.asarray(found).tolist() == [[0, 128, 255]]


def test_grey_is_luma() -> None:
    colours = Image.fromarray(
        np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    )
    assert np.asarray(in_channels(colours, 1)).tolist() == [[76, 150, 29, 255]]


def test_a_cut_out_gets_a_white_background() -> None:
    drawn = np.zeros((56, 56, 4), np.uint8)
    drawn[14:42, 14:42] = (200, 10, 10, 255)
    found = prepared(Image.fromarray(drawn), ImageFormat(28, 28, 3, background=0.9))
    assert found.pixels[0, 0].tolist() == [WHITE] * 3
    assert found.pixels[14, 14].tolist() == [200, 10, 10]


def test_transparent_holes_get_the_background_around_them() -> None:
    drawn = np.zeros((56, 56, 4), np.uint8)
    drawn[...] = (30, 60, 90, 255)
    drawn[14:42, 14:42, 3] = 0
    found = prepared(Image.fromarray(drawn), ImageFormat(28, 28, 3, background=0.9)).pixels
    assert np.abs(found - np.array([30.0, 60.0, 90.0])).max() <= 2


def test_a_picture_is_rotated_by_its_exif_data() -> None:
    drawn = np.zeros((40, 40), np.uint8)
    drawn[:20] = 200
    sideways = Image.fromarray(drawn)
    sideways.getexif()[0x0112] = 6  # rotate clockwise by a quarter turn
    found = prepared(sideways, FASHION, "no").pixels[..., 0]
    assert (found[:, 20:] > 190).all()
    assert (found[:, :8] < 10).all()


def test_colour_pictures_are_padded_with_their_background() -> None:
    drawn = np.full((60, 20, 3), (240, 230, 220), np.uint8)
    drawn[20:40, 5:15] = (10, 100, 40)
    found = prepared(Image.fromarray(drawn), COLOUR)
    assert found.pixels[12, 0].tolist() == [240, 230, 220]
    assert not found.inverted


def test_extreme_proportions_are_prepared_too() -> None:
    for size in ((5000, 3), (3, 5000), (1, 1)):
        assert prepared(Image.new("L", size, 255), FASHION).pixels.shape == (28, 28, 1)
