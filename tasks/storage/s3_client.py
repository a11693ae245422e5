"""The client for S3, and the translation of its errors into the store's.

Credentials, region and endpoint come from the AWS SDK's environment variables and files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.core.errors import StorageError, UserError, without_password
from tasks.core.messages import shortened
from tasks.storage.store_path import ConflictError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Waits:
    """How long a client waits for a connection and for an answer, and how often it asks."""

    connect_s: float
    read_s: float
    attempts: int


PATIENT, HASTY = Waits(10, 60, 5), Waits(5, 10, 2)


@cache
def client(*, patient: bool = True) -> S3Client:
    """The process's client; its methods may be called from several threads.

    Args:
        patient: whether it waits for a slow service; otherwise it gives up within half a minute.

    Raises:
        UserError: the endpoint is not an address.
        BotoCoreError: another setting of the SDK can't be used; `explained` says which.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    waits = PATIENT if patient else HASTY
    config = Config(
        connect_timeout=waits.connect_s,
        read_timeout=waits.read_s,
        retries={"mode": "standard", "total_max_attempts": waits.attempts},
        max_pool_connections=64,
        # Not every service knows the checksums that the SDK would add. Without them it signs the
        # SHA-256 of every body, and the store compares what it reads with its own SHA-256.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        made = boto3.session.Session().client("s3", config=config)
        if urlsplit(made.meta.endpoint_url).hostname == "::1":
            # `NO_PROXY` can't exempt it: urllib looks for `[::1]`, with which httpx can't work.
            config = config.merge(Config(proxies={}))
            made = boto3.session.Session().client("s3", config=config)
        return made
    except BotoCoreError:
        # Some of them are ValueErrors, too.
        raise
    except ValueError:
        # The address is not repeated, since it may contain a password.
        raise UserError("AWS_ENDPOINT_URL: expected https://HOST or https://HOST:PORT.") from None


@contextmanager
def explained(bucket: str, path: str) -> Iterator[None]:
    """Turn the client's errors into those of the store.

    Args:
        bucket: the name of the bucket.
        path: the object's path, for messages.

    Raises:
        FileNotFoundError: there is no such object.
        ConflictError: the condition of a write does not hold.
        StorageError: anything else; it may pass if the network or the server is at fault.
    """
    from botocore import exceptions as boto

    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(bucket, path, error) from None
    except boto.BotoCoreError as error:
        raise _of_sdk(bucket, error) from None


def _of_sdk(bucket: str, error: Any) -> StorageError:
    """What an error means that the SDK raised without an answer of the service."""
    from botocore import exceptions as boto

    why = shortened(without_password(str(error)), 130)
    if isinstance(error, boto.NoCredentialsError):
        return StorageError(
            f"the store s3://{bucket} needs credentials: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        )
    network = (
        boto.HTTPClientError,
        boto.ConnectionError,
        boto.IncompleteReadError,
        boto.ChecksumError,
        boto.FlexibleChecksumError,
        # Credentials that another service would have given.
        boto.MetadataRetrievalError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
    )
    if isinstance(error, network):
        return StorageError(
            f"the store s3://{bucket} can't be reached ({why}); check the network, "
            "AWS_ENDPOINT_URL and AWS_REGION.",
            transient=True,
        )
    return StorageError(
        f"the store s3://{bucket} can't be used with these settings of the AWS SDK ({why}); "
        "correct or unset the variable AWS_..., or correct its file, by default ~/.aws/config "
        "or ~/.aws/credentials."
    )


def _of_answer(bucket: str, path: str, error: Any) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return StorageError(
            f"there is no bucket s3://{bucket}; create it, or name another with --store."
        )
    if status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if status == 412 or code == "ConditionalRequestConflict":
        return ConflictError(path)
    if code == "EntityTooLarge":
        return StorageError(f"{path} is larger than the service accepts; name another store.")
    if code == "RequestTimeTooSkewed":
        return StorageError(
            f"the store s3://{bucket} refuses requests because the clock of this machine is wrong; "
            "set it."
        )
    if status in (400, 401, 403) and code != "RequestTimeout":
        return StorageError(
            f"the store s3://{bucket} refuses {error.operation_name} ({code}): check the "
            "credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE), their rights "
            "to get, put, list and delete, and AWS_REGION."
        )
    return StorageError(
        f"the store s3://{bucket} answered {error.operation_name} with {status} {code}; try again.",
        # Waiting does not help if the service does not know such a request.
        transient=status not in (405, 411, 501),
    )
