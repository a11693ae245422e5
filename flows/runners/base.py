"""Where stages are computed: in threads of the flow's process, or on the workers of a cluster."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tasks.core.errors import UserError
from tasks.core.settings.base import Spec, explain
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import resolve_profile

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

RunnerKind = Literal["local", "dask"]

LOOPBACK = "127.0.0.1"
ADDRESS = re.compile(r"(?P<protocol>tcp|tls)://(?P<host>\[[0-9a-fA-F:]+\]|[^\s/:@\[\]]+):\d{1,5}")
# Threads that wait for inputs compute nothing; the slots bound what is computed at once.
WAITING_STAGES = 64


class Runner(Spec):
    """Where stages are computed; it changes no result.

    The fields are the options `--runner` and `--dask-address` of `fashion-flow run`.
    """

    kind: RunnerKind = Field(
        "local",
        description="local: in the flow's own process. dask: by worker processes, each of which "
        "computes one stage at a time.",
    )
    address: str | None = Field(
        None,
        description="A running Dask scheduler, tls://HOST:PORT or tcp://127.0.0.1:PORT. Without "
        "one, dask starts workers on this machine, which end with the run.",
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
            raise ValueError("the address of a Dask cluster goes with runner dask, not with local")
        found = ADDRESS.fullmatch(self.address)
        if not found:
            raise ValueError(
                f"expected tls://HOST:PORT or tcp://{LOOPBACK}:PORT, got {self.address!r}"
            )
        if found["protocol"] == "tcp" and not is_loopback(found["host"]):
            raise ValueError(
                f"{self.address} is neither encrypted nor on this machine. Dask unpickles what it "
                "is sent, so whoever reaches such a port runs code on every worker: use "
                f"tls://HOST:PORT, or a scheduler on {LOOPBACK} (docs/clusters.md)"
            )
        return self


LOCAL = Runner()


def runner_of(kind: str | None, address: str | None) -> Runner:
    """The runner that the options name; an address alone means a Dask cluster.

    Raises:
        UserError: the address is none, or one that anybody could listen on.
    """
    try:
        return Runner.model_validate(
            {"kind": kind or ("dask" if address else "local"), "address": address}
        )
    except ValidationError as error:
        raise UserError(f"{explain(error, '--dask-address')}.") from None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Place:
    """Where the stages of a run are computed.

    Attributes:
        profile: the execution profile there.
        at_once: how many stages are computed side by side.
        gpus: whether workers declare a resource `GPU`, of which stages that train take one each.
    """

    profile: Mapping[str, Any]
    at_once: int
    gpus: bool = False


def find_place(runner: Runner, execution: ExecutionSettings) -> Place:
    """What the settings mean where the stages will be computed; of a cluster, asked there.

    Raises:
        StageError: the cluster can't be reached, has no workers, or workers with other code or
            libraries.
        UserError: a GPU is asked for and there is none.
    """
    if runner.kind == "local":
        return Place(resolve_profile(execution), execution.workers)
    from flows.runners.dask import own_place, survey

    return survey(runner.address, execution) if runner.address else own_place(execution)


@contextmanager
def task_runner(runner: Runner, place: Place, run_id: str) -> Iterator[TaskRunner[Any]]:
    """What stages are submitted to, until all of them are done.

    Raises:
        StageError: the cluster was lost.
        UserError: its workers could not reach the Prefect server.
    """
    if runner.kind == "dask":
        from flows.runners.dask import cluster_runner

        with cluster_runner(runner, place, run_id) as on_cluster:
            yield on_cluster
        return
    from prefect.task_runners import ThreadPoolTaskRunner

    threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=WAITING_STAGES)
    with threads:
        yield threads
