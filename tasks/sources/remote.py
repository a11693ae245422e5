"""Data sets in an S3 bucket: what is there, and a copy of it in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tasks.core.errors import UserError
from tasks.core.records import digest_of
from tasks.sources.folder_listing import is_junk
from tasks.sources.temporary_folders import (
    check_space,
    filling,
    leads_out,
    temporary_folder,
    unwrapped,
)
from tasks.storage.s3 import S3Path
from tasks.storage.s3_client import client, explained
from tasks.storage.s3_object import CHUNK, SCHEME
from tasks.storage.store_path import ConflictError

# Most time goes into waiting for answers, since the objects are small.
THREADS = 16


@dataclass(frozen=True)
class RemoteFile:
    """An object: its key, its name in the data set with `/`, its version and its size in bytes."""

    key: str
    name: str
    version: str
    size: int


@dataclass(frozen=True)
class RemoteDataset:
    """The objects below a prefix, or the one of that name, sorted by name."""

    url: str
    bucket: str
    files: tuple[RemoteFile, ...]

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of names, versions (`ETag`) and sizes."""
        content = [(file.name, file.version, file.size) for file in self.files]
        return digest_of(content)


def is_remote(text: str) -> bool:
    """Whether a text is the address of a data set in a bucket."""
    return text.startswith(SCHEME)


def listed_dataset(url: str) -> RemoteDataset:
    """What an `s3://` address names; hidden objects are left out.

    Raises:
        UserError: the address is wrong, there is no such bucket, it may not be read, or nothing
            has such a name.
        StorageError: the service can't be reached.
    """
    try:
        path = S3Path.parse(url)
    except UserError:
        # The address is not repeated, since it may contain a password.
        raise UserError(
            "data set s3://...: expected s3://bucket/prefix or s3://bucket/object, with the name "
            "of a bucket in lower case; credentials and endpoint are environment variables "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)."
        ) from None
    files = []
    with suppress(FileNotFoundError), _explained(path):
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=path.bucket, Prefix=path.key):
            for item in page.get("Contents", ()):
                name = _name(item["Key"], path.key)
                if name is not None:
                    files.append(RemoteFile(item["Key"], name, item["ETag"], item["Size"]))
    if not files:
        raise UserError(
            f"{path}: there is no object of that name, nor any below it; check the address."
        )
    return RemoteDataset(str(path), path.bucket, tuple(sorted(files, key=lambda file: file.name)))


@contextmanager
def fetched(dataset: RemoteDataset) -> Iterator[Path]:
    """A copy of the objects on this machine, deleted when the context ends.

    Yields a folder; a file if there is only one.

    Raises:
        UserError: they are too large, the disk is full, or they have changed since they were
            listed.
        StorageError: the service can't be reached.
    """
    with temporary_folder(dataset.url) as folder:
        with filling(dataset.url):
            check_space(folder, sum(file.size for file in dataset.files), dataset.url)
            for parent in {(folder / file.name).parent for file in dataset.files}:
                parent.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(THREADS) as pool:
                # A list, so that errors are raised here.
                list(pool.map(partial(_fetch, dataset, folder), dataset.files))
        yield unwrapped(folder)


def _fetch(dataset: RemoteDataset, folder: Path, file: RemoteFile) -> None:
    path = S3Path(dataset.bucket, file.key)
    try:
        with _explained(path), (folder / file.name).open("wb") as opened:
            answer = client().get_object(Bucket=dataset.bucket, Key=file.key, IfMatch=file.version)
            opened.writelines(answer["Body"].iter_chunks(CHUNK))
            size = opened.tell()
    except (ConflictError, FileNotFoundError):
        size = -1
    if size != file.size:
        raise UserError(f"{path}: has changed while it was fetched; run again.")


@contextmanager
def _explained(path: S3Path) -> Iterator[None]:
    """Turn the client's errors into ours; those that are not about data sets stay the store's."""
    from botocore.exceptions import ClientError, NoCredentialsError

    with explained(path.bucket, str(path)):
        try:
            yield
        except NoCredentialsError:
            raise UserError(
                f"{path}: needs credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE."
            ) from None
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if code == "NoSuchBucket":
                raise UserError(
                    f"{path}: there is no such bucket; check its name, AWS_REGION and "
                    "AWS_ENDPOINT_URL."
                ) from None
            if status in (401, 403):
                raise UserError(
                    f"{path}: the service refuses {error.operation_name} ({code}); check the "
                    "credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) and their "
                    "rights to list and get."
                ) from None
            raise


def _name(key: str, prefix: str) -> str | None:
    """The name in the data set; None if the object is hidden, or not part of it."""
    if key == prefix:
        return PurePosixPath(key).name
    below = key.removeprefix(f"{prefix}/" if prefix else "")
    if prefix and below == key:
        return None
    path = PurePosixPath(below)
    hidden = not path.parts or any(map(is_junk, path.parts))
    # Consoles make empty objects for folders.
    return None if key.endswith("/") or hidden or leads_out(path) else path.as_posix()
