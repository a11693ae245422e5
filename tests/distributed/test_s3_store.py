"""Runs with a store in a bucket: the same bytes as in a folder, the same caching and repair."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.processes import DEAD_PROXY, SMALL, Command, Finished, Server, Start, s3_server, wait_for
from tests.reliability.support import SHORT, contents, differing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUN_S = 300
TINY = (*SMALL, "--set", "plan=[]")


@dataclass
class Bucket:
    """An S3 server; `environment` names it, a cache folder and a Prefect server."""

    environment: Mapping[str, str]

    @property
    def client(self) -> S3Client:
        """A client that bypasses the program."""
        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Every object below a prefix."""
        client = self.client
        found = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
        names = [item["Key"] for page in found for item in page.get("Contents", ())]
        return {
            name.removeprefix(prefix): client.get_object(Bucket="bucket", Key=name)["Body"].read()
            for name in names
        }

    def digests(self, store: str) -> dict[str, str]:
        """SHA-256 of every file of every stage, by name, like `contents` for a folder."""
        found = self.objects(f"{store}/stages/")
        return {f"stages/{name}": hashlib.sha256(b).hexdigest() for name, b in found.items()}


@pytest.fixture(scope="module")
def bucket(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3_server(tmp_path_factory.mktemp("cache")) as environment:
        yield Bucket(environment | {"PREFECT_API_URL": shared_server.url})


@pytest.fixture(scope="module")
def first(bucket: Bucket, fashion_flow: Command) -> Finished:
    done = fashion_flow(
        "run", *TINY, "--store", "s3://bucket/small", **{**bucket.environment, **DEAD_PROXY}
    )
    assert done.status == 0, done.err
    return done


@pytest.mark.usefixtures("first")
def test_a_run_stores_the_same_bytes_as_in_a_folder(
    bucket: Bucket, fashion_flow: Command, tmp_path: Path
) -> None:
    server = bucket.environment["PREFECT_API_URL"]
    done = fashion_flow("run", *TINY, "--store", tmp_path / "store", PREFECT_API_URL=server)
    assert done.status == 0, done.err
    assert differing(bucket.digests("small"), contents(tmp_path / "store")) == []


def test_no_object_and_no_output_contains_credentials(bucket: Bucket, first: Finished) -> None:
    secret = bucket.environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in first.out + first.err
    found = bucket.objects("small/")
    assert any(name.endswith("/run.log") for name in found), "the log is there, too"
    assert [name for name, content in found.items() if secret.encode() in content] == []


@pytest.mark.usefixtures("first")
def test_another_machine_computes_only_what_is_damaged(
    bucket: Bucket, fashion_flow: Command, tmp_path: Path
) -> None:
    before = bucket.digests("small")
    (name,) = (name for name in before if name.startswith("stages/baseline/") and ".keras" in name)
    bucket.client.put_object(Bucket="bucket", Key=f"small/{name}", Body=b"damaged")
    elsewhere = {**bucket.environment, "FASHION_FLOW_CACHE": str(tmp_path / "another cache")}
    store = ("--store", "s3://bucket/small")
    looked = fashion_flow("verify", *store, **elsewhere)
    assert looked.status == 1
    assert "baseline" in looked.out
    done = fashion_flow("run", *TINY, *store, **elsewhere)
    assert done.status == 0, done.err
    assert bucket.digests("small") == before
    rows = json.loads(fashion_flow("runs", "--json", *store, **elsewhere).out)
    assert (rows[-1]["stages"]["completed"], rows[-1]["status"]) == (1, "done")
    page = Path(fashion_flow("report", *store, **elsewhere).out.strip())
    assert b"<!DOCTYPE html>" in page.read_bytes()


@pytest.mark.timeout(2 * RUN_S)
@pytest.mark.usefixtures("full")
def test_a_killed_run_is_continued_once_its_leases_expire(
    bucket: Bucket,
    fashion_flow: Command,
    start: Start,
    tmp_path: Path,
) -> None:
    settings = (*SHORT, "--set", "overfitting.epochs=12")
    alone = fashion_flow("run", *settings, "--store", tmp_path / "store")
    assert alone.status == 0, alone.err
    command = ("run", *settings, "--store", "s3://bucket/killed")
    process = start(*command, **bucket.environment)

    def in_training() -> bool:
        return any("/checkpoint-" in name for name in bucket.objects("killed/stages/overfitting/"))

    wait_for(in_training, RUN_S, "a training in progress")
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = fashion_flow(*command, **bucket.environment)
    assert done.status == 0, done.err
    assert "continues after epoch" in done.err
    assert "another run is computing it" in done.err, "the dead run's lease had not expired yet"
    assert differing(bucket.digests("killed"), contents(tmp_path / "store")) == []
