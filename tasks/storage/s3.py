"""Paths of a store in an S3 bucket.

An object appears whole or not at all. Its metadata hold the SHA-256 of its bytes, so it can be
checked without being fetched. Fetched objects are kept on this machine under that digest.
Records and logs are written conditionally (`If-Match`, `If-None-Match`), and locks are leases.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.core.errors import StorageError, UserError
from tasks.core.records import digest_of
from tasks.storage import lease, object_cache
from tasks.storage.files import file_digest
from tasks.storage.lease import Lease, is_leased
from tasks.storage.s3_client import client
from tasks.storage.s3_object import DIGEST, SCHEME, S3Object
from tasks.storage.s3_trials import try_conditions, try_reading, try_writing
from tasks.storage.store_path import ConflictError

# Each attempt to take a lease is a request.
LEASE_POLL_S = 1.0
APPENDS = 100

# Threads of one process append in turn instead of refusing each other's writes.
_appending = threading.Lock()


@dataclass(frozen=True)
class ObjectStatus:
    """Size in bytes and time of the last change of an object, as `os.stat_result` names them."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True)
class S3Path(S3Object):
    """An object in a bucket, or a folder: a key with which other keys begin.

    The methods are described by `StorePath`.
    """

    # From a listing; None for folders and paths that were not listed.
    listed: ObjectStatus | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, url: str) -> S3Path:
        """The path that `s3://bucket/prefix` names.

        Raises:
            UserError: there is no bucket in it, or more than a bucket and a prefix.
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        # Credentials or a port are refused, and not repeated: they do not belong in a log.
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise UserError(
                "store s3://...: expected s3://bucket/prefix and nothing else, where the bucket's "
                "name has 3 to 63 lower-case letters, digits, dots and hyphens; credentials and "
                "endpoint are environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
                "AWS_ENDPOINT_URL)."
            )
        return cls(bucket, "/".join(part for part in prefix.split("/") if part))

    def __truediv__(self, name: str) -> S3Path:
        return S3Path(self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> S3Path:
        """The folder that contains it."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    # Looking

    def exists(self) -> bool:
        """Whether there is an object or a folder of that name."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object of that name."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether other objects' keys begin with it."""
        with self._explained():
            found = client().list_objects_v2(Bucket=self.bucket, Prefix=self._prefix(), MaxKeys=1)
        return bool(found.get("Contents"))

    def is_symlink(self) -> bool:
        """False: a bucket has no links."""
        return False

    def stat(self) -> ObjectStatus:
        """Size and time of the last change; raises `FileNotFoundError`."""
        if self.listed:
            return self.listed
        found = self._head()
        return ObjectStatus(found["ContentLength"], found["LastModified"].timestamp())

    def changed_at(self) -> float:
        """Time of the last change below it, in seconds since 1970; now if nothing is there."""
        return max((path.stat().st_mtime for path in self.rglob("*")), default=time.time())

    def iterdir(self) -> Iterator[S3Path]:
        """The objects and folders directly below it."""
        prefix = self._prefix()
        for page in self._pages(Delimiter="/"):
            for folder in page.get("CommonPrefixes", ()):
                yield S3Path(self.bucket, folder["Prefix"].rstrip("/"))
            for item in page.get("Contents", ()):
                if item["Key"] != prefix:
                    yield self._listed(item)

    def rglob(self, pattern: str) -> Iterator[S3Path]:
        """Every object below it whose name matches."""
        for page in self._pages():
            for item in page.get("Contents", ()):
                path = self._listed(item)
                if fnmatch.fnmatchcase(path.name, pattern):
                    yield path

    def glob(self, pattern: str) -> Iterator[S3Path]:
        """The objects and folders below it that match, part by part."""
        first, _, rest = pattern.partition("/")
        wild = any(sign in first for sign in "*?[")
        if wild:
            found = [path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, first)]
        elif rest:
            found = [self / first]
        else:
            found = [path for path in (self / first,) if path.exists()]
        for path in found:
            yield from path.glob(rest) if rest else (path,)

    def version(self) -> str | None:
        """The ETag, which changes with each write; None if there is no object."""
        try:
            return str(self._head()["ETag"])
        except FileNotFoundError:
            return None

    def stored_digest(self) -> str:
        """The SHA-256 stored with the object; an object without one is fetched.

        Raises:
            FileNotFoundError: there is no such object.
        """
        found: str | None = self._head()["Metadata"].get(DIGEST)
        # Objects that other programs wrote have none.
        return found if found else self.digest()[0]

    # Reading

    def read_bytes(self) -> bytes:
        """The object's bytes, not compared with any digest; raises `FileNotFoundError`."""
        with self._explained():
            return client().get_object(Bucket=self.bucket, Key=self.key)["Body"].read()

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The object's bytes as text; raises `FileNotFoundError`."""
        return self.read_bytes().decode(encoding, errors)

    def digest(self) -> tuple[str, int]:
        """SHA-256 and size of the bytes, which are fetched; raises `FileNotFoundError`."""
        found, size = hashlib.sha256(), 0
        for chunk in self._chunks():
            found.update(chunk)
            size += len(chunk)
        return found.hexdigest(), size

    def local(self, digest: str | None = None) -> Path:
        """A file of this machine with the object's bytes, fetched if it is not kept here.

        Args:
            digest: the SHA-256 that the bytes must have; by default the one stored with them.

        Raises:
            FileNotFoundError: it is not kept here, and there is no such object.
            StorageError: the object has other bytes. If its metadata claim the right digest, the
                object is emptied, so that later look-ups do not trust them.
        """
        wanted = digest or self._head()["Metadata"].get(DIGEST)
        kept = object_cache.find(wanted, self.suffix) if wanted else None
        if kept:
            return kept
        with object_cache.temporary(self.suffix) as path:
            claimed, version = self._fetch(path)
            found, _ = file_digest(path)
            if wanted and found != wanted:
                if claimed not in (None, found):
                    self._empty(version)
                raise StorageError(f"{self} does not match its SHA-256; run again to restore it.")
            return object_cache.keep(path, found)

    # Writing

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a folder exists as soon as it contains an object."""

    def write(self, content: bytes) -> None:
        """Write the object, whole or not at all."""
        self._put(content)

    def write_if(self, content: bytes, version: str | None) -> str:
        """Write the object if it still has that version (None: if there is none).

        Returns:
            The new version.

        Raises:
            ConflictError: another process has written in the meantime.
        """
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            return self._put(content, **condition)
        except FileNotFoundError:
            raise ConflictError(f"{self} is gone") from None

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """A temporary file that is uploaded, and kept on this machine, if the context ends well."""
        with object_cache.temporary(self.suffix) as path:
            yield path
            digest, size = file_digest(path)
            self._upload(path, digest, size)
            object_cache.keep(path, digest)

    def append(self, line: bytes) -> None:
        """Append a line; try again if another process writes at the same time.

        Raises:
            StorageError: others wrote first each of `APPENDS` times.
        """
        with _appending:
            for attempt in range(APPENDS):
                try:
                    found = self.read_aged()
                    content, version = found.content, found.version
                except FileNotFoundError:
                    content, version = b"", None
                # A request whose answer was lost may have succeeded before it was repeated.
                if attempt and line in content.splitlines(keepends=True):
                    return
                ended = content if content.endswith(b"\n") or not content else content + b"\n"
                with suppress(ConflictError):
                    self.write_if(ended + line, version)
                    return
                time.sleep(0.05 * (1 + secrets.randbelow(8)))
        raise StorageError(
            f"{self}: too many processes write to it at a time; run fewer.", transient=True
        )

    def unlink(self, missing_ok: bool = True) -> None:  # noqa: ARG002 - S3 does not report it
        """Remove the object; S3 does not report whether there was one."""
        with self._explained():
            client().delete_object(Bucket=self.bucket, Key=self.key)

    def remove_tree(self) -> None:
        """Remove it and everything below it that a listing shows."""
        # One by one: not every service removes several objects with one request.
        for path in self.rglob("*"):
            path.unlink()
        self.unlink()

    # Locks, logs and messages

    def hold(self) -> Lease | None:
        """Take the lease; None if another process or thread has it."""
        return Lease.take(self)

    def is_locked(self) -> bool:
        """Whether the lease is held; found without writing."""
        return is_leased(self)

    @property
    def poll_s(self) -> float:
        """Seconds between two attempts to take the lease."""
        return LEASE_POLL_S

    @property
    def lease_s(self) -> float:
        """Seconds that a lease may outlive its holder."""
        return lease.LEASE_S

    def trials(self) -> Mapping[str, Callable[[], None]]:
        """Reading, writing, and writing on a condition, on which locks and records depend."""
        return {
            "read": partial(try_reading, self),
            "written": partial(try_writing, self),
            "locked": partial(try_conditions, self),
        }

    def known_usable(self) -> bool:
        """Whether it passed its trials here within a day, under the same address and user."""
        return object_cache.remembers(self._passed())

    def remember_usable(self) -> None:
        """Remember it in the folder of fetched files; a failure is ignored."""
        with suppress(OSError):
            object_cache.remember(self._passed())

    def _passed(self) -> str:
        with self._explained():
            address = client().meta.endpoint_url
        # Rights may end at a prefix, and differ from user to user.
        users = [os.environ.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")]
        return digest_of([address, self.bucket, self.key, *users])

    def log_file(self) -> Path:
        """The file of this machine to which a log is written before it is uploaded."""
        return object_cache.log_file(self.bucket, self.key)

    def publish_log(self) -> None:
        """Upload the log as far as it is written; a failure is ignored."""
        with suppress(OSError, StorageError):
            self.write(self.log_file().read_bytes())

    def disk(self) -> tuple[str, Path]:
        """The folder of fetched files: errors of a disk come from there."""
        return f"the folder of {object_cache.CACHE_VARIABLE},", object_cache.cache_folder()

    def _listed(self, item: Mapping[str, Any]) -> S3Path:
        status = ObjectStatus(item["Size"], item["LastModified"].timestamp())
        return S3Path(self.bucket, item["Key"], status)
