"""Files that are not what their name says: web pages, pointers of Git LFS, empty files."""

from __future__ import annotations

from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.messages import first_line


def begin_of(path: Path, count: int = 512) -> bytes:
    """The first bytes of a file of data.

    Raises:
        UserError: it can't be read, is empty, a web page, or a pointer of Git LFS.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(count)
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({first_line(error)}); check it and its permissions."
        ) from error
    if not begin:
        raise UserError(f"{path}: the file is empty; get it again.")
    if begin.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path}: this is a pointer of Git LFS in place of the data; run `git lfs pull` there."
        )
    text = begin.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise UserError(
            f"{path}: this is a web page in place of the data, perhaps a notice that a download "
            "failed; get the file again."
        )
    return begin
