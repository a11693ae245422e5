"""The requests to S3 that concern one object, or those below its key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import StorageError
from tasks.core.messages import first_line
from tasks.storage.lease import AgedContent
from tasks.storage.s3_client import client, explained
from tasks.storage.store_path import ConflictError

SCHEME = "s3://"
# The name of the metadata that hold an object's SHA-256.
DIGEST = "sha256"
# The most bytes that one request can send; larger files are sent in parts.
ONE_REQUEST = 5 * 1024**3
CHUNK = 1 << 20


@dataclass(frozen=True)
class S3Object:
    """A key in a bucket, with the requests about it."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def read_aged(self) -> AgedContent:
        """Content, version and age by the server's clock; raises `FileNotFoundError`."""
        from email.utils import parsedate_to_datetime

        with self._explained():
            answer = client().get_object(Bucket=self.bucket, Key=self.key)
            content = answer["Body"].read()
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        age_s = (now - answer["LastModified"]).total_seconds()
        return AgedContent(content, answer["ETag"], age_s)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.bucket, str(self))

    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _pages(self, **options: str) -> Iterator[Mapping[str, Any]]:
        with self._explained():
            pages = client().get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self.bucket, Prefix=self._prefix(), **options)  # type: ignore[arg-type]

    def _head(self) -> Mapping[str, Any]:
        with self._explained():
            return client().head_object(Bucket=self.bucket, Key=self.key)

    def _chunks(self) -> Iterator[bytes]:
        with self._explained():
            answer = client().get_object(Bucket=self.bucket, Key=self.key)
            yield from answer["Body"].iter_chunks(CHUNK)

    def _fetch(self, path: Path) -> tuple[str | None, str]:
        """Write the object's bytes to `path`; return its stored digest and its version."""
        with self._explained(), path.open("wb") as handle:
            answer = client().get_object(Bucket=self.bucket, Key=self.key)
            handle.writelines(answer["Body"].iter_chunks(CHUNK))
        return answer["Metadata"].get(DIGEST), answer["ETag"]

    def _put(self, content: bytes, **condition: str) -> str:
        digest = hashlib.sha256(content).hexdigest()
        try:
            with self._explained():
                answer = client().put_object(
                    Bucket=self.bucket,
                    Key=self.key,
                    Body=content,
                    Metadata={DIGEST: digest},
                    **condition,  # type: ignore[arg-type]
                )
        except ConflictError:
            # A request whose answer was lost may have succeeded before it was repeated.
            with suppress(FileNotFoundError):
                found = self._head()
                if found["Metadata"].get(DIGEST) == digest:
                    return str(found["ETag"])
            raise
        return answer["ETag"]

    def _upload(self, path: Path, digest: str, size: int) -> None:
        import boto3.exceptions

        metadata = {DIGEST: digest}
        with self._explained():
            if size <= ONE_REQUEST:
                with path.open("rb") as body:
                    client().put_object(
                        Bucket=self.bucket, Key=self.key, Body=body, Metadata=metadata
                    )
                return
            try:
                client().upload_file(
                    str(path), self.bucket, self.key, ExtraArgs={"Metadata": metadata}
                )
            except boto3.exceptions.S3UploadFailedError as error:
                raise StorageError(
                    f"{self} can't be written ({first_line(error)}); run again.", transient=True
                ) from None

    def _empty(self, version: str) -> None:
        """Empty the object, so that the next look-up misses it.

        Not every service deletes conditionally.
        """
        with suppress(ConflictError, OSError, StorageError), self._explained():
            client().put_object(Bucket=self.bucket, Key=self.key, Body=b"", IfMatch=version)
