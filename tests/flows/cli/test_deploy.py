"""`fashion-flow deploy` with networks of one's own: where their files are, what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.app import main
from flows.deployment.deploy import DeploymentRequest
from flows.deployment.pools import WORK
from flows.recipe.own_code import functions_of
from tests.own_nets import written

VARIABLE = "FASHION_FLOW_ALLOW_FUNCTIONS"
CONTAINER = ["--type", "docker", "--image", "fashion-flow:1", "--store", "s3://bucket/store"]
PLAN = """
[[iteration]]
name = "mine"
change = { "network.function" = "nets/more.py:build" }
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[DeploymentRequest]:
    """What the server would be asked for."""
    requests: list[DeploymentRequest] = []

    def deployed(request: DeploymentRequest) -> str:
        requests.append(request)
        return "http://127.0.0.1:4200/api"

    monkeypatch.setattr("flows.cli.deploy.deployed", deployed)
    return requests


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The lines with the variable that `deploy` prints, without their purposes."""
    assert main(["deploy", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.strip().partition("  ")[0] for line in lines if VARIABLE in line]


@pytest.mark.usefixtures("asked")
def test_workers_of_a_process_pool_must_allow_the_folders_of_files_or_any_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    written(tmp_path / "vision")
    (tmp_path / "vision" / "more.py").write_text("def build(input_shape, classes): ...")
    store = ["--store", str(tmp_path / "store"), "--dataset", "synthetic"]
    file = f"overfitting.network.function={tmp_path}/vision/nets.py:build"
    module = "low_capacity.network.function=vision.more:build"
    assert printed(capsys, *store) == []
    found = printed(capsys, *store, "--set", "plan=[]", "--set", file)
    assert found == [f"export {VARIABLE}={tmp_path}/vision"]
    for functions in ([module], [file, module]):
        settings = [part for each in functions for part in ("--set", each)]
        assert printed(capsys, *store, "--set", "plan=[]", *settings) == [f"export {VARIABLE}=1"]
    given = ["--env", f"{VARIABLE}=1"]
    assert printed(capsys, *store, "--set", "plan=[]", "--set", file, *given) == []


def test_containers_get_the_variable_from_the_deployment_and_paths_of_their_own(
    asked: list[DeploymentRequest],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "plans" / "plan.toml"
    plan.parent.mkdir()
    plan.write_text(PLAN)
    settings = ["--plan", "plans/plan.toml", "--dataset", "data"]
    function = ["--set", "overfitting.network.function=mine.py:build"]
    found = printed(capsys, "nightly", *CONTAINER, *settings, *function)
    assert found == [f"fashion-flow deploy nightly --env {VARIABLE}={WORK}:{WORK}/nets"]
    (request,) = asked
    assert request.settings.dataset == f"{WORK}/data"
    assert functions_of(request.settings) == [f"{WORK}/mine.py:build", f"{WORK}/nets/more.py:build"]
    absolute = ["--set", "overfitting.network.function=/nets/mine.py:build", "--set", "plan=[]"]
    found = printed(capsys, "nightly", *CONTAINER, *absolute)
    assert found == [f"fashion-flow deploy nightly --env {VARIABLE}=/nets"]
