"""Open Parquet files that users bring, and read their columns of text and of class names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.messages import first_line, quoted
from tasks.sources.picture_decoding import MOST_PIXELS

# The number of values that a byte of a Parquet file may encode. Pixels rarely exceed ten; a file
# made to exhaust memory reaches a million.
MOST_VALUES_PER_BYTE = 100
# Columns are read in pieces of so many bytes; a column of pictures may take gigabytes.
BUFFER = 1 << 20
TOO_LARGE_TABLE = (
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

    try:
        # Opened here, since Arrow cannot open a path that is not UTF-8.
        with (
            path.open("rb") as opened,
            pq.ParquetFile(opened, buffer_size=BUFFER, pre_buffer=False) as file,
        ):
            check_table(file.metadata, path.stat().st_size, f"{path}: ")
            yield file
    except pa.ArrowException as error:
        raise UserError(
            f"{path}: is not a Parquet file, or is damaged ({first_line(error)}); get another copy."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({first_line(error)}); check it and its permissions."
        ) from None


def check_table(metadata: Any, size: int, origin: str = "") -> None:
    """Refuse a small file with a huge content: a repeated value takes hardly any space.

    Args:
        metadata: the file's `pyarrow.parquet.FileMetaData`.
        size: the file's size in bytes.
        origin: the begin of the message.

    Raises:
        UserError: a column unpacks to much more than the file's size.
    """
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            values = max(column.num_values, column.total_uncompressed_size)
            if values > max(MOST_PIXELS, MOST_VALUES_PER_BYTE * size):
                raise UserError(f"{origin}{TOO_LARGE_TABLE}")


def texts_of(file: Any, origin: str, names: list[str] | None = None) -> dict[str, list[str]]:
    """The columns of text, numbers and truth values as text, whole numbers without a fraction.

    Args:
        file: an open `ParquetFile`.
        origin: the begin of messages.
        names: the columns to read; by default, all of these types.

    Raises:
        UserError: a number stands for no class that the file's metadata name.
    """
    schema = file.schema_arrow
    wanted = [name for name in text_columns(schema) if names is None or name in names]
    # Without threads, since Arrow's can abort a process that ends soon after (apache/arrow#34314).
    table = file.read(columns=wanted, use_threads=False)
    texts = {}
    for name in wanted:
        known = class_names_of(schema, name)
        values = table.column(name).to_pylist()
        if known is not None and (wrong := _beyond(values, len(known))):
            raise UserError(
                f"{origin}: column {quoted(name)} has the number {max(wrong)}; expected at most "
                f"{len(known) - 1}, since its metadata name {len(known)} classes: correct one of "
                "them."
            )
        texts[name] = [_text(value, known) for value in values]
    return texts


def _beyond(values: list[Any], classes: int) -> list[int]:
    return [value for value in values if isinstance(value, int) and value >= classes]


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


def _text(value: Any, names: tuple[str, ...] | None) -> str:
    if value is None:
        return ""
    if names is not None and isinstance(value, int):
        # -1 stands for an image whose class is not known.
        return names[value] if 0 <= value < len(names) else ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
