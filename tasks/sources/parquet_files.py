"""Open Parquet files that users bring, and read their columns of text and of class names."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.messages import first_line, quoted
from tasks.sources.mistaken_files import begin_of
from tasks.sources.picture_decoding import MOST_PIXELS

# The number of values that a byte of a Parquet file may encode. Pixels rarely exceed ten; a file
# made to exhaust memory reaches a million.
MOST_VALUES_PER_BYTE = 100
# Columns are read in pieces of so many bytes; a column of pictures may take gigabytes.
BUFFER = 1 << 20
# Why a row is left out.
WITHOUT_CLASS = "a row without a class"
_TOO_LARGE = (
    "unpacks to more than a hundred times its size, so it may be a file made to exhaust memory; "
    "leave it out."
)


@contextmanager
def parquet_file(path: Path) -> Iterator[Any]:
    """An open `pyarrow.parquet.ParquetFile`; errors inside the context name the file.

    Raises:
        UserError: it can't be read, is not a Parquet file, is damaged, or would exhaust memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    begin_of(path)
    try:
        # Opened here, since Arrow cannot open a path that is not UTF-8.
        with (
            path.open("rb") as opened,
            pq.ParquetFile(opened, buffer_size=BUFFER, pre_buffer=False) as file,
        ):
            _check_table(file.metadata, path)
            yield file
    except (pa.ArrowException, ValueError, MemoryError) as error:
        raise UserError(
            f"{path}: is not a Parquet file, or is damaged ({first_line(error)}); get another copy."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({first_line(error)}); check it and its permissions."
        ) from None


def _check_table(metadata: Any, path: Path) -> None:
    """Refuse a small file with a huge content: a repeated value takes hardly any space.

    Args:
        metadata: the file's `pyarrow.parquet.FileMetaData`.
        path: the file.

    Raises:
        UserError: a column unpacks to much more than the file's size.
    """
    most = max(MOST_PIXELS, MOST_VALUES_PER_BYTE * path.stat().st_size)
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            values = max(column.num_values, column.total_uncompressed_size)
            if values > most:
                raise UserError(f"{path}: {_TOO_LARGE}")


def texts_of(file: Any, origin: str, names: list[str] | None = None) -> dict[str, list[str]]:
    """The columns of text, numbers and truth values as text, whole numbers without a fraction.

    Args:
        file: an open `ParquetFile`.
        origin: the begin of messages.
        names: the columns to read; by default, all of these types.

    Raises:
        UserError: a value stands for no class that the file's metadata name.
    """
    schema = file.schema_arrow
    wanted = [name for name in text_columns(schema) if names is None or name in names]
    # Without threads, since Arrow's can abort a process that ends soon after (apache/arrow#34314).
    table = file.read(columns=wanted, use_threads=False)
    texts = {}
    for name in wanted:
        known = class_names_of(schema, name)
        values = [_plain(value) for value in table.column(name).to_pylist()]
        if known is not None and (wrong := _unknown(values, known)):
            raise UserError(
                f"{origin}: column {quoted(name)} has {quoted(wrong[0])}; expected whole numbers "
                f"up to {len(known) - 1}, since its metadata name {len(known)} classes: correct "
                "one of them."
            )
        texts[name] = [_text(value, known) for value in values]
    return texts


def _unknown(values: list[Any], classes: tuple[str, ...]) -> list[Any]:
    """The values that stand for none of the classes, nor for none at all."""
    return [
        value
        for value in values
        if value is not None
        and value not in classes
        and not (isinstance(value, int) and value < len(classes))
    ]


def labels_of(column: Any, names: tuple[str, ...] | None) -> list[str]:
    """The labels in an Arrow array of text, bytes or numbers, as text.

    Empty for rows without a class, to which a negative number belongs where classes have names.
    """
    values = [_plain(value) for value in column.to_pylist()]
    return [
        "" if names and isinstance(value, int) and value < 0 else _text(value, None)
        for value in values
    ]


def class_names_of(schema: Any, column: str) -> tuple[str, ...] | None:
    """The names that Hugging Face's `datasets` stores for the numbers of a column."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        feature = features[column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def text_columns(schema: Any) -> list[str]:
    """The columns of text, numbers and truth values."""
    return [name for name in schema.names if _is_text(schema.field(name).type)]


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
    )
    return any(test(kind) for test in tests)


def _plain(value: Any) -> Any:
    """A value as it was before pandas made numbers with gaps fractions, and gaps NaN."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def _text(value: Any, names: tuple[str, ...] | None) -> str:
    if value is None:
        return ""
    if names is not None and isinstance(value, int):
        # -1 stands for an image whose class is not known.
        return names[value] if 0 <= value < len(names) else ""
    return str(value)
