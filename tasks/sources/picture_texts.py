"""Read the pictures in text tables with a row of pixels for each, as Kaggle has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.core.data.photographs import ImageFormat
from tasks.core.data.pixel_columns import Columns, in_order, label_end, pixel_positions
from tasks.core.data.pixel_values import Span, span_of
from tasks.core.errors import UserError
from tasks.sources.array_collection import Pixels
from tasks.sources.csv_pixels import Dialect, chunks, dialect, dtype_of, ends
from tasks.sources.picture_arrays import in_pixels, shape_of
from tasks.sources.picture_decoding import Undecoded

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def in_text(
    path: Path, source: str, like: ImageFormat, note: Callable[[str], None]
) -> Iterator[Undecoded]:
    """The pictures in a table, with or without a header and a column of labels.

    It is read twice, since the largest of all pixels says what white is.

    Args:
        path: the file.
        source: what it is called.
        like: the format of the images on which the model was trained.
        note: is given a sentence about each conversion.

    Raises:
        UserError: it is no table of pixels, can't be read, or has pixels of no or several meanings.
    """
    how = dialect(path)
    if how is None:
        raise UserError(
            "is not a table of pixels (label,pixel0,pixel1,...); of a table of file names, give "
            "the files or their folder."
        )
    where = _columns(path, how, like)
    number, dtypes, span = 0, set(), Span()
    for _, pixels in chunks(path, how, where):
        number += len(pixels)
        dtypes.add(pixels.dtype)
        span = span.joined(span_of(pixels))
    dtype = dtype_of(dtypes, span)
    shape = shape_of((number, *where.shape), like, str(path))
    yield from in_pixels(
        Pixels(
            path.name,
            str(path),
            shape,
            dtype,
            lambda: (pixels.astype(dtype, copy=False) for _, pixels in chunks(path, how, where)),
            span,
        ),
        source,
        like.white,
        note,
    )


def _columns(path: Path, how: Dialect, like: ImageFormat) -> Columns:
    """The columns of pixels; the label does not matter, but must not be taken for a pixel."""
    if how.names is not None:
        pixels, shape = in_order(how.names, pixel_positions(how.names), str(path))
        return Columns(pixels, None, shape)
    size = like.height * like.width
    positions = tuple(range(how.width))
    if how.width == size + 1:
        without = label_end(*ends(path, how), str(path))
        positions = positions[1:] if without == 0 else positions[:-1]
    elif how.width != size:
        raise UserError(
            f"has {how.width:,} columns without names; expected {size:,} pixels, perhaps with a "
            "label, or a header: label,pixel0,pixel1,..."
        )
    return Columns(positions, None, (size,))
