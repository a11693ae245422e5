"""What a deployment consists of, and which requests are refused before a server is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.schemas.schedules import CronSchedule

from flows.deployment.deploy import (
    ENVIRONMENT,
    DeploymentRequest,
    _deployment,
    _environment,
    _explained,
    _schedule,
    deploy,
)
from flows.deployment.pools import Pool
from flows.recipe.presets import SMOKE
from flows.runners.base import Runner
from flows.running.server_address import PREFECT_DEFAULTS
from tasks.core.errors import UserError
from tasks.storage.store import Store

ADDRESS = "http://127.0.0.1:4200/api"


def requested(tmp_path: Path, **given: Any) -> DeploymentRequest:
    return DeploymentRequest("nightly", Pool("local"), SMOKE, Store(str(tmp_path)), **given)


def test_a_deployment_names_the_flow_its_parameters_and_its_queue(tmp_path: Path) -> None:
    request = requested(tmp_path, require_success=True, runner=Runner(kind="dask"))
    made = _deployment(request, _schedule("0 3 * * *", "Europe/Berlin"), {"KEY": "value"})
    assert (made.flow_name, made.name) == ("build-model", "nightly")
    assert made.entrypoint == "flows.build_model.build_model"
    assert (made.work_pool_name, made.work_queue_name) == ("local", "nightly")
    assert made.parameters == {
        "settings": SMOKE.model_dump(mode="json"),
        "store": str(tmp_path),
        "require_success": True,
        "runner": {"kind": "dask", "address": None},
    }
    assert made.job_variables == {"env": {"KEY": "value"} | ENVIRONMENT}
    assert made.schedules is not None
    (planned,) = made.schedules
    assert isinstance(planned.schedule, CronSchedule)
    assert (planned.schedule.cron, planned.schedule.timezone) == ("0 3 * * *", "Europe/Berlin")


def test_without_a_schedule_it_runs_only_on_demand(tmp_path: Path) -> None:
    assert _schedule(None, "UTC") is None
    assert not _deployment(requested(tmp_path), None, {}).schedules


def test_heartbeats_can_not_be_changed_by_the_environment(tmp_path: Path) -> None:
    name = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    made = _deployment(requested(tmp_path), None, {name: "3600"})
    assert made.job_variables["env"][name] == ENVIRONMENT[name]


def test_the_environment_keeps_everything_after_the_first_equals_sign() -> None:
    block = "{{ prefect.blocks.secret.word }}"
    assert _environment([f"WORD={block}", "PLAIN=a=b", "EMPTY="]) == {
        "WORD": block,
        "PLAIN": "a=b",
        "EMPTY": "",
    }


@pytest.mark.parametrize("item", ["=open sesame", "NAME", "not a name=open sesame", ""])
def test_a_malformed_variable_is_refused_without_showing_its_value(item: str) -> None:
    with pytest.raises(UserError, match="expected NAME=VALUE") as caught:
        _environment([item])
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("cron", "timezone", "said"),
    [
        ("at dawn", "UTC", "schedule 'at dawn': expected minute, hour"),
        ("0 3 * * *", "Mars", "time zone 'Mars': expected a name"),
        (None, "Mars", "time zone 'Mars': expected a name"),
    ],
)
def test_a_wrong_schedule_is_refused(cron: str | None, timezone: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        _schedule(cron, timezone)


def test_a_deployment_without_a_server_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    # Set here, so that they are unset again after the test.
    for name, value in PREFECT_DEFAULTS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(UserError, match="fashion-flow ui"),
    ):
        deploy(requested(tmp_path / "store"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            httpx.ConnectError("refused"),
            rf"at {ADDRESS} \(refused\); start",
        ),
        (
            httpx.HTTPStatusError(
                "401", request=httpx.Request("GET", ADDRESS), response=httpx.Response(401)
            ),
            f"the Prefect server {ADDRESS} answers 401 Unauthorized; .*PREFECT_API_AUTH_STRING",
        ),
    ],
)
def test_errors_of_the_server_are_explained(error: Exception, said: str) -> None:
    with pytest.raises(UserError, match=said), _explained(ADDRESS):
        raise error
