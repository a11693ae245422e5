"""What `usage.json` and the guide say about pictures is what the program does."""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tasks.core.data.depths import WHITES
from tasks.core.data.photographs import Frame, framed
from tasks.models.usage import from_pictures
from tasks.sources.picture_decoding import decoded
from tests.deep_pictures import png, tiff

GUIDE = Path(__file__).parents[3] / "docs" / "use-the-model.md"
Save = Callable[[Path], Any]


@pytest.fixture(scope="module")
def image_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., np.ndarray]:
    """The function in the guide."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "def image_of" in block]
    script = tmp_path_factory.mktemp("guide") / "script.py"
    script.write_text(code)
    found: Callable[..., np.ndarray] = runpy.run_path(str(script))["image_of"]
    return found


def drawn(height: int, width: int) -> Image.Image:
    """A picture with colours, edges and a ground."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), (240, 230, 220), np.uint8)
    middle = (abs(rows - height / 2) < height / 3) & (abs(columns - width / 2) < width / 4)
    pixels[middle] = (np.stack([rows, columns, rows + columns], -1) % 256)[middle]
    return Image.fromarray(pixels)


def cut_out(opaque: bool = False) -> Image.Image:
    picture = drawn(120, 70).convert("RGBA")
    alpha = np.full((120, 70), 255, np.uint8)
    alpha[: 90 if opaque else 20, :20] = 0
    if not opaque:
        alpha[:, :15] = alpha[:, -15:] = 100
    picture.putalpha(Image.fromarray(alpha))
    return picture


def other_profile() -> bytes:
    """A profile that is not sRGB: its red and blue are exchanged."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = content.replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be"))
    return content.replace(b"rXYZ", b"....").replace(b"bXYZ", b"rXYZ").replace(b"....", b"bXYZ")


def deep(white: int, opacity: int | None = None) -> NDArray[np.uint16]:
    """The picture or the cut-out of 16 bits per channel."""
    pixels = np.asarray(drawn(60, 90) if opacity is None else cut_out()).astype(np.uint32)
    full = np.array([white] * 3 + [opacity or 0])[: pixels.shape[2]]
    numbers: NDArray[np.uint16] = (pixels * full // 255).astype(np.uint16)
    return numbers


GREY = np.asarray(drawn(60, 90).convert("L"))
EXIF = Image.Exif()
EXIF[0x0112] = 6
PICTURES: dict[str, Save] = {
    "photo.jpg": lambda path: drawn(1500, 2100).save(path),
    "turned.jpg": lambda path: drawn(300, 200).save(path, exif=EXIF),
    "cmyk.jpg": lambda path: drawn(80, 50).convert("CMYK").save(path),
    "small.png": lambda path: drawn(5, 9).save(path),
    "line.png": lambda path: drawn(1, 500).save(path),
    "same.png": lambda path: drawn(28, 28).save(path),
    "same_grey.png": lambda path: drawn(28, 28).convert("L").save(path),
    "bits.png": lambda path: drawn(50, 40).convert("1").save(path),
    "cut_out.png": lambda path: cut_out().save(path),
    "half_opaque.png": lambda path: cut_out(opaque=True).save(path),
    "grey_cut_out.png": lambda path: cut_out().convert("LA").save(path),
    "palette.png": lambda path: drawn(60, 40).convert("P").save(path, transparency=3),
    "profile.png": lambda path: drawn(60, 40).save(path, icc_profile=other_profile()),
    "profile_cut_out.png": lambda path: cut_out().save(path, icc_profile=other_profile()),
    "profile_palette.png": lambda path: (
        drawn(60, 40).convert("P").save(path, icc_profile=other_profile())
    ),
    "profile_palette_cut_out.png": lambda path: (
        drawn(60, 40).convert("P").save(path, icc_profile=other_profile(), transparency=3)
    ),
    "damaged_profile.png": lambda path: drawn(60, 40).save(path, icc_profile=b"?" * 200),
    "bits16.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path),
    "bits12.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 16).save(path),
    "dark12.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 3).save(path),
    "colours16.png": lambda path: path.write_bytes(png(deep(65_535))),
    "colours12.png": lambda path: path.write_bytes(png(deep(4_095))),
    "colours16.tif": lambda path: path.write_bytes(tiff(deep(65_535), deflated=True)),
    "turned16.tif": lambda path: path.write_bytes(tiff(deep(9_999), order=">", orientation=6)),
    "cut_out16.png": lambda path: path.write_bytes(png(deep(4_095, opacity=65_535))),
    "cut_out12.tif": lambda path: path.write_bytes(tiff(deep(4_095, opacity=4_095), extra=2)),
    "bits32.tif": lambda path: Image.fromarray(GREY.astype(np.int32) * 100).save(path),
    "fractions.tif": lambda path: Image.fromarray(GREY.astype(np.float32) / 255).save(path),
    "fractions255.tif": lambda path: Image.fromarray(GREY.astype(np.float32)).save(path),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_the_guide_makes_the_same_images(
    name: str, channels: int, image_of: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / name
    PICTURES[name](path)
    for height, width, white in ((28, 28, 255), (17, 40, 255), (17, 40, 4_095)):
        frame = Frame(height, width, channels, white=white)
        expected = framed(decoded(io.BytesIO(path.read_bytes()), frame), frame)
        found = image_of(path, height, width, channels, white)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)


def test_the_profile_of_the_test_changes_colours(tmp_path: Path) -> None:
    images = []
    for profile in (None, other_profile()):
        path = tmp_path / "a.png"
        drawn(60, 40).save(path, icc_profile=profile)
        images.append(framed(Image.open(path), Frame(28, 28, 3)))
    assert not np.array_equal(images[0], images[1])


def test_steps_follow_channels_fit_and_white() -> None:
    texts = {
        (channels, fit, white): " ".join(from_pictures(channels, fit, white))
        for channels in (1, 3)
        for fit in ("pad", "crop", "stretch")
        for white in WHITES
    }
    assert len(set(texts.values())) == len(texts)
    for (channels, fit, white), text in texts.items():
        assert ("0.299" in text) == (channels == 1)
        assert ("Centre it on the background" in text) == (fit == "pad")
        whites = " or ".join(str(one) for one in WHITES if one >= white)
        assert f"White is {whites}{',' if white < WHITES[-1] else '.'}" in text
