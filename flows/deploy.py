"""Deployments: the flow as workers run it, on a schedule, and taken up again where it died."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

from flows.pools import Pool
from flows.runner import LOCAL, Runner
from flows.server import prepare_prefect
from tasks.core.errors import UserError
from tasks.core.settings import Settings
from tasks.store import Store

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore
    from prefect.schedules import Schedule

HEARTBEAT_S = 30
# A run is given up when it has not been heard of for three heartbeats.
SILENCE = timedelta(seconds=3 * HEARTBEAT_S)
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
) -> str:
    """Create or renew a deployment, its work pool, and what takes dead runs up again.

    Returns:
        The address of the Prefect server's API, which workers need.

    Raises:
        UserError: there is no server, a pool of that name is of another type, or the schedule can't
            be understood.
    """
    prepare_prefect()
    schedule = _schedule(cron, timezone)
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
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
    pool.ensure()
    deployment = RunnerDeployment.from_flow(
        build_model,
        name,
        # The package is installed where workers run: no code is sent or fetched.
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name=pool.name,
        parameters={
            "settings": settings.model_dump(mode="json"),
            "store": str(store.root),
            "require_success": require_success,
            "runner": runner.model_dump(mode="json"),
        },
        schedules=[schedule] if schedule else [],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        job_variables={"env": ENVIRONMENT} | pool.job_variables(),
    )
    deployment.apply()
    _renew(automations())
    return str(address)


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


def automations() -> tuple[AutomationCore, ...]:
    """What tells dead runs from living ones, and what has dead runs of deployments run again.

    The first hears no heartbeat and no end for `SILENCE`, as when a machine was lost; a worker that
    lives says by itself that a process died. The second goes by either.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    def trigger(**values: Any) -> EventTrigger:
        return EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=[
                {"prefect.resource.role": "flow", "prefect.resource.name": "build-model"},
                # Others have no worker that would take them up.
                {"prefect.resource.role": "deployment"},
            ],
            for_each={"prefect.resource.id"},
            threshold=1,
            **values,
        )

    heartbeat = "prefect.flow-run.heartbeat"
    silent = AutomationCore(
        name=SILENT,
        description="Marks a run as crashed that has neither ended nor been heard of.",
        trigger=trigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{state}" for state in FINAL)},
            posture=Posture.Proactive,
            within=SILENCE,
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
        trigger=trigger(
            expect={"prefect.flow-run.Crashed"}, posture=Posture.Reactive, within=timedelta(0)
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="taken up again; finished stages and epochs are in the store",
                force=True,
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
