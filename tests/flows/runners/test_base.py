"""Which runners the options name, and which Dask addresses are accepted."""

from __future__ import annotations

from typing import Any

import pytest

from flows.build_model import build_model
from flows.runners.base import LOCAL, Runner, runner_of
from tasks.core.errors import UserError


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:8786",
        "tcp://localhost:8786",
        "tcp://[::1]:8786",
        "tls://127.0.0.1:8786",
        "tls://gpu-1.example.org:8786",
        "tls://192.0.2.7:8786",
    ],
)
def test_encrypted_and_loopback_addresses_are_accepted(address: str) -> None:
    assert runner_of(None, address) == Runner(kind="dask", address=address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://192.0.2.7:8786", "neither encrypted nor on this machine"),
        ("tcp://gpu-1:8786", "neither encrypted nor on this machine"),
        ("tcp://127.0.0.1.example.org:8786", "neither encrypted nor on this machine"),
        ("tcp://localhost.example.org:8786", "neither encrypted nor on this machine"),
        ("tcp://0.0.0.0:8786", "neither encrypted nor on this machine"),
        ("127.0.0.1:8786", "expected tls://HOST:PORT"),
        ("tcp://127.0.0.1", "expected tls://HOST:PORT"),
        ("tcp://127.0.0.1:8786@gpu-1:8786", "expected tls://HOST:PORT"),
        ("ws://127.0.0.1:8786", "expected tls://HOST:PORT"),
        ("inproc://127.0.0.1/1/1", "expected tls://HOST:PORT"),
        ("", "expected tls://HOST:PORT"),
    ],
)
def test_other_addresses_are_refused(address: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        runner_of("dask", address)


def test_only_the_dask_runner_takes_an_address() -> None:
    with pytest.raises(UserError, match="is only for the runner dask"):
        runner_of("local", "tcp://127.0.0.1:8786")
    assert runner_of(None, None) == LOCAL
    assert runner_of("dask", None) == Runner(kind="dask")


def test_only_other_hosts_are_elsewhere() -> None:
    assert Runner(kind="dask", address="tls://gpu-1:8786").elsewhere
    assert not Runner(kind="dask", address="tls://localhost:8786").elsewhere
    assert not Runner(kind="dask").elsewhere


def test_the_flow_accepts_a_runner_and_refuses_a_wrong_one() -> None:
    given = build_model.validate_parameters({"runner": {"kind": "dask"}})
    assert given["runner"] == Runner(kind="dask")
    schema: dict[str, Any] = build_model.parameters.model_dump()
    fields = schema["definitions"]["Runner"]["properties"]
    assert all(field["description"] for field in fields.values())
    with pytest.raises(Exception, match="neither encrypted"):
        build_model.validate_parameters({"runner": {"kind": "dask", "address": "tcp://a:1"}})
