"""Turn the URL of a store into its root; nothing else chooses between disk and bucket."""

from __future__ import annotations

import errno

from tasks.core.errors import UserError
from tasks.core.messages import shortened
from tasks.storage.local_path import LocalPath
from tasks.storage.s3 import S3Path
from tasks.storage.s3_object import SCHEME
from tasks.storage.store_path import StorePath


def path_of(url: str) -> StorePath:
    """The folder or prefix that a path, a `file://` URL or an `s3://` URL names.

    Raises:
        UserError: the path is empty, a file, too long, in an unknown home, or below a folder that
            was removed; the `s3://` URL has no valid bucket; or the URL is of another kind.
    """
    if url.startswith(SCHEME):
        return S3Path.parse(url)
    if "://" in url and not url.startswith("file://"):
        # The rest is not repeated, since it may contain a password.
        scheme = url.partition("://")[0]
        raise UserError(f"store {scheme}://...: expected a folder, or s3://bucket/prefix.")
    path = url.removeprefix("file://")
    if not path:
        # Taken for the current folder, it would be littered by scripts with an unset variable.
        raise UserError("the store's name is empty; give a folder, or s3://bucket/prefix.")
    try:
        folder = LocalPath(path).expanduser().absolute()
    except FileNotFoundError:
        raise UserError(
            f"store {shortened(path, 100)}: the current folder was removed; change to another "
            "folder, or give the store's full path."
        ) from None
    except RuntimeError:
        raise UserError(
            f"store {shortened(url, 100)}: that home folder is not known; give a path without ~."
        ) from None
    try:
        is_file = folder.exists() and not folder.is_dir()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UserError(
            f"store {str(folder)[:100]}...: the path is too long; give another."
        ) from None
    if is_file:
        raise UserError(f"store {folder} is a file; give a folder.")
    return folder
