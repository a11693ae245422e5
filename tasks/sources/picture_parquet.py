"""Data sets as Parquet files of encoded pictures, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources.class_names import checked_class_names
from tasks.sources.collection import Collection, Entry, Unusable
from tasks.sources.folder_listing import listing
from tasks.sources.parquet_files import WITHOUT_CLASS, class_names_of, parquet_file, texts_of
from tasks.sources.picture_decoding import printable
from tasks.sources.picture_images import Encoded, PictureImages
from tasks.sources.row_columns import columns_of, entry_of, plain
from tasks.sources.split_names import split_in, split_of

EXPECTED = "Parquet files with a column `image` of encoded pictures and a column `label`"

SUFFIX = ".parquet"
# Names of columns of pictures, without regard to case; those of the first group are preferred.
NAMES = (("image",), ("img", "images", "picture", "photo", "bytes"))
# So many rows are read at once, of one column.
ROWS = 16

_NO_PICTURE = Unusable(
    "contains no picture; expected its bytes, since paths to other files are not followed."
)


@dataclass(frozen=True)
class Part:
    """A file with the rows that are taken.

    Attributes:
        path: the file.
        column: the name of its column of pictures.
        rows: for each row, whether it has a class and is taken.
    """

    path: Path
    column: str
    rows: Sequence[bool]


@dataclass
class Found:
    """What the files of a data set hold, but for the pictures."""

    entries: list[Entry] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    class_names: set[tuple[str, ...] | None] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)


def accepts(path: Path) -> bool:
    """Whether a path is a Parquet file with pictures, or a folder of such files."""
    try:
        first = files(path)[:1]
        if not first:
            return False
        with parquet_file(first[0]) as file:
            return _picture_column(file.schema_arrow) is not None
    except UserError:
        return False


def files(path: Path) -> list[Path]:
    """The Parquet files, sorted."""
    if os.path.isdir(path):
        return [path / name for name in listing(path).files if name.suffix.lower() == SUFFIX]
    return [path] if path.suffix.lower() == SUFFIX and os.path.isfile(path) else []


def read(path: Path) -> Collection:
    """Read all but the pictures; the splits are in the names of files, or in a column `split`.

    Raises:
        UserError: a file can't be read, has no column of pictures or of classes, or the names of
            only some files say their split.
    """
    found = Found()
    paths = files(path)
    root = path if os.path.isdir(path) else path.parent
    splits = _splits(paths, path) if os.path.isdir(path) else {}
    for file in paths:
        _add(found, file, root, splits.get(file))
    if not found.entries:
        raise UserError(f"{path}: has no rows with a class; expected {EXPECTED}.")
    names = found.class_names.pop() if len(found.class_names) == 1 else None
    return Collection(
        found.entries,
        PictureImages(lambda: _pictures(found.parts)),
        class_names=names and checked_class_names(names, str(path)),
        left_out=found.left_out,
    )


def _add(found: Found, path: Path, root: Path, split: str | None) -> None:
    """Add the rows of a file that have a class."""
    with parquet_file(path) as file:
        schema = file.schema_arrow
        picture = _picture_column(schema)
        if picture is None:
            raise UserError(f"{path}: has the columns {listed(schema.names)}; expected {EXPECTED}.")
        columns = columns_of(schema.names, picture, str(path))
        texts = texts_of(file, str(path), columns.described)
        found.class_names.add(class_names_of(schema, columns.label))
        count = file.metadata.num_rows
    if missing := [name for name in columns.described if name not in texts]:
        raise UserError(
            f"{path}: the columns {listed(missing)} hold neither text nor numbers; expected one "
            "class for each picture."
        )
    name = printable(path.relative_to(root).as_posix())
    for at in range(count):
        if not texts[columns.label][at]:
            continue
        row = {column: texts[column][at] for column in columns.described}
        entry = entry_of(f"{name}[{at}]", row, columns, f"{path}: row {at + 1:,}")
        found.entries.append(replace(entry, split=entry.split or split))
    taken = [bool(text) for text in texts[columns.label]]
    found.parts.append(Part(path, picture, taken))
    if taken.count(False):
        found.left_out[WITHOUT_CLASS] += taken.count(False)


def _pictures(parts: Sequence[Part]) -> Iterator[Encoded]:
    for part in parts:
        with parquet_file(part.path) as file:
            if file.metadata.num_rows != len(part.rows):
                raise UserError(
                    f"{part.path}: has changed since it was read first; start again, and leave it "
                    "as it is until the end."
                )
            # Without threads, since Arrow's can abort a process that ends soon after
            # (apache/arrow#34314).
            batches = file.iter_batches(ROWS, columns=[part.column], use_threads=False)
            values = (value for batch in batches for value in batch.column(0))
            for value, taken in zip(values, part.rows, strict=True):
                if taken:
                    yield _encoded(value.as_py())


def _encoded(value: Any) -> Encoded:
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else _NO_PICTURE


def _picture_column(schema: Any) -> str | None:
    """The first column that is named like one of pictures and holds bytes."""
    for group in NAMES:
        for name in schema.names:
            if plain(name) in group and _holds_bytes(schema.field(name).type):
                return str(name)
    return None


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return any(
        test(kind) for test in (types.is_binary, types.is_large_binary, types.is_binary_view)
    )


def _splits(paths: Sequence[Path], root: Path) -> dict[Path, str]:
    """The split of each file, from its name or a folder; none if no name says one.

    Raises:
        UserError: the names of only some files say their split.
    """
    splits = {}
    for path in paths:
        *folders, _ = path.relative_to(root).parts
        said = [split_in(path.stem), *map(split_of, reversed(folders))]
        if split := next((split for split in said if split), None):
            splits[path] = split
    silent = [printable(path.name) for path in paths if path not in splits]
    if splits and silent:
        raise UserError(
            f"{root}: the names of {listed(silent)} don't say a split, but those of other files "
            "do; begin them with train, validation or test, or move them away."
        )
    return splits
