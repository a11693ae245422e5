"""Data sets in a bucket are listed, fetched and deleted again; errors say what to do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tasks.core.errors import StorageError, UserError
from tasks.sources import bounded_files
from tasks.sources.remote import fetched, is_remote, listed_dataset
from tasks.storage import s3_client
from tests.processes import s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("cache")) as environment:
        yield environment


@pytest.fixture(autouse=True)
def _here(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    s3_client.client.cache_clear()
    yield
    s3_client.client.cache_clear()
    assert os.listdir(tmp_path) == []


def put(prefix: str, *names: str, content: bytes = b"?") -> None:
    for name in names:
        s3_client.client().put_object(Bucket="bucket", Key=f"{prefix}/{name}", Body=content)


def refusal(url: str) -> str:
    with pytest.raises(UserError) as caught:
        listed_dataset(url)
    return str(caught.value)


def test_a_prefix_becomes_a_folder() -> None:
    put("a", "photos/cat/1.png", "photos/dog/2.png", "photos/dog/", "photos/.DS_Store", "../up.png")
    put("apart", "3.png")
    dataset = listed_dataset("s3://bucket/a/")
    assert [file.name for file in dataset.files] == ["photos/cat/1.png", "photos/dog/2.png"]
    with fetched(dataset) as folder:
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
        assert found == {"cat/1.png", "dog/2.png"}
        assert (folder / "cat" / "1.png").read_bytes() == b"?"
    assert not folder.exists()


def test_an_object_becomes_a_file() -> None:
    put("b", "data.zip", "data.zip.txt", content=b"123")
    with fetched(listed_dataset("s3://bucket/b/data.zip")) as path:
        assert (path.name, path.read_bytes()) == ("data.zip", b"123")


def test_more_objects_than_one_answer_lists() -> None:
    put("c", *(f"{number:04}" for number in range(1005)))
    assert len(listed_dataset("s3://bucket/c").files) == 1005


def test_the_digest_follows_names_and_contents_only() -> None:
    put("d", "x/1.png")
    put("e", "x/1.png")
    first = listed_dataset("s3://bucket/d").digest()
    assert first == listed_dataset("s3://bucket/e").digest()
    assert first != listed_dataset("s3://bucket/e/x").digest()
    put("d", "x/1.png", content=b"!")
    assert listed_dataset("s3://bucket/d").digest() != first
    put("e", "x/2.png")
    assert listed_dataset("s3://bucket/e").digest() != first


def test_what_has_changed_since_it_was_listed() -> None:
    put("f", "1.png")
    dataset = listed_dataset("s3://bucket/f")
    put("f", "1.png", content=b"other")
    with pytest.raises(UserError, match="changed while it was fetched"), fetched(dataset):
        pass
    s3_client.client().delete_object(Bucket="bucket", Key="f/1.png")
    with pytest.raises(UserError, match="changed while it was fetched"), fetched(dataset):
        pass


def test_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    put("g", "1.png", content=b"123")
    monkeypatch.setattr(bounded_files, "MAX_UNCOMPRESSED_BYTES", 2)
    with (
        pytest.raises(UserError, match="expected at most"),
        fetched(listed_dataset("s3://bucket/g")),
    ):
        pass


def test_keys_that_are_at_once_files_and_folders() -> None:
    put("h", "a", "a/b")
    with (
        pytest.raises(UserError, match="can't be copied"),
        fetched(listed_dataset("s3://bucket/h")),
    ):
        pass


def test_mistakes_in_the_address() -> None:
    assert is_remote("s3://bucket/x")
    assert not is_remote("/bucket/x")
    assert "no such bucket" in refusal("s3://nobodys-bucket/x")
    assert "no object of that name" in refusal("s3://bucket/nothing")
    for url in ("s3://", "s3://user:secret@host/x", "s3://B/x"):
        assert "expected s3://bucket/prefix" in refusal(url)
        assert "secret" not in refusal(url)


def test_no_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: str) -> Any:
        answer: Any = {
            "Error": {"Code": "AccessDenied"},
            "ResponseMetadata": {"HTTPStatusCode": 403},
        }
        raise ClientError(answer, "ListObjectsV2")

    monkeypatch.setattr(s3_client.client(), "get_paginator", refuses)
    assert "refuses ListObjectsV2 (AccessDenied); check the credentials" in refusal("s3://bucket/a")


def test_no_credentials_and_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(s3_client, "PATIENT", s3_client.Waits(1, 1, 1))
    s3_client.client.cache_clear()
    with pytest.raises(StorageError, match="can't be reached"):
        listed_dataset("s3://bucket/x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    s3_client.client.cache_clear()
    assert "needs credentials" in refusal("s3://bucket/x")
