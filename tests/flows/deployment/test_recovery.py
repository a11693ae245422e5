"""The automations that notice dead runs and retry them."""

from __future__ import annotations

import pytest
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from flows.deployment.deploy import ENVIRONMENT
from flows.deployment.recovery import AGAIN, HEARTBEAT_S, REST, SILENCE, SILENT, automations


def trigger_of(automation: AutomationCore) -> EventTrigger:
    assert isinstance(automation.trigger, EventTrigger)
    return automation.trigger


def test_runs_send_the_heartbeats_whose_absence_is_noticed() -> None:
    silent, _ = automations()
    trigger = trigger_of(silent)
    assert ENVIRONMENT["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT_S)
    assert trigger.after == {"prefect.flow-run.heartbeat"}
    assert trigger.within == SILENCE
    assert SILENCE.seconds >= 3 * HEARTBEAT_S, "one lost heartbeat costs no run"


@pytest.mark.parametrize("state", ["Completed", "Failed", "Cancelled", "Crashed"])
def test_a_run_that_ended_is_not_silent(state: str) -> None:
    silent, _ = automations()
    assert f"prefect.flow-run.{state}" in trigger_of(silent).expect


def test_a_crashed_run_is_retried_unless_anything_else_happens_to_it() -> None:
    _, again = automations()
    trigger = trigger_of(again)
    assert trigger.after == {"prefect.flow-run.Crashed"}
    assert trigger.expect == {"prefect.flow-run.*"}
    assert trigger.within == REST
    assert REST.seconds > HEARTBEAT_S, "a run that is alive has time for a heartbeat"
    # So has one whose process was suspended for 160 s after a heartbeat that was almost due.
    assert (SILENCE + REST).seconds > HEARTBEAT_S + 160 + HEARTBEAT_S


def test_the_first_crashes_a_run_and_the_second_schedules_it() -> None:
    found = [automation.actions[0].model_dump()["state"] for automation in automations()]
    assert found == [StateType.CRASHED, StateType.SCHEDULED]


def test_a_run_that_has_ended_stays_as_it_ended() -> None:
    """Without force, the server lets no run crash that has ended, e.g. on its last heartbeat."""
    assert [automation.actions[0].model_dump()["force"] for automation in automations()] == [
        False,
        False,
    ]


def test_names_are_those_by_which_servers_know_them() -> None:
    # Under other names, a server would keep the old automations and retry each run twice.
    assert (SILENT, AGAIN) == ("fashion-flow: no sign of life", "fashion-flow: take up again")
    assert [automation.name for automation in automations()] == [SILENT, AGAIN]


def test_only_runs_of_this_flow_with_a_deployment_are_touched() -> None:
    for automation in automations():
        trigger = trigger_of(automation)
        assert trigger.posture is Posture.Proactive
        assert trigger.model_dump(mode="json")["match_related"] == [
            {"prefect.resource.role": "flow", "prefect.resource.name": "build-model"},
            {"prefect.resource.role": "deployment"},
        ]
