"""Read tables of text: CSV, TSV, JSON Lines and Parquet, every cell as it is written."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.messages import first_line, quoted
from tasks.sources.bounded_files import decoded_text, read_uncompressed
from tasks.sources.mistaken_files import begin_of
from tasks.sources.parquet_files import parquet_file, text_columns, texts_of

TEXT_SUFFIXES = frozenset((".csv", ".tsv"))
JSON_SUFFIXES = frozenset((".jsonl", ".ndjson"))
SUFFIXES = TEXT_SUFFIXES | JSON_SUFFIXES | {".parquet"}
DELIMITERS = ",;\t"
# Enough for the names of all columns of a list; those of a table of pixels take more.
HEADER_BYTES = 1 << 16
# A table with more columns describes pixels and not files.
MOST_COLUMNS = 100
_POINTED = re.compile(r"[-+]?\d+\.0+")
_PIXEL = re.compile(r"(pixel|px|p|x)?[\W_]*\d+([\W_x]+\d+)*", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: the cells by column.
        rows: the number of each row, for messages, as an editor shows it.
    """

    columns: dict[str, list[str]]
    rows: Sequence[int]


def header_of(path: Path) -> list[str] | None:
    """The names of a table's columns of text and numbers; None if they can't be read."""
    try:
        if path.suffix.lower() == ".parquet":
            with parquet_file(path) as file:
                return text_columns(file.schema_arrow)
        with path.open("rb") as opened:
            text = decoded_text(opened.read(HEADER_BYTES), errors="ignore")
    except (OSError, UserError):
        return None
    line = _first_line(text)
    if path.suffix.lower() in JSON_SUFFIXES:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return list(row) if isinstance(row, dict) else None
    return [cell.strip().strip('"') for cell in line.split(_delimiter(line))]


def has_pixels(header: Sequence[str]) -> bool:
    """Whether columns are those of a table of pixels, or numbers, as without a header."""
    pixels = sum(_PIXEL.fullmatch(name.strip()) is not None for name in header)
    return len(header) > MOST_COLUMNS or pixels > max(1, len(header) // 2)


def read_table(path: Path) -> Table:
    """Read a table; columns without cells that are text or numbers are left out.

    Raises:
        UserError: it can't be read, is no table, or has rows of other lengths.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet(path)
    text = _text(path)
    return _from_json(text, path) if suffix in JSON_SUFFIXES else _from_csv(text, path)


def _text(path: Path) -> str:
    begin_of(path)
    content = read_uncompressed(path, str(path), compressed=False)
    try:
        text = decoded_text(content)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line:,} is not UTF-8 text ({first_line(error, 60)}); save the table as "
            "UTF-8 (CSV UTF-8 in Excel)."
        ) from None
    if "\0" in _first_line(text):
        raise UserError(
            f"{path}: line 1 has NUL characters, so this is no table or is in UTF-16 without its "
            "mark; save it as UTF-8 (CSV UTF-8 in Excel)."
        )
    return text


def _first_line(text: str) -> str:
    return re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]


def _delimiter(line: str) -> str:
    """The delimiter that occurs most often in a line, outside of quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=bare.count)


def _from_csv(text: str, path: Path) -> Table:
    import pandas as pd

    # Lines before the header would be taken for it.
    table = text.lstrip("\r\n")
    skipped = len(text[: len(text) - len(table)].splitlines())
    try:
        # Without a header for pandas: it would number columns of equal names, and take the first
        # column for names of rows if rows are longer than the header.
        frame = pd.read_csv(
            io.StringIO(table),
            sep=_delimiter(_first_line(table)),
            header=None,
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            skip_blank_lines=False,
            skipinitialspace=True,
        ).fillna("")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(
            f"{path}: is not a table ({first_line(error)}); expected one row for each picture, "
            "with the same number of columns, and their names in the first row."
        ) from None
    filled = frame[(frame != "").any(axis=1)]
    names = [str(name).strip() for name in filled.iloc[0]] if len(filled) else []
    repeated = sorted({name for name in names if names.count(name) > 1 and name})
    if repeated:
        raise UserError(
            f"{path}: has several columns called {quoted(repeated[0])}; rename all but one."
        )
    cells = filled.iloc[1:]
    columns = {name: list(cells[at]) for at, name in enumerate(names) if name}
    return Table(columns, [int(row) + 1 + skipped for row in cells.index])


def _from_json(text: str, path: Path) -> Table:
    rows: list[dict[str, str]] = []
    numbers = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = first_line(error)
        if not isinstance(row, dict):
            raise UserError(
                f"{path}: line {number:,} is no JSON object ({quoted(row)}); expected "
                '{"file_name": "a.jpg", "label": "cat"} in each line.'
            )
        rows.append({key: cell for key, value in row.items() if (cell := _cell(value)) is not None})
        numbers.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    return Table({name: [row.get(name, "") for row in rows] for name in names}, numbers)


def without_points(cells: Sequence[str]) -> Sequence[str]:
    """The cells of a column; whole numbers that all have a point, as pandas writes them, without.

    A column with anything else stays as it is written.
    """
    filled = [cell for cell in cells if cell.strip()]
    if not filled or not all(_POINTED.fullmatch(cell.strip()) for cell in filled):
        return cells
    return [cell.strip().split(".")[0] for cell in cells]


def _cell(value: Any) -> str | None:
    """A value of JSON as text, whole numbers without a fraction; None for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def _from_parquet(path: Path) -> Table:
    with parquet_file(path) as file:
        columns = texts_of(file, str(path))
        return Table(columns, range(1, file.metadata.num_rows + 1))
