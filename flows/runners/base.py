"""Runners and compute sites: the types behind `--runner` and `--dask-address`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from tasks.core.errors import UserError
from tasks.core.messages import quoted
from tasks.core.settings.base import Spec, explain

RunnerKind = Literal["local", "dask"]

LOOPBACK = "127.0.0.1"
ADDRESS = re.compile(r"(?P<protocol>tcp|tls)://(?P<host>\[[0-9a-fA-F:]+\]|[^\s/:@\[\]]+):\d{1,5}")


class Runner(Spec):
    """Where stages are computed; this does not affect results.

    The fields are the options `--runner` and `--dask-address` of `fashion-flow run`.
    """

    kind: RunnerKind = Field(
        "local",
        description="local: in the flow's own process. dask: in worker processes, each of which "
        "computes one stage at a time.",
    )
    address: str | None = Field(
        None,
        description="A running Dask scheduler, tls://HOST:PORT or tcp://127.0.0.1:PORT. Without "
        "an address, dask starts workers on this machine, which end with the run.",
    )

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines."""
        found = ADDRESS.fullmatch(self.address or "")
        return bool(found and not is_loopback(found["host"]))

    @model_validator(mode="after")
    def _check_address(self) -> Runner:
        if self.address is None:
            return self
        if self.kind != "dask":
            raise ValueError("the address of a Dask cluster is only for the runner dask")
        found = ADDRESS.fullmatch(self.address)
        if not found:
            raise ValueError(
                f"expected tls://HOST:PORT or tcp://{LOOPBACK}:PORT, got {quoted(self.address)}"
            )
        if found["protocol"] == "tcp" and not is_loopback(found["host"]):
            raise ValueError(
                f"{self.address} is neither encrypted nor on this machine. Dask unpickles every "
                "message, so anyone who can reach such a port can run code on every worker: use "
                f"tls://HOST:PORT, or a scheduler on {LOOPBACK} (docs/clusters.md)"
            )
        return self


LOCAL = Runner()


def runner_of(kind: str | None, address: str | None) -> Runner:
    """The runner that the options name; an address alone means a Dask cluster.

    Raises:
        UserError: the address is malformed, or neither encrypted nor on this machine.
    """
    try:
        return Runner.model_validate(
            {"kind": kind or ("dask" if address else "local"), "address": address}
        )
    except ValidationError as error:
        raise UserError(f"{explain(error, '--dask-address')}.") from None


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback interface."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class ComputeSite:
    """The process or the workers that compute the stages of a run.

    Attributes:
        profile: the execution profile there.
        concurrency: how many stages are computed in parallel.
        gpus: whether workers declare a resource `GPU`; each numerical stage then takes one.
    """

    profile: Mapping[str, Any]
    concurrency: int
    gpus: bool = False
