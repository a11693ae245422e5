"""Read the pictures in Parquet tables, one row at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.core.data.photographs import ImageFormat
from tasks.core.data.pixel_columns import in_order, pixel_positions
from tasks.core.data.pixel_values import (
    Conversion,
    Span,
    conversion,
    is_number,
    settles,
    span_of,
)
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources.array_collection import Pixels
from tasks.sources.collection import as_picture
from tasks.sources.parquet_files import parquet_file
from tasks.sources.picture_arrays import in_pixels, shape_of
from tasks.sources.picture_decoding import Undecoded, decoded

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

PARQUET_NAMES = ("image", "images", "img", "bytes", "pixels")
# So many rows of columns of pixels are read at a time.
ROWS = 256

_EXPECTED = (
    "expected pictures as encoded bytes (binary, or a struct with `bytes`), or as lists or columns "
    "of pixels"
)


def in_parquet(
    path: Path, source: str, like: ImageFormat, note: Callable[[str], None]
) -> Iterator[Undecoded]:
    """The pictures in a Parquet table.

    These are in the first of its columns that `PARQUET_NAMES` lists, or in the only one of encoded
    pictures, or each row has a column for each pixel.

    Args:
        path: the file.
        source: what it is called.
        like: the format of the images on which the model was trained.
        note: is given a sentence about each conversion.

    Raises:
        UserError: it can't be read, is not a Parquet file, is damaged, has no such column or no
            rows, or its numbers have no or several meanings.
    """
    with parquet_file(path) as file:
        if file.metadata.num_rows == 0:
            raise UserError("has no rows, so it contains no picture; leave it out.")
        chosen = _chosen(file.schema_arrow)
        if chosen is None:
            yield from in_pixels(_columns(file, source, like), source, like.white, note)
            return
        into = _conversion(file, chosen, source, like.white, note)
        # One row at a time, since a picture may be large.
        for number, batch in enumerate(_batches(file, [chosen], 1)):
            value = batch.column(0)[0]
            yield Undecoded(f"{source}[{number}]", partial(_from_value, value, like, into))


def _chosen(schema: pa.Schema) -> str | None:
    """The column of pictures; None if there is a column for each pixel."""
    names = schema.names
    encoded = [name for name in names if _is_encoded(schema.field(names.index(name)).type)]
    known = [name for name in PARQUET_NAMES if name in names]
    if known or len(encoded) == 1:
        return (known or encoded)[0]
    if pixel_positions(names):
        return None
    raise UserError(
        f"has the columns {listed(names, 60) or 'none'}; {_EXPECTED}, in a column named "
        f"{', '.join(PARQUET_NAMES)}."
    )


def _is_encoded(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(part.name == "bytes" for part in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _batches(file: ParquetFile, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    # Without threads, since Arrow's threads can abort a process that ends soon after
    # (apache/arrow#34314).
    yield from file.iter_batches(rows, columns=list(names), use_threads=False)


def _columns(file: ParquetFile, source: str, like: ImageFormat) -> Pixels:
    """A table with a column for each pixel, as an array."""
    schema = file.schema_arrow
    positions, shape = in_order(schema.names, pixel_positions(schema.names), source)
    names = [schema.names[position] for position in positions]
    try:
        kinds = [np.dtype(schema.field(at).type.to_pandas_dtype()) for at in positions]
        dtype = np.result_type(*kinds)
    except (TypeError, NotImplementedError):
        dtype = np.dtype(object)

    def blocks() -> Iterator[NDArray[Any]]:
        for batch in _batches(file, names, ROWS):
            parts = [_numbers(batch.column(name)) for name in names]
            yield np.stack(parts, axis=1).astype(dtype, copy=False)

    whole = shape_of((file.metadata.num_rows, *shape), like, source)
    return Pixels(source, source, whole, dtype, blocks)


def _conversion(
    file: ParquetFile, name: str, source: str, white: int, note: Callable[[str], None]
) -> Conversion | None:
    """What the numbers in a column of lists mean; None for encoded pictures."""
    schema = file.schema_arrow
    kind = schema.field(schema.names.index(name)).type
    if not hasattr(kind, "value_type"):
        return None
    span, dtype = Span(), None
    for batch in _batches(file, [name], 1):
        found = batch.column(0)
        while hasattr(found.type, "value_type"):
            found = found.flatten()
        numbers = found.drop_null().to_numpy(zero_copy_only=False)
        dtype = numbers.dtype
        if not is_number(dtype):
            return None
        span = span.joined(span_of(numbers))
        if settles(dtype, span):
            break
    if dtype is None:
        return None
    into = conversion(dtype, span, source, white)
    # Lists of bytes as wider numbers are usual, so that is nothing to tell.
    if into.note and (dtype.kind in "bf" or into.white > 255):
        note(f"{source}: {into.note}.")
    return into


def _numbers(column: pa.Array) -> NDArray[Any]:
    if column.null_count:
        raise UserError("has empty cells among its pixels; fill them, or remove their rows.")
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found


def _from_value(scalar: Any, like: ImageFormat, into: Conversion | None) -> Image.Image:
    """A value of a Parquet column, an Arrow scalar, as a picture.

    Raises:
        UserError: it is neither encoded bytes nor numbers in the shape of a picture.
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
    if not isinstance(value, list) or into is None:
        raise UserError(f"is of type {type(value).__name__}; {_EXPECTED}.")
    return as_picture(into.convert(_from_list(value, like)))


def _from_list(value: list[Any], like: ImageFormat) -> NDArray[Any]:
    """Numbers `(h, w)` or `(h, w, 1, 3 or 4)`."""
    try:
        pixels = np.asarray(value)
    except ValueError:
        pixels = np.empty(0, object)
    shape = (like.height, like.width, like.channels)
    if pixels.shape == (np.prod(shape),):
        pixels = pixels.reshape(shape)
    pictures = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not pictures or not is_number(pixels.dtype):
        raise UserError(
            f"is a list {pixels.shape} of {pixels.dtype}; expected {np.prod(shape)} numbers, or "
            "numbers nested as rows (and channels)."
        )
    return pixels
