"""Recovery of dead runs: automations on the Prefect server that detect and retry them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

HEARTBEAT_S = 30
# A run counts as dead after this time without a heartbeat. After an outage, heartbeats reach the
# server again about a minute after it is back; restarting the server must not cost a run.
SILENCE = timedelta(seconds=5 * HEARTBEAT_S)
# Time between a crash and the retry. It lets a run that was declared dead by mistake, e.g. after an
# outage of the server or because its process was suspended, send a heartbeat. It also lets the
# worker finish its clean-up: the worker of Prefect 3.8.8 ends if it is given a run that it has.
REST = timedelta(seconds=3 * HEARTBEAT_S)
# The names by which a deployment finds and updates its automations on the server.
SILENT, AGAIN = "fashion-flow: no sign of life", "fashion-flow: take up again"
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")


def set_up_recovery() -> None:
    """Create the automations on the server, or update those of the same names."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for automation in automations():
            found = client.read_automations_by_name(automation.name)
            if found:
                client.update_automation(found[0].id, automation)
            else:
                client.create_automation(automation)


def automations() -> tuple[AutomationCore, AutomationCore]:
    """The automation that marks silent runs as crashed, and the one that retries crashed runs.

    The first covers lost machines. If only the process of a run dies, its worker reports the crash
    itself. The second reacts to both.
    """
    return _silent(), _again()


def _silent() -> AutomationCore:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore

    heartbeat = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{state}" for state in FINAL}
    return AutomationCore(
        name=SILENT,
        description="Marks a run as crashed if it has neither ended nor sent a heartbeat.",
        trigger=_absence({heartbeat, *ends}, after=heartbeat, within=SILENCE),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {SILENCE.seconds} s: its process or machine is gone",
            )
        ],
    )


def _again() -> AutomationCore:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(
        name=AGAIN,
        description="Retries a run that crashed; it continues from what is in the store.",
        # Any other event means that the run is alive or that somebody has dealt with it.
        trigger=_absence({"prefect.flow-run.*"}, after="prefect.flow-run.Crashed", within=REST),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="retried; finished stages and epochs are in the store",
            )
        ],
    )


def _absence(expect: set[str], *, after: str, within: timedelta) -> EventTrigger:
    """A trigger that fires if none of `expect` follows the event `after` in time."""
    from prefect.events.schemas.automations import EventTrigger, Posture

    return EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=[
            {"prefect.resource.role": "flow", "prefect.resource.name": "build-model"},
            # Without a deployment, there is no worker that could retry the run.
            {"prefect.resource.role": "deployment"},
        ],
        for_each={"prefect.resource.id"},
        after={after},
        expect=expect,
        # A reactive trigger acts before its event is marked as seen. If SQLite is locked at that
        # moment, it acts up to four times.
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )
