"""Find out whether a service of S3's API does what the store relies on, by trying it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, Self

from tasks.core.errors import StorageError, without_password
from tasks.storage.files import TEMPORARY
from tasks.storage.lease import LEASE_S, LeaseObject
from tasks.storage.s3_client import client, explained
from tasks.storage.store_path import ConflictError


class TriedPath(LeaseObject, Protocol):
    """The part of a path in a bucket that is tried."""

    @property
    def bucket(self) -> str:
        """The name of the bucket."""

    @property
    def key(self) -> str:
        """Its key in the bucket."""

    def __truediv__(self, name: str, /) -> Self: ...

    def write(self, content: bytes) -> None:
        """Write the object."""

    def version(self) -> str | None:
        """The version of the object."""

    def unlink(self) -> None:
        """Remove the object."""


def try_reading(root: TriedPath) -> None:
    """List the bucket; raises `StorageError` within half a minute if that is not possible."""
    with _explained(root):
        hasty = client(patient=False)
        hasty.list_objects_v2(Bucket=root.bucket, Prefix=root.key, MaxKeys=1)


def try_writing(root: TriedPath) -> None:
    """Write an object, read it and remove it; raises `StorageError` if that is not possible."""
    _try(root, _fault_of_writes)


def try_conditions(root: TriedPath) -> None:
    """Write on conditions that hold and that do not; nothing remains.

    Raises:
        StorageError: the service ignores or refuses `If-None-Match` or `If-Match`, or can't tell
            the age of an object.
    """
    _try(root, _fault_of_conditions)


def _try(root: TriedPath, fault_of: Callable[[TriedPath], str | None]) -> None:
    with _explained(root), _object(root) as path:
        fault = fault_of(path)
    if fault:
        address = without_password(client().meta.endpoint_url)
        raise StorageError(
            f"the store s3://{root.bucket}: the service at {address} {fault}, so runs could "
            "overwrite each other's results. Update it, or name another store with --store: a "
            "folder, or a bucket of Amazon S3, MinIO, Ceph or Cloudflare R2."
        )


@contextmanager
def _explained(root: TriedPath) -> Iterator[None]:
    """Turn errors into the store's, and an answer 404 into what it means for a whole service."""
    try:
        with explained(root.bucket, f"s3://{root.bucket}"):
            yield
    except FileNotFoundError:
        address = without_password(client().meta.endpoint_url)
        raise StorageError(
            f"the store s3://{root.bucket}: what answers at {address} is no S3 service (404); "
            "check AWS_ENDPOINT_URL, or name another store with --store."
        ) from None


@contextmanager
def _object(root: TriedPath) -> Iterator[TriedPath]:
    """A new object, which is removed at the end."""
    path = root / f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        yield path
    except BaseException:
        with suppress(OSError, StorageError):
            path.unlink()
        raise
    # Where a new object is not shown yet, the service may say that there is none.
    with suppress(FileNotFoundError):
        path.unlink()


def _fault_of_writes(path: TriedPath) -> str | None:
    path.write(b"written")
    return None if _content(path) == b"written" else "shows old content after a write"


def _fault_of_conditions(path: TriedPath) -> str | None:
    try:
        try:
            first = path.write_if(b"first", None)
        except ConflictError:
            return "refuses If-None-Match for a new object"
        if _accepts(path, b"late", None):
            return "ignores If-None-Match: it overwrites an object that exists"
        asked = time.monotonic()
        try:
            second = path.write_if(b"second", first)
        except ConflictError:
            return "refuses If-Match with the version that it gave itself"
        if _accepts(path, b"late", first):
            return "ignores If-Match: it overwrites a later version"
        found = path.read_aged()
        passed = time.monotonic() - asked
    except FileNotFoundError:
        return "shows old content after a write"
    except StorageError as error:
        if error.transient:
            raise
        # Writes without a condition are accepted.
        return f"refuses conditional writes ({str(error).partition(': ')[0].rstrip('.')})"
    except (KeyError, TypeError, ValueError):
        return "does not tell the age of an object (ETag, Last-Modified, Date)"
    if found.content != b"second" or path.version() != second:
        return "shows old content after a write"
    # A slow network makes it older.
    if not -LEASE_S / 3 <= found.age_s <= passed + LEASE_S / 3:
        return f"dates a new object {found.age_s:+.0f} s from its own clock"
    return None


def _accepts(path: TriedPath, content: bytes, version: str | None) -> bool:
    """Whether a write is accepted although its condition does not hold."""
    try:
        path.write_if(content, version)
    except ConflictError:
        return False
    return True


def _content(path: TriedPath) -> bytes | None:
    try:
        return path.read_aged().content
    except FileNotFoundError:
        return None
