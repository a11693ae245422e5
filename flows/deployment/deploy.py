"""Deployments: the flow as workers run it, on a schedule, and taken up again where it died."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

import httpx

from flows.deployment.pools import Pool
from flows.runners.base import LOCAL, Runner
from flows.running.server_address import prepare_prefect
from tasks.core.errors import UserError, without_password
from tasks.core.settings.run_settings import Settings
from tasks.storage.store import Store

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore
    from prefect.schedules import Schedule

HEARTBEAT_S = 30
# A run is given up when it has not been heard of for so long. Heartbeats reach a server that was
# away about a minute after it is back; a server that is started anew is to cost no run.
SILENCE = timedelta(seconds=5 * HEARTBEAT_S)
# Time for a heartbeat of a run that was given up and lives, as after its server was away; and for
# the worker to be done with it, which ends when it is given the same run at once (Prefect 3.8.8).
REST = timedelta(seconds=1.5 * HEARTBEAT_S)
# What a run on a worker needs of its environment; the rest is the worker's own.
ENVIRONMENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    "PREFECT_LOGGING_EXTRA_LOGGERS": "fashion_flow",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "DO_NOT_TRACK": "1",
}
SILENT, AGAIN = "fashion-flow: no sign of life", "fashion-flow: take up again"
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")


def deploy(
    name: str,
    pool: Pool,
    settings: Settings,
    store: Store,
    *,
    require_success: bool = False,
    runner: Runner = LOCAL,
    cron: str | None = None,
    timezone: str = "UTC",
    env: Sequence[str] = (),
) -> str:
    """Create or renew a deployment, its work pool, and what takes dead runs up again.

    Args:
        name: the deployment's, and that of its queue in the pool.
        pool: the work pool; it is made where there is none.
        settings: those of its runs.
        store: that of its runs.
        require_success: whether a run fails where a success criterion is not met.
        cron: when it is run; never by itself where it is not given.
        timezone: that of `cron`.
        env: NAME=VALUE for the environment of its runs; a value may refer to a Prefect block.

    Returns:
        The address of the Prefect server's API, which workers need.

    Raises:
        UserError: there is no server or it refuses, a pool of that name is of another type, or the
            schedule or `env` can't be understood.
    """
    prepare_prefect()
    schedule, environment = _schedule(cron, timezone), _environment(env)
    from prefect.deployments.runner import RunnerDeployment
    from prefect.settings import get_current_settings
    from prefect.types.entrypoint import EntrypointType

    from flows.build_model import build_model

    address = get_current_settings().api.url
    if not address:
        raise UserError(
            "a deployment needs a Prefect server that stays: start `fashion-flow ui` in another "
            "terminal, or name one with PREFECT_API_URL."
        )
    deployment = RunnerDeployment.from_flow(
        build_model,
        name,
        # The package is installed where workers run: no code is sent or fetched.
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name=pool.name,
        work_queue_name=name,
        parameters={
            "settings": settings.model_dump(mode="json"),
            "store": str(store.root),
            "require_success": require_success,
            "runner": runner.model_dump(mode="json"),
        },
        schedules=[schedule] if schedule else [],
        job_variables={"env": environment | ENVIRONMENT} | pool.job_variables(),
    )
    address = without_password(address)
    with _answering(address):
        pool.ensure()
        _have_queue(pool.name, name)
        deployment.apply()
        _renew(automations())
    return address


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """Say what is wrong with the server."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        found = f"{error.response.status_code} {error.response.reason_phrase}"
        raise UserError(
            f"the Prefect server {address} answers {found}; one with a password wants "
            "PREFECT_API_AUTH_STRING=name:password."
        ) from None
    except httpx.HTTPError as error:
        raise UserError(f"no Prefect server answers at {address}: {error}") from None


def _environment(given: Sequence[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    for name, equals, _ in pairs:
        # The rest is not repeated: it may be a secret.
        if not (name.isidentifier() and equals):
            raise UserError(f"environment {name!r}: expected NAME=VALUE.")
    return {name: value for name, _, value in pairs}


def _schedule(cron: str | None, timezone: str) -> Schedule | None:
    from prefect.schedules import Cron

    if timezone not in available_timezones():
        raise UserError(f"time zone {timezone!r}: expected a name such as Europe/Berlin or UTC.")
    try:
        return Cron(cron, timezone=timezone) if cron else None
    except ValueError:
        raise UserError(
            f"schedule {cron!r}: expected minute, hour, day, month and weekday, e.g. '0 3 * * *' "
            "for three o'clock each night."
        ) from None


def _have_queue(pool: str, name: str) -> None:
    """Have a queue in the pool that gives out one run at a time: no run overlaps the next.

    A limit of the deployment itself is a lease, and Prefect 3.8.8 ends a run whose lease can't be
    renewed because the server is away or was started anew.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        try:
            client.create_work_queue(name, work_pool_name=pool, concurrency_limit=1)
        except ObjectAlreadyExists:
            found = client.read_work_queue_by_name(name, work_pool_name=pool)
            # One that `prefect deploy` made has none; another number is somebody's wish.
            if found.concurrency_limit is None:
                client.update_work_queue(found.id, concurrency_limit=1)


def automations() -> tuple[AutomationCore, ...]:
    """What tells dead runs from living ones, and what has dead runs of deployments run again.

    The first hears no heartbeat and no end for `SILENCE`, as when a machine was lost; a worker that
    lives says by itself that a process died. The second goes by either.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    def nothing_but(after: str, expect: set[str], within: timedelta) -> EventTrigger:
        return EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=[
                {"prefect.resource.role": "flow", "prefect.resource.name": "build-model"},
                # Others have no worker that would take them up.
                {"prefect.resource.role": "deployment"},
            ],
            for_each={"prefect.resource.id"},
            after={after},
            expect=expect,
            # One that reacts acts before its event is marked as seen: where SQLite is locked at
            # that moment, it acts up to four times.
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        )

    heartbeat = "prefect.flow-run.heartbeat"
    silent = AutomationCore(
        name=SILENT,
        description="Marks a run as crashed that has neither ended nor been heard of.",
        trigger=nothing_but(
            heartbeat, {heartbeat, *(f"prefect.flow-run.{state}" for state in FINAL)}, SILENCE
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"not heard of for {SILENCE.seconds} s: its process or machine is gone",
            )
        ],
    )
    again = AutomationCore(
        name=AGAIN,
        description="Has a run that crashed run again; it goes on where the store says it was.",
        # Whatever else is heard of the run: it lives, or somebody has taken care of it.
        trigger=nothing_but("prefect.flow-run.Crashed", {"prefect.flow-run.*"}, REST),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="taken up again; finished stages and epochs are in the store",
            )
        ],
    )
    return silent, again


def _renew(automations: tuple[AutomationCore, ...]) -> None:
    """Create them, or change those of their names to them."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for automation in automations:
            found = client.read_automations_by_name(automation.name)
            if found:
                client.update_automation(found[0].id, automation)
            else:
                client.create_automation(automation)
