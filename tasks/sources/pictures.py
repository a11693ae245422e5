"""Pictures in files and folders, decoded and made into what a model is shown, one at a time."""

from __future__ import annotations

import io
import os
import stat
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.core.data.photographs import FILTER, ImageFormat, Invert, Prepared, eight_bits, prepared
from tasks.core.errors import UserError
from tasks.storage.npz import Rows, read_rows

# Pillow reads many more, some of them with other programs; these are common and well tried.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# What is looked for in folders; a file that is named itself may be called anything.
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npz", ".parquet")
)
# Pillow's own limit, above which a small file is more likely a trap than a picture.
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 0
THUMBNAIL = 160

NPZ_NAMES = ("x", "images")
PARQUET_NAMES = ("image", "images", "img", "bytes", "pixels")
# How many values a byte of a Parquet file may stand for: pixels rarely pass ten, traps a million.
MOST_VALUES_A_BYTE = 100

_TOO_LARGE = (
    f"has more than {MOST_PIXELS // 1_000_000} megapixels, as a file made to fill the memory "
    "would; make it smaller."
)
_TOO_LARGE_TABLE = (
    "unpacks to more than a hundred times its size, as a file made to fill the memory would; leave "
    "it out."
)
_UNKNOWN = (
    "is no picture that can be read (PNG, JPEG, WebP, BMP, TIFF or GIF), or a damaged one; convert "
    "it to PNG."
)
_NPZ_EXPECTED = (
    "expected what np.savez writes of an array (n, h, w) or (n, h, w, channels) with 1, 3 or 4 "
    "channels, uint8 from 0 to 255, in C order"
)
_PARQUET_EXPECTED = (
    "expected pictures as encoded bytes (binary, or a struct with `bytes`), or lists of pixels "
    "from 0 to 255"
)


@dataclass(frozen=True)
class Shown:
    """Two pictures for people, as PNG: as it was given, made small, and as the model sees it."""

    given: bytes
    seen: bytes


@dataclass(frozen=True)
class Picture:
    """A picture that could be read; `shown` only where it was asked for."""

    source: str
    prepared: Prepared
    shown: Shown | None


@dataclass(frozen=True)
class Unreadable:
    """A file, a folder or a picture in a file that could not be read, and what to do about it."""

    source: str
    reason: str


@dataclass(frozen=True)
class _Found:
    """A picture that is not decoded yet."""

    source: str
    decode: Callable[[], Image.Image]


def read_pictures(
    paths: Iterable[Path],
    like: ImageFormat,
    invert: Invert = "auto",
    *,
    show: int = 0,
    leave: Collection[Path] = (),
) -> Iterator[Picture | Unreadable]:
    """Read every picture below the paths, one at a time, made like those that the model knows.

    Args:
        paths: files, or folders, in which and below which all that look like pictures are taken in
            the order of their names. `.npz` and `.parquet` files hold many; any other holds one.
        like: the images that the model has learned from.
        invert: see `tasks.core.data.photographs.prepared`.
        show: of how many pictures, from the first on, thumbnails are wanted.
        leave: files that are not taken out of folders, since they are about to be written.
    """
    resolved = {os.path.realpath(path) for path in leave}
    for found in chain.from_iterable(_below(path, like, resolved) for path in paths):
        item = _read(found, like, invert, show=show > 0) if isinstance(found, _Found) else found
        if isinstance(item, Picture):
            show -= 1
        yield item


def _read(found: _Found, like: ImageFormat, invert: Invert, *, show: bool) -> Picture | Unreadable:
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which are of no interest here, and of far too many pixels.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = found.decode()
            image = prepared(picture, like, invert)
            return Picture(found.source, image, _shown(picture, image) if show else None)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            reason = _TOO_LARGE
        except UnidentifiedImageError:
            reason = _UNKNOWN
        except UserError as error:
            reason = str(error)
        except OSError as error:
            reason = _os_reason(error)
        except Exception as error:
            # Decoders raise whatever they stumble over in bytes that are not what they expect.
            reason = _damaged(error)
    return Unreadable(found.source, readable(reason))


def _os_reason(error: OSError) -> str:
    if not error.strerror:
        return _damaged(error)
    return f"can't be read: {error.strerror}; check the path and its permissions."


def _damaged(error: Exception) -> str:
    return f"is damaged ({_first_line(error)}); get it anew, or leave it out."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _shown(picture: Image.Image, image: Prepared) -> Shown:
    given = eight_bits(ImageOps.exif_transpose(picture)).copy()
    # Neither colour profiles nor where and when it was taken.
    given.info.clear()
    given.thumbnail((THUMBNAIL, THUMBNAIL), FILTER)
    return Shown(_png(given), _png(_from_array(image.pixels)))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def readable(path: Path | str) -> str:
    """A path as text that may be printed and stored: what is no printable character is escaped."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in str(path)
    )


def _below(path: Path, like: ImageFormat, leave: Collection[str]) -> Iterator[_Found | Unreadable]:
    if not os.path.isdir(path):
        yield from _in_file(path, like)
        return
    unlisted: list[OSError] = []
    empty = True
    for folder, folders, files in os.walk(path, onerror=unlisted.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(folder, name) for name in sorted(files)):
            hidden = file.name.startswith(".")
            if (
                file.suffix.lower() in SUFFIXES
                and not hidden
                and os.path.realpath(file) not in leave
            ):
                empty = False
                yield from _in_file(file, like)
    for error in unlisted:
        yield Unreadable(readable(error.filename), _os_reason(error))
    if empty and not unlisted:
        kinds = ", ".join(sorted(SUFFIXES))
        yield Unreadable(readable(path), f"has no pictures in it: no file ends with {kinds}.")


def _in_file(path: Path, like: ImageFormat) -> Iterator[_Found | Unreadable]:
    source = readable(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError("is neither a file nor a folder.")
        if status.st_size == 0:
            raise UserError("is empty (0 bytes).")
        match path.suffix.lower():
            case ".npz":
                yield from _in_npz(path, source, like)
            case ".parquet":
                yield from _in_parquet(path, source, like)
            case _:
                yield _Found(source, partial(_from_file, path, like))
    except UserError as error:
        yield Unreadable(source, readable(str(error)))
    except OSError as error:
        yield Unreadable(source, readable(_os_reason(error)))
    except Exception as error:
        # What zip, NumPy and Arrow raise for damaged files has no common name.
        yield Unreadable(source, readable(_damaged(error)))


def _from_file(path: Path, like: ImageFormat) -> Image.Image:
    with path.open("rb") as file:
        return _decoded(file, like)


def _decoded(file: IO[bytes], like: ImageFormat) -> Image.Image:
    """The one picture in a file.

    Raises:
        UserError: it has several.
        OSError, ValueError, ...: whatever Pillow makes of damaged files.
    """
    picture = Image.open(file, formats=FORMATS)
    # Phones put a preview or a map of depths behind a JPEG's picture, which Pillow calls MPO.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise UserError("has more than one picture in it (an animation, or pages); save one.")
    # Has a JPEG decoded at a fraction of its size, smoothly, where that is still more than enough.
    enough = 2 * max(THUMBNAIL, like.height, like.width)
    picture.draft(None, (enough, enough))
    picture.load()
    return picture


def _from_array(pixels: np.ndarray) -> Image.Image:
    """`(h, w)` or `(h, w, 1, 3 or 4)` uint8 as a picture."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _in_npz(path: Path, source: str, like: ImageFormat) -> Iterator[_Found]:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                arrays = [name for name in archive.namelist() if name.endswith(".npy")]
            names = [name.removesuffix(".npy") for name in arrays]
            chosen = next((name for name in NPZ_NAMES if name in names), None)
            if chosen is None:
                chosen = _only_images(file, names)
            # A row at a time, since a header may announce rows of any size.
            with read_rows(file, chosen, 1) as rows:
                _check_array(chosen, rows.shape, rows.dtype, like)
                yield from _in_rows(rows, source)
        except (UserError, OSError):
            raise
        except Exception as error:
            raise UserError(f"can't be read ({_first_line(error)}); {_NPZ_EXPECTED}.") from None


def _in_rows(rows: Rows, source: str) -> Iterator[_Found]:
    number = 0
    try:
        for row in rows.batches:
            yield _Found(f"{source}[{number}]", partial(_from_array, row[0]))
            number += 1
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        raise UserError(
            f"is damaged or cut off after {number:,} of {rows.shape[0]:,} pictures; get it anew."
        ) from None


def _only_images(file: IO[bytes], names: list[str]) -> str:
    images = []
    for name in names:
        with read_rows(file, name, 1) as rows:
            if _looks_like_images(rows.shape, rows.dtype):
                images.append(name)
    if len(images) != 1:
        which = f"several that may be images ({', '.join(images)})" if images else "no images"
        raise UserError(
            f"has the arrays {', '.join(names) or 'none'}, {which}; "
            f"{_NPZ_EXPECTED}, named x or images."
        )
    return images[0]


def _looks_like_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 and (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4)))


def _check_array(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], like: ImageFormat
) -> None:
    if dtype.hasobject:
        raise UserError(f"holds Python objects in {name}, which are not opened; {_NPZ_EXPECTED}.")
    if not _looks_like_images(shape, dtype):
        raise UserError(f"has {name} {dtype} {shape}; {_NPZ_EXPECTED}.")
    if shape[1:] != (like.height, like.width) and len(shape) == 3 and shape[2] in (3, 4):
        raise UserError(
            f"has {name} {shape}, which looks like one picture in colour; write it as (1, h, w, 3)."
        )
    if min(shape) < 1:
        raise UserError(f"has {name} {shape}, so there is no picture in it.")
    if shape[1] * shape[2] > MOST_PIXELS:
        raise UserError(_TOO_LARGE)


def _in_parquet(path: Path, source: str, like: ImageFormat) -> Iterator[_Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Arrow itself opens no path that is not UTF-8.
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            names = file.schema_arrow.names
            chosen = next((name for name in PARQUET_NAMES if name in names), None)
            if chosen is None:
                raise UserError(
                    f"has the columns {', '.join(names) or 'none'}; "
                    f"{_PARQUET_EXPECTED}, in a column named {', '.join(PARQUET_NAMES)}."
                )
            if file.metadata.num_rows == 0:
                raise UserError("has no rows, so there is no picture in it.")
            _check_table(file.metadata, path.stat().st_size)
            # A row at a time, since one may be as large as a picture may be.
            # Without threads, as everywhere: see `tasks.storage.stored_files`.
            batches = file.iter_batches(1, columns=[chosen], use_threads=False)
            for number, batch in enumerate(batches):
                value = batch.column(0)[0]
                yield _Found(f"{source}[{number}]", partial(_from_value, value, like))
    except pa.ArrowException as error:
        raise UserError(f"is no Parquet file, or a damaged one ({_first_line(error)}).") from None


def _check_table(metadata: Any, size: int) -> None:
    """Refuse what grows out of all proportion when it is read: a repeated value takes no room."""
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            values = max(column.num_values, column.total_uncompressed_size)
            if values > max(MOST_PIXELS, MOST_VALUES_A_BYTE * size):
                raise UserError(_TOO_LARGE_TABLE)


def _from_value(scalar: Any, like: ImageFormat) -> Image.Image:
    """What stands in a Parquet column, an Arrow scalar, as a picture.

    Raises:
        UserError: it is neither encoded bytes nor numbers from 0 to 255 in the shape of a picture.
    """
    value = scalar.as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is None:
        raise UserError("has no picture in it; paths to other files are not followed.")
    if isinstance(value, bytes):
        return _decoded(io.BytesIO(value), like)
    if not isinstance(value, list):
        raise UserError(f"is of type {type(value).__name__}; {_PARQUET_EXPECTED}.")
    return _from_array(_from_list(value, like))


def _from_list(value: list[Any], like: ImageFormat) -> np.ndarray:
    try:
        pixels = np.asarray(value)
    except ValueError:
        pixels = np.empty(0, object)
    shape = (like.height, like.width, like.channels)
    if pixels.shape == (np.prod(shape),):
        pixels = pixels.reshape(shape)
    pictures = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not pictures or pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
        raise UserError(
            f"is a list {pixels.shape} of {pixels.dtype}; expected whole numbers from 0 to 255, "
            f"{np.prod(shape)} of them or nested as rows (and channels)."
        )
    return pixels.astype(np.uint8)
