"""The names of a data set's classes, as given by a user."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed, quoted
from tasks.sources.bounded_files import decoded_text, read_uncompressed
from tasks.sources.class_folders import label_of

CLASS_NAMES_FILE = "class_names.txt"


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read one class name per line, in UTF-8, or in UTF-16 with its mark.

    Raises:
        UserError: the file is other text, a line is empty, or a name is repeated.
    """
    data = read_uncompressed(path, str(path), compressed=False)
    try:
        text = decoded_text(data)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected UTF-8 text, one class name per line ({first_line(error)}); open it "
            "in an editor and save it as UTF-8."
        ) from error
    # Not `splitlines`, since names may contain rarer signs that it takes for ends of lines.
    lines = re.split(r"\r\n|\r|\n", text.rstrip())
    return checked_class_names([line.strip() for line in lines], str(path))


def class_names_beside(folder: Path) -> Path | None:
    """The file with class names in a folder, if there is one.

    Raises:
        UserError: it is not a file.
    """
    path = folder / CLASS_NAMES_FILE
    # A pipe without a writer would be read forever.
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not a file; write one class name per line into a file.")
    return path if os.path.isfile(path) else None


def checked_class_names(names: Sequence[str], origin: str) -> tuple[str, ...]:
    """Return the names, without outer spaces and unprintable characters, if they are valid.

    Raises:
        UserError: there are none, one is empty, or some are equal; the message begins with
            `origin`.
    """
    names = [label_of(name) for name in names]
    if not all(names) or not names:
        found = listed([quoted(name) for name in names]) or "none"
        raise UserError(f"{origin}: expected one name per class, found {found}.")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise UserError(f"{origin}: class names must differ; repeated: {listed(repeated)}.")
    return tuple(names)
