"""Objects of an S3 bucket with the methods of `pathlib.Path` that the store needs.

An object appears whole or not at all. It carries the SHA-256 of its bytes as metadata, so that it
can be compared without being fetched; what is fetched is kept on this machine by that digest. What
must not be overwritten by accident is written on a condition (`If-Match`, `If-None-Match`), and a
lock is a lease: an object that its holder renews, and that others take over once it is not renewed.
Credentials, region and endpoint are those of the AWS SDK's environment variables and files.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tasks.core.errors import StorageError, UserError, without_password

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"
DIGEST = "sha256"
# A holder of a lease that is not heard of for that long has lost it. Renewed three times as often.
LEASE_S = 30.0
# The most that one request can send; what is larger goes in parts.
ONE_REQUEST = 5 * 1024**3
APPENDS = 100

CACHE_VARIABLE, LIMIT_VARIABLE = "FASHION_FLOW_CACHE", "FASHION_FLOW_CACHE_GB"
CACHE_GB = 20.0
# A file that was asked for lately may still be open by its name.
IN_USE_S = 3600.0
# Nobody still writes to a file that he began to write a day ago.
ABANDONED_S = 86400.0


class ConflictError(Exception):
    """A write on a condition that does not hold any more."""


@dataclass(frozen=True)
class Status:
    """Size in bytes and time of the last change of an object, as `os.stat_result` names them."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True)
class S3Path:
    """An object in a bucket, or the folder that its key is when others begin with it."""

    bucket: str
    key: str
    # As a listing told it; None where it is not known, or a folder.
    listed: Status | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, url: str) -> S3Path:
        """The path that `s3://bucket/prefix` names.

        Raises:
            UserError: there is no bucket in it, or more than a bucket and a prefix.
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        # Neither credentials nor a port have a place there, and nobody would want them in a log.
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise UserError(
                "store s3://...: expected s3://bucket/prefix, with the name of a bucket in lower "
                "case and nothing else; credentials and endpoint are environment variables "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)."
            )
        return cls(bucket, "/".join(part for part in prefix.split("/") if part))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

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
        """The folder that it is in."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

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
        with _explained(self):
            found = _client().list_objects_v2(Bucket=self.bucket, Prefix=self._prefix(), MaxKeys=1)
        return bool(found.get("KeyCount"))

    def stat(self) -> Status:
        """Size and time of the last change.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if self.listed:
            return self.listed
        found = self._head()
        return Status(found["ContentLength"], found["LastModified"].timestamp())

    def iterdir(self) -> Iterator[S3Path]:
        """What is directly below it."""
        prefix = self._prefix()
        for page in self._pages(Delimiter="/"):
            for folder in page.get("CommonPrefixes", ()):
                yield S3Path(self.bucket, folder["Prefix"].rstrip("/"))
            for item in page.get("Contents", ()):
                if item["Key"] != prefix:
                    yield _listed(self.bucket, item)

    def rglob(self, pattern: str) -> Iterator[S3Path]:
        """Every object below it whose name matches."""
        for page in self._pages():
            for item in page.get("Contents", ()):
                path = _listed(self.bucket, item)
                if fnmatch.fnmatchcase(path.name, pattern):
                    yield path

    def glob(self, pattern: str) -> Iterator[S3Path]:
        """What is below it and matches, part by part."""
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

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there with its first object."""

    def read_bytes(self) -> bytes:
        """The object's bytes, unchecked.

        Raises:
            FileNotFoundError: there is no such object.
        """
        content, _ = self._content()
        return content

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The object's bytes as text."""
        return self.read_bytes().decode(encoding, errors)

    def digest(self) -> tuple[str, int]:
        """SHA-256 and size of the object's bytes, as they are fetched now.

        Raises:
            FileNotFoundError: there is no such object.
        """
        found, size = hashlib.sha256(), 0
        for chunk in self._chunks():
            found.update(chunk)
            size += len(chunk)
        return found.hexdigest(), size

    def unlink(self, missing_ok: bool = True) -> None:  # noqa: ARG002 - S3 never says
        """Remove the object; it is no error if it is gone, as S3 has it."""
        with _explained(self):
            _client().delete_object(Bucket=self.bucket, Key=self.key)

    def remove_tree(self) -> None:
        """Remove it and all below it."""
        for page in self._pages():
            found = [item["Key"] for item in page.get("Contents", ())]
            if found:
                with _explained(self):
                    answer = _client().delete_objects(
                        Bucket=self.bucket,
                        Delete={"Objects": [{"Key": key} for key in found], "Quiet": True},
                    )
                for error in answer.get("Errors", ()):
                    raise StorageError(
                        f"{SCHEME}{self.bucket}/{error.get('Key')} can't be removed "
                        f"({error.get('Code')}).",
                        may_pass=error.get("Code") in ("InternalError", "SlowDown"),
                    )
        self.unlink()

    def stored_digest(self) -> str:
        """The SHA-256 that was stored with the object, nothing being fetched where there is one.

        Raises:
            FileNotFoundError: there is no such object.
        """
        found: str | None = self._head()["Metadata"].get(DIGEST)
        # What another program put there carries none.
        return found if found else self.digest()[0]

    def version(self) -> str | None:
        """What changes with each write of the object; None where there is none."""
        try:
            return str(self._head()["ETag"])
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """Put an object there in one piece."""
        self._put(content)

    def write_if(self, content: bytes, version: str | None) -> str:
        """Put an object there if it still has that version, None for none; return the new one.

        Raises:
            ConflictError: somebody else has written meanwhile.
        """
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            return self._put(content, **condition)
        except FileNotFoundError:
            raise ConflictError(f"{self} is gone") from None

    def append(self, line: bytes) -> None:
        """Add a line at the end, whoever else does the same meanwhile.

        Raises:
            StorageError: it can't be done for all the others.
        """
        # One process's writers need not disturb each other.
        with _appending:
            for attempt in range(APPENDS):
                try:
                    content, version = self._content()
                except FileNotFoundError:
                    content, version = b"", None
                # A request that was repeated, since its answer was lost, may have been carried out.
                if attempt and line in content.splitlines(keepends=True):
                    return
                ended = content if content.endswith(b"\n") or not content else content + b"\n"
                with suppress(ConflictError):
                    self.write_if(ended + line, version)
                    return
                time.sleep(0.05 * (1 + secrets.randbelow(8)))
        raise StorageError(f"{self}: too many write to it at once.", may_pass=True)

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """A path of this machine whose file takes the object's place if all went well."""
        with _temporary(self.suffix) as path:
            yield path
            digest = _digest(path)
            self._upload(path, digest)
            path.chmod(0o644)
            path.replace(_place(digest, self.suffix))
        _trim()

    def local(self, digest: str | None = None) -> Path:
        """A file of this machine with the object's bytes, fetched if it is not there yet.

        Args:
            digest: the SHA-256 that the bytes must have; by default the one stored with them.

        Raises:
            FileNotFoundError: it is not kept on this machine, and there is no such object.
            StorageError: it has other bytes. If its metadata say otherwise, which would be believed
                for ever, it is emptied.
        """
        head = self._head() if digest is None else None
        wanted = digest or (head["Metadata"].get(DIGEST) if head else None)
        if wanted is not None:
            kept = _place(wanted, self.suffix)
            with suppress(FileNotFoundError):
                if _digest(kept) == wanted:
                    os.utime(kept)
                    return kept
        with _temporary(self.suffix) as path:
            with _explained(self), path.open("wb") as handle:
                answer = _client().get_object(Bucket=self.bucket, Key=self.key)
                handle.writelines(answer["Body"].iter_chunks(1 << 20))
            found = _digest(path)
            if wanted is not None and found != wanted:
                if answer["Metadata"].get(DIGEST, found) != found:
                    self._empty(answer["ETag"])
                raise StorageError(f"{self} is not what was written; run again to restore it.")
            kept = _place(found, self.suffix)
            path.chmod(0o644)
            path.replace(kept)
        _trim()
        return kept

    def _empty(self, version: str) -> None:
        """Have the object miss at the next look; not every service deletes on a condition."""
        with suppress(ConflictError, OSError, StorageError), _explained(self):
            _client().put_object(Bucket=self.bucket, Key=self.key, Body=b"", IfMatch=version)

    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _pages(self, **options: str) -> Iterator[Mapping[str, Any]]:
        with _explained(self):
            pages = _client().get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self.bucket, Prefix=self._prefix(), **options)  # type: ignore[arg-type]

    def _head(self) -> Mapping[str, Any]:
        with _explained(self):
            return _client().head_object(Bucket=self.bucket, Key=self.key)

    def _content(self) -> tuple[bytes, str]:
        with _explained(self):
            answer = _client().get_object(Bucket=self.bucket, Key=self.key)
            return answer["Body"].read(), answer["ETag"]

    def _chunks(self) -> Iterator[bytes]:
        with _explained(self):
            answer = _client().get_object(Bucket=self.bucket, Key=self.key)
            yield from answer["Body"].iter_chunks(1 << 20)

    def _put(self, content: bytes, **condition: str) -> str:
        digest = hashlib.sha256(content).hexdigest()
        try:
            with _explained(self):
                answer = _client().put_object(
                    Bucket=self.bucket,
                    Key=self.key,
                    Body=content,
                    Metadata={DIGEST: digest},
                    **condition,  # type: ignore[arg-type]
                )
        except ConflictError:
            # A request that was repeated, since its answer was lost, may have been carried out.
            with suppress(FileNotFoundError):
                found = self._head()
                if found["Metadata"].get(DIGEST) == digest:
                    return str(found["ETag"])
            raise
        return answer["ETag"]

    def _upload(self, path: Path, digest: str) -> None:
        import boto3.exceptions

        with _explained(self):
            if path.stat().st_size <= ONE_REQUEST:
                with path.open("rb") as body:
                    _client().put_object(
                        Bucket=self.bucket, Key=self.key, Body=body, Metadata={DIGEST: digest}
                    )
                return
            try:
                _client().upload_file(
                    str(path), self.bucket, self.key, ExtraArgs={"Metadata": {DIGEST: digest}}
                )
            except boto3.exceptions.S3UploadFailedError as error:
                raise StorageError(f"{self}: {error}", may_pass=True) from None


class Lease:
    """A lock on a path, renewed by a thread of its own as long as this process lives.

    Whether a lease is still renewed is told by the server's clock alone.
    """

    def __init__(self, path: S3Path, holder: str, version: str, asked: float) -> None:
        self._path = path
        self._holder = holder
        self._version = version
        self._renewals = 0
        # Counted from before the request: others count from when the server had it.
        self._renewed = asked
        self._lost = False
        self._writing = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._renew, name=f"lease {path.name}", daemon=True).start()

    @classmethod
    def take(cls, path: S3Path) -> Lease | None:
        """The lease if it is free, or its holder has not renewed it; None if somebody has it."""
        found = _lease_at(path)
        if found is not None and found.held:
            return None
        holder, asked = secrets.token_hex(16), time.monotonic()
        try:
            version = path.write_if(_lease(holder, 0), found.version if found else None)
        except ConflictError:
            return None
        return cls(path, holder, version, asked)

    @property
    def held(self) -> bool:
        """Whether nobody else can have it yet."""
        return not self._lost and time.monotonic() - self._renewed < LEASE_S

    def confirm(self) -> bool:
        """Ask the server whether it is still ours; a clock may have stood still meanwhile."""
        with self._writing:
            if not self._lost:
                self._renew_once()
        return self.held

    def release(self) -> None:
        """Give it back, if it is still ours."""
        self._ended.set()
        with self._writing, suppress(ConflictError, OSError, StorageError):
            if self.held:
                self._path.write_if(_lease(None, self._renewals + 1), self._version)
            self._lost = True

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_S / 3):
            with self._writing:
                if self._ended.is_set() or self._lost:
                    return
                # What failed is tried again; `held` says how long that may go on.
                with suppress(OSError, StorageError):
                    self._renew_once()

    def _renew_once(self) -> None:
        asked = time.monotonic()
        self._renewals += 1
        try:
            self._version = self._path.write_if(_lease(self._holder, self._renewals), self._version)
        except ConflictError:
            found = _lease_at(self._path)
            # It may have been renewed by a request whose answer was lost.
            if found is None or found.holder != self._holder:
                self._lost = True
                return
            self._version = found.version
            self._renewed = max(self._renewed, asked - found.age)
            return
        self._renewed = asked


@dataclass(frozen=True)
class _Found:
    holder: str | None
    version: str
    age: float

    @property
    def held(self) -> bool:
        return self.holder is not None and self.age <= LEASE_S


def _lease(holder: str | None, renewals: int) -> bytes:
    # The number makes each renewal another version: of equal bytes S3 says that nothing changed.
    return json.dumps(
        {"holder": holder, "renewals": renewals, "nonce": secrets.token_hex(4)}
    ).encode()


def _lease_at(path: S3Path) -> _Found | None:
    """Who has a lease, and for how many seconds it has not been renewed; None without one."""
    from email.utils import parsedate_to_datetime

    try:
        with _explained(path):
            answer = _client().get_object(Bucket=path.bucket, Key=path.key)
            text = answer["Body"].read()
    except FileNotFoundError:
        return None
    try:
        holder = json.loads(text)["holder"]
    except (ValueError, KeyError, TypeError):
        # Nobody who holds it would have written this.
        holder = None
    now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return _Found(holder, answer["ETag"], (now - answer["LastModified"]).total_seconds())


def is_leased(path: S3Path) -> bool:
    """Whether somebody holds a lease, found without writing anything."""
    found = _lease_at(path)
    return found is not None and found.held


_appending = threading.Lock()


@cache
def _client() -> S3Client:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 5},
        max_pool_connections=64,
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except ValueError:
        # Not repeated: an address may hold a password.
        raise UserError("AWS_ENDPOINT_URL: expected https://HOST or https://HOST:PORT.") from None


def _listed(bucket: str, item: Mapping[str, Any]) -> S3Path:
    return S3Path(bucket, item["Key"], Status(item["Size"], item["LastModified"].timestamp()))


@contextmanager
def _explained(path: S3Path) -> Iterator[None]:
    """Turn what the library raises into what the store knows.

    Raises:
        FileNotFoundError: there is no such object.
        ConflictError: a condition does not hold.
        StorageError: anything else; waiting may help where the network or the server is at fault.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        raise _of_answer(path, error) from None
    except NoCredentialsError:
        raise StorageError(
            f"the store s3://{path.bucket} needs credentials: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        ) from None
    except BotoCoreError as error:
        why = without_password(str(error))
        raise StorageError(
            f"the store s3://{path.bucket} can't be reached ({why}); check the network, "
            "AWS_ENDPOINT_URL and AWS_REGION.",
            may_pass=True,
        ) from None


def _of_answer(path: S3Path, error: Any) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return StorageError(f"there is no bucket s3://{path.bucket}; make it, or name another.")
    if status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if status == 412 or code == "ConditionalRequestConflict":
        return ConflictError(str(path))
    if code == "EntityTooLarge":
        return StorageError(f"{path} is larger than the service takes.")
    if status in (400, 401, 403) and code not in ("RequestTimeout", "RequestTimeTooSkewed"):
        return StorageError(
            f"the store s3://{path.bucket} refuses {error.operation_name} ({code}): check the "
            "credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE), their rights "
            "to get, put, list and delete, and AWS_REGION."
        )
    return StorageError(
        f"the store s3://{path.bucket} answers {error.operation_name} with {status} {code}.",
        may_pass=True,
    )


# Files kept on this machine


def cache_folder() -> Path:
    """Where this machine keeps what it fetches."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fashion-flow"


def _cache() -> Path:
    folder = cache_folder()
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    return folder


def kept_locally(path: S3Path) -> Path:
    """Where this machine keeps a file that is written bit by bit and uploaded at its end."""
    return cache_folder() / "logs" / path.bucket / path.key


def _place(digest: str, suffix: str) -> Path:
    # Libraries choose the format by the suffix.
    return _cache() / "objects" / f"{digest}{suffix}"


@contextmanager
def _temporary(suffix: str) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=_cache(), prefix=".part-", suffix=suffix)
    os.close(handle)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _trim() -> None:
    """Remove what was not used for longest where more is kept than is allowed."""
    try:
        limit = float(os.environ.get(LIMIT_VARIABLE) or CACHE_GB) * 1e9
    except ValueError:
        raise UserError(f"{LIMIT_VARIABLE}: expected a number of gigabytes.") from None
    now = time.time()
    for path in _cache().glob(".part-*"):
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
    kept = []
    for path in (_cache() / "objects").iterdir():
        with suppress(FileNotFoundError):
            found = path.stat()
            kept.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in kept)
    for used, size, path in sorted(kept):
        if total <= limit or now - used < IN_USE_S:
            return
        path.unlink(missing_ok=True)
        total -= size
