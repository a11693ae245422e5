"""Deployments: the flow with its settings, run by workers on demand or on a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

import httpx

from flows.deployment.pools import Pool
from flows.deployment.recovery import HEARTBEAT_S, set_up_recovery
from flows.runners.base import LOCAL, Runner
from flows.running.server_address import prepare_prefect
from flows.running.server_check import prefect_settings, require_server
from tasks.core.errors import UserError, without_password
from tasks.core.messages import first_line, quoted
from tasks.core.settings.run_settings import Settings
from tasks.storage.store import Store

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Schedule

# Environment variables that every run on a worker needs. The rest comes from the worker.
ENVIRONMENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    "PREFECT_LOGGING_EXTRA_LOGGERS": "fashion_flow",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class DeploymentRequest:
    """A deployment that a user asks for.

    Attributes:
        name: the name of the deployment and of its queue in the pool.
        pool: the work pool, which is created if it does not exist.
        settings: everything that the results of its runs depend on.
        store: where its runs keep their results.
        require_success: whether a run fails if a success criterion is not met.
        runner: where stages are computed.
        cron: the schedule; without one, it runs only on demand.
        timezone: the time zone of `cron`.
        env: NAME=VALUE for the environment of its runs; a value may refer to a Prefect block.
    """

    name: str
    pool: Pool
    settings: Settings
    store: Store
    require_success: bool = False
    runner: Runner = LOCAL
    cron: str | None = None
    timezone: str = "UTC"
    env: Sequence[str] = ()


def deploy(request: DeploymentRequest) -> str:
    """Create or update a deployment, its work pool, its queue and the recovery of dead runs.

    Returns:
        The address of the Prefect server's API, which workers need.

    Raises:
        StageError: the server that the user named can't be used.
        UserError: there is no server or it refuses, a pool of that name has another type, or the
            schedule or `env` is malformed.
    """
    named = prepare_prefect()
    schedule = _schedule(request.cron, request.timezone)
    environment = _environment(request.env)
    if named:
        require_server(named)
    address = prefect_settings().api.url
    if not address:
        raise UserError(
            "a deployment needs a Prefect server that keeps running: start `fashion-flow ui` in "
            "another terminal, or name a server with PREFECT_API_URL."
        )
    deployment = _deployment(request, schedule, environment)
    address = without_password(address)
    with _explained(address):
        request.pool.ensure()
        _ensure_queue(request.pool.name, request.name)
        deployment.apply()
        set_up_recovery()
    return address


def _deployment(
    request: DeploymentRequest, schedule: Schedule | None, environment: dict[str, str]
) -> RunnerDeployment:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.build_model import build_model

    return RunnerDeployment.from_flow(
        build_model,
        request.name,
        # The package is installed where workers run: no code is uploaded or downloaded.
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name=request.pool.name,
        work_queue_name=request.name,
        parameters={
            "settings": request.settings.model_dump(mode="json"),
            "store": str(request.store.root),
            "require_success": request.require_success,
            "runner": request.runner.model_dump(mode="json"),
        },
        schedules=[schedule] if schedule else [],
        job_variables={"env": environment | ENVIRONMENT} | request.pool.job_variables(),
    )


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn the server's errors into messages that say what to do."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        found = f"{error.response.status_code} {error.response.reason_phrase}"
        raise UserError(
            f"the Prefect server {address} answers {found}; if it has a password, set "
            "PREFECT_API_AUTH_STRING=name:password."
        ) from None
    except httpx.HTTPError as error:
        raise UserError(
            f"no Prefect server answers at {address} ({first_line(error)}); start `fashion-flow "
            "ui`, or name a server with PREFECT_API_URL."
        ) from None


def _environment(given: Sequence[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    for name, equals, _ in pairs:
        # The message leaves out the value, which may be a secret.
        if not (name.isidentifier() and equals):
            raise UserError(f"--env {quoted(name)}: expected NAME=VALUE.")
    return {name: value for name, _, value in pairs}


def _schedule(cron: str | None, timezone: str) -> Schedule | None:
    from prefect.schedules import Cron

    if timezone not in available_timezones():
        raise UserError(
            f"time zone {quoted(timezone)}: expected a name such as Europe/Berlin or UTC."
        )
    try:
        return Cron(cron, timezone=timezone) if cron else None
    except ValueError:
        raise UserError(
            f"schedule {quoted(cron)}: expected minute, hour, day, month and weekday, e.g. '0 3 * "
            "* *' for every night at three."
        ) from None


def _ensure_queue(pool: str, name: str) -> None:
    """Ensure that the pool has a queue that starts one run at a time.

    A concurrency limit of the deployment itself would not work: it is a lease, and Prefect 3.8.8
    ends a run whose lease can't be renewed because the server is away or was restarted.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        try:
            client.create_work_queue(name, work_pool_name=pool, concurrency_limit=1)
        except ObjectAlreadyExists:
            found = client.read_work_queue_by_name(name, work_pool_name=pool)
            # `prefect deploy` creates queues without a limit. Any other limit was set on purpose.
            if found.concurrency_limit is None:
                client.update_work_queue(found.id, concurrency_limit=1)
