"""Read the pictures in `.npz` archives and Parquet tables, one row at a time."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from tasks.core.data.photographs import ImageFormat
from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed
from tasks.sources.collection import as_picture
from tasks.sources.parquet_files import check_table
from tasks.sources.picture_decoding import MOST_PIXELS, TOO_LARGE, Undecoded, decoded
from tasks.storage.npz import Rows, read_rows

NPZ_NAMES = ("x", "images")
PARQUET_NAMES = ("image", "images", "img", "bytes", "pixels")

_NPZ_EXPECTED = (
    "expected an array (n, h, w) or (n, h, w, channels) with 1, 3 or 4 channels, uint8 from 0 to "
    "255, in C order, written with np.savez"
)
_PARQUET_EXPECTED = (
    "expected pictures as encoded bytes (binary, or a struct with `bytes`), or lists of pixels "
    "from 0 to 255"
)


def in_npz(path: Path, source: str, like: ImageFormat) -> Iterator[Undecoded]:
    """The pictures in an `.npz` archive: its array `x` or `images`, or the only one with images.

    Raises:
        UserError: there is no such array, or it is damaged; the pictures before the damage are
            yielded first.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                arrays = [name for name in archive.namelist() if name.endswith(".npy")]
            names = [name.removesuffix(".npy") for name in arrays]
            chosen = next((name for name in NPZ_NAMES if name in names), None)
            if chosen is None:
                chosen = _only_images(file, names)
            # One row at a time, since a header may announce rows of any size.
            with read_rows(file, chosen, 1) as rows:
                _check_array(chosen, rows.shape, rows.dtype, like)
                yield from _in_rows(rows, source)
        except (UserError, OSError):
            raise
        except Exception as error:
            raise UserError(f"can't be read ({first_line(error)}); {_NPZ_EXPECTED}.") from None


def _in_rows(rows: Rows, source: str) -> Iterator[Undecoded]:
    number = 0
    try:
        for row in rows.batches:
            yield Undecoded(f"{source}[{number}]", partial(as_picture, row[0]))
            number += 1
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        raise UserError(
            f"is damaged or cut off after {number:,} of {rows.shape[0]:,} pictures; get another "
            "copy."
        ) from None


def _only_images(file: IO[bytes], names: list[str]) -> str:
    images = []
    for name in names:
        with read_rows(file, name, 1) as rows:
            if _looks_like_images(rows.shape, rows.dtype):
                images.append(name)
    if len(images) != 1:
        which = f"several that may be images ({listed(images, 60)})" if images else "no images"
        raise UserError(
            f"has the arrays {listed(names, 60) or 'none'}, {which}; "
            f"{_NPZ_EXPECTED}, named x or images."
        )
    return images[0]


def _looks_like_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 and (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4)))


def _check_array(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], like: ImageFormat
) -> None:
    if dtype.hasobject:
        raise UserError(f"has Python objects in {name}, which are never loaded; {_NPZ_EXPECTED}.")
    if not _looks_like_images(shape, dtype):
        raise UserError(f"has {name} {dtype} {shape}; {_NPZ_EXPECTED}.")
    if shape[1:] != (like.height, like.width) and len(shape) == 3 and shape[2] in (3, 4):
        raise UserError(
            f"has {name} {shape}, which looks like one colour picture; write it as (1, h, w, 3)."
        )
    if min(shape) < 1:
        raise UserError(f"has {name} {shape}, so it contains no picture; leave it out.")
    if shape[1] * shape[2] > MOST_PIXELS:
        raise UserError(TOO_LARGE)


def in_parquet(path: Path, source: str, like: ImageFormat) -> Iterator[Undecoded]:
    """The pictures in a Parquet table: the first of its columns that `PARQUET_NAMES` lists.

    Raises:
        UserError: it is not a Parquet file, is damaged, or has no such column or no rows.
        OSError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Opened here, since Arrow cannot open a path that is not UTF-8.
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            names = file.schema_arrow.names
            chosen = next((name for name in PARQUET_NAMES if name in names), None)
            if chosen is None:
                raise UserError(
                    f"has the columns {listed(names) or 'none'}; "
                    f"{_PARQUET_EXPECTED}, in a column named {', '.join(PARQUET_NAMES)}."
                )
            if file.metadata.num_rows == 0:
                raise UserError("has no rows, so it contains no picture; leave it out.")
            check_table(file.metadata, path.stat().st_size)
            # One row at a time, since a picture may be large. Without threads, since Arrow's
            # threads can abort a process that ends soon after (apache/arrow#34314).
            batches = file.iter_batches(1, columns=[chosen], use_threads=False)
            for number, batch in enumerate(batches):
                value = batch.column(0)[0]
                yield Undecoded(f"{source}[{number}]", partial(_from_value, value, like))
    except pa.ArrowException as error:
        raise UserError(
            f"is not a Parquet file, or is damaged ({first_line(error)}); get another copy."
        ) from None


def _from_value(scalar: Any, like: ImageFormat) -> Image.Image:
    """A value of a Parquet column, an Arrow scalar, as a picture.

    Raises:
        UserError: it is neither encoded bytes nor numbers from 0 to 255 in the shape of a picture.
    """
    value = scalar.as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is None:
        raise UserError(
            "contains no picture; expected its bytes, since paths to other files are not followed."
        )
    if isinstance(value, bytes):
        return decoded(io.BytesIO(value), like)
    if not isinstance(value, list):
        raise UserError(f"is of type {type(value).__name__}; {_PARQUET_EXPECTED}.")
    return as_picture(_from_list(value, like))


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
