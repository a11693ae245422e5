"""Data sets as a folder of IDX files with MNIST's names in any spelling, compressed or not."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.idx import LONGEST_HEADER, Header, check_size, parse_header
from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed
from tasks.sources import bounded_files
from tasks.sources.array_collection import Part, Pixels, collected
from tasks.sources.class_names import class_names_beside, read_class_names
from tasks.sources.collection import Collection
from tasks.sources.folder_listing import names_in
from tasks.sources.npy import batches_of
from tasks.sources.split_names import SYNONYMS, split_of
from tasks.sources.stored_arrays import rows_per_block
from tasks.sources.unzipped import is_gzip, opened

_SPLITS = "|".join(("t10k", *chain.from_iterable(SYNONYMS.values())))
_NAME = re.compile(
    rf"(?P<prefix>.*?)(?P<split>{_SPLITS})[-_. ]?"
    r"(?P<role>image|label)s?[-_. ]idx\d?(?:[-_. ]ubyte)?(?P<gz>\.gz)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _IdxFile:
    """An IDX file whose values were not read yet."""

    path: Path
    header: Header

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Blocks of its rows.

        Raises:
            UserError: it is damaged, or its size is not what it says.
        """
        header, origin = self.header, str(self.path)
        size = rows_per_block(header.shape, header.dtype)
        with _translated(self.path), opened(self.path) as stream:
            stream.read(header.start)
            found = header.start
            for block in batches_of(stream, header.shape, header.dtype, size):
                found += block.nbytes
                yield block
            check_size(header, found + len(stream.read(1)), origin)

    def whole(self) -> NDArray[Any]:
        """All of it."""
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.zeros(0, self.header.dtype)


def accepts(path: Path) -> bool:
    """Whether a path is a folder with an IDX file.

    Raises:
        UserError: it can't be read.
    """
    return bool(_named(path))


def files(path: Path) -> list[Path]:
    """The IDX files, and `class_names.txt` if it exists.

    Raises:
        UserError: several data sets are there, or `class_names.txt` is not a file.
    """
    names = class_names_beside(path)
    return sorted([*_roles(path).values(), *([names] if names else [])])


def read(path: Path) -> Collection:
    """Read the headers and labels; without `class_names.txt`, classes are called by their numbers.

    Raises:
        UserError: a file is missing or cannot be read, or the arrays do not fit together.
    """
    names = class_names_beside(path)
    roles = _roles(path)
    parts = []
    for split in ("train", "validation", "test"):
        images, labels = roles.get((split, "image")), roles.get((split, "label"))
        if images and labels:
            parts.append(_part(split, images, labels))
        elif images or labels:
            alone, missing = (images, "labels") if images else (labels, "images")
            raise UserError(
                f"{alone} has no {missing}; expected files like train-images-idx3-ubyte and "
                "train-labels-idx1-ubyte, both for each split."
            )
    return collected(parts, read_class_names(names) if names else None)


def _named(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """The files with names of IDX files."""
    found = ((folder / name, _NAME.fullmatch(name)) for name in names_in(folder))
    return [(file, match) for file, match in found if match and os.path.isfile(file)]


def _roles(folder: Path) -> Mapping[tuple[str, str], Path]:
    named = _named(folder)
    prefixes = sorted({match["prefix"].lower() for _, match in named})
    if len(prefixes) > 1:
        shown = [prefix.strip("-_. ") or "no prefix" for prefix in prefixes]
        raise UserError(
            f"{folder}: {len(prefixes)} data sets are here ({listed(shown)}); move one of them "
            "into a folder of its own."
        )
    found: dict[tuple[str, str], list[Path]] = {}
    for file, match in named:
        split = split_of(match["split"]) or "test"
        found.setdefault((split, match["role"].lower()), []).append(file)
    chosen = {}
    for role, same in found.items():
        # A file that was unpacked may lie beside its archive.
        plain = [file for file in same if file.suffix.lower() != ".gz"]
        if len(plain) > 1 or (len(same) > 1 and not plain):
            raise UserError(
                f"{folder}: {listed([file.name for file in same])} have the same role; remove all "
                "but one."
            )
        chosen[role] = (plain or same)[0]
    return chosen


def _part(split: str, images: Path, labels: Path) -> Part:
    pixels, classes = _idx_file(images), _idx_file(labels)
    header = pixels.header
    return Part(
        split,
        Pixels(images.name, str(images), header.shape, header.dtype, pixels.blocks),
        classes.whole(),
        str(labels),
    )


def _idx_file(path: Path) -> _IdxFile:
    with _translated(path), opened(path) as stream:
        header = parse_header(stream.read(LONGEST_HEADER), str(path))
    if not is_gzip(path):
        check_size(header, path.stat().st_size, str(path))
    limit = bounded_files.MAX_UNCOMPRESSED_BYTES
    if header.size > limit:
        raise UserError(f"{path}: unpacks to {header.size} bytes; expected at most {limit} bytes.")
    if not header.shape:
        raise UserError(f"{path} has one number without axes; expected images or their labels.")
    return _IdxFile(path, header)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            f"{path} can't be read ({first_line(error)}): it is damaged or truncated; get it again."
        ) from error
